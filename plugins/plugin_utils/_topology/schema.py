# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The topology language as a JSON schema. Its descriptions are the reference documentation."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._lab.bootstrap import BOOTSTRAP_SPEC
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_options import (
    NIC_SPEC,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disk_options import (
    DISK_SPEC,
    FORMATS,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import SETTINGS_SPEC
from ansible_collections.vlab.qemu.plugins.module_utils._wire import switching
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import impairments, vlans

Schema = dict[str, Any]

# Where scripts/topology_schema.py's file is published, and the line of a topology that names it
# for editors.
URL = "https://raw.githubusercontent.com/vlab/qemu/main/docs/schema/topology.json"
EDITOR_LINE = "# yaml-language-server: $schema=" + URL

# Options of qemu_vm that kinds, defaults and groups do not accept: nodes cannot share them, or
# other settings stand for them. A node accepts uuid.
_NOT_OF_NODES = ("nics", "uuid", "mac_copy_from", "config_drive", "tftp_files", "autostart")

# In Python, $ also matches before a line feed at the end.
NAME: Schema = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$(?!\n)"}
_NIC_NAME: Schema = {
    "type": "string",
    "pattern": r"^[^\s:,/.\x00-\x1f\x7f][^\s:,/\x00-\x1f\x7f]*(/[^\s:,/\x00-\x1f\x7f]+)*$(?!\n)",
    "maxLength": 60,
}
_INTERFACE = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$(?!\n)"
_NAME_PATTERN = r"\{n\}"
# What a message says about a string that does not match a pattern.
NAME_RULES = {
    _INTERFACE: "use letters, digits, periods, hyphens and underscores, 15 at most",
    NAME["pattern"]: "use letters, digits, hyphens and underscores, 63 at most, and begin with "
    "a letter or digit",
    _NIC_NAME["pattern"]: "use 60 characters at most, without spaces, commas and colons",
    _NAME_PATTERN: "it must contain {n} for the number",
}

_AS_NUMBER: Schema = {"type": "integer", "minimum": 1, "maximum": 4294967295}
_SIZE: Schema = {"type": ["integer", "string"]}
_VARS: Schema = {"type": "object", "description": "Any data, for templates."}


def _prefix(description: str) -> Schema:
    return {"type": "string", "description": description}


def _own_prefix(description: str) -> Schema:
    return {"type": ["string", "boolean"], "description": description + "; false for none."}


_SHARED: Schema = dict(
    NAME,
    description="Name of an IP network that several links and segments share, such as a VLAN that "
    "routers bridge: they have the same prefixes, and each NIC an address of its own. Without a "
    "prefix, it comes from addressing.lans.",
)


_CONTENT: Schema = {
    "oneOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                "template": {
                    "type": "string",
                    "description": "Path of a template on the controller. Templates are code that "
                    "runs on the controller.",
                },
                "src": {
                    "type": "string",
                    "description": "Path of a file on the controller, which is copied unchanged.",
                },
                "base64": {"type": "string", "description": "The content of a binary file."},
            },
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
        },
    ]
}

_READY: Schema = {
    "type": "object",
    "description": "Conditions for a node to be ready. All that are set must be met, in this "
    "order.",
    "properties": {
        "console": {
            "type": "string",
            "description": "A regular expression that must match the console log.",
        },
        "failed": {
            "type": "string",
            "description": "A regular expression. If it matches the console log, the node has "
            "failed to start.",
        },
        "agent": {"type": "boolean", "description": "The guest agent must answer."},
        "port": {
            "type": "integer",
            "minimum": 1,
            "maximum": 65535,
            "description": "A forwarded port of the guest that must accept connections.",
        },
        "ssh": {
            "type": "boolean",
            "description": "If a link forwards port 22 of the guest, it must accept connections.",
        },
        "command": {
            "type": "string",
            "description": "A shell command that the guest agent runs and that must exit with 0.",
        },
        "timeout": {
            "type": "integer",
            "minimum": 1,
            "description": "Seconds to wait for all conditions; 300 by default.",
        },
        "hint": {
            "type": "string",
            "description": "What to check if the node does not become ready, for the error "
            "message.",
        },
    },
    "additionalProperties": False,
}

_FILES: Schema = {
    "type": "object",
    "description": "Files of the node's config drive, or that it fetches by TFTP, by name: their "
    "content as text or base64, or a template (template) or file (src) on the controller.",
    "additionalProperties": _CONTENT,
}

_EXEC: Schema = {
    "type": "array",
    "items": {"type": "string", "minLength": 1},
    "description": "Commands that are run once the node is ready, one after the other: once, and "
    "again if they change. The guest agent runs them in a shell; without one, they are typed on "
    "the console. They have the placeholders of `vm` in kinds.",
}

_POSITION: Schema = {
    "type": "object",
    "description": "Where pictures place it, if every node has a position of its own: {x: 0, y: "
    "100}, to the right and downwards in any unit.",
    "properties": {
        key: {"type": "number", "minimum": -1000000, "maximum": 1000000, "description": text}
        for key, text in (("x", "To the right."), ("y", "Downwards."))
    },
    "required": ["x", "y"],
    "additionalProperties": False,
}

_ADDRESS: Schema = {
    "type": ["string", "array"],
    "items": {"type": "string"},
    "description": "Addresses with their prefix lengths.",
}
# Suboptions of links that all nodes can have on their management NICs.
_MANAGEMENT_LINK = {
    "network": "user: the IPv4 network; 10.0.2.0/24 by default.",
    "dns": "user: the address of the name server.",
    "dns_search": "user: domains to search for names.",
    "domain": "user: the domain of the nodes.",
    "restrict": "user: keep the nodes from other networks; forwarded ports still work.",
    "ipv6": "user: whether the network has IPv6.",
    "bridge": "bridge: the name of the bridge.",
    "helper": "bridge: the path of QEMU's helper program.",
}
# The name of a node's NIC determines its index.
_NOT_OF_NICS = ("index",)
# Where the suboptions of a NIC differ from those of qemu_vm's nics.
_NIC_OVERRIDES: dict[str, Schema] = {
    "model": {"type": "string", "description": "NIC model; that of the kind by default."},
    "mac": {
        "type": "string",
        "description": "MAC address; derived from lab, node and NIC by default.",
    },
    "capture": {"type": ["object", "boolean"]},
    "link": {
        "description": "A link to the outside instead of one of the lab; see qemu_vm, nics[].link.",
    },
}

_ENDPOINT: Schema = {
    "description": "NODE:NIC, or NODE for its next free NIC, or a mapping.",
    "oneOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                "node": dict(NAME, description="The node."),
                "nic": dict(
                    _NIC_NAME, description="The NIC of the node; the next free one by default."
                ),
                "address": dict(
                    _ADDRESS,
                    description="Addresses of the NIC; from the prefix of the link or segment "
                    "by default.",
                ),
                "impair": impairments.schema(
                    "What becomes of the frames that this end sends, instead of the impairment of "
                    "the link. For members of a segment, it needs a hub."
                ),
            },
            "required": ["node"],
            "additionalProperties": False,
        },
    ],
}

# A member of a segment: an endpoint, or another switch.
_MEMBER: Schema = {
    "description": "NODE:NIC, or NODE for its next free NIC, or a mapping.",
    "oneOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                **_ENDPOINT["oneOf"][1]["properties"],
                "segment": dict(
                    NAME,
                    description="Instead of a node: another switch that this switch is connected "
                    "with. The VLANs are those of both ends, all by default. It is enough that one "
                    "of the two switches names the other.",
                ),
                "impair_received": impairments.schema(
                    "What becomes of the frames that the node receives from the segment, which is "
                    "a switch."
                ),
                **vlans.VLANS,
            },
            "additionalProperties": False,
        },
    ],
}

_LINK: Schema = {
    "type": "object",
    "description": "A cable between two NICs.",
    "properties": {
        "endpoints": {
            "type": "array",
            "items": _ENDPOINT,
            "minItems": 2,
            "maxItems": 2,
            "description": "The two ends.",
        },
        "name": {
            "type": "string",
            "description": "A name for messages; NODE:NIC--NODE:NIC by default.",
        },
        "prefix": _own_prefix("IPv4 network of the link; from addressing.links by default"),
        "prefix6": _own_prefix("IPv6 network of the link; from addressing.links6 by default"),
        "network": _SHARED,
        "down": {"type": "boolean", "description": "Turn off the carrier of both ends."},
        "impair": impairments.schema(
            "What becomes of the frames in both directions: the name of a preset, or a mapping "
            "such as {delay: 20ms, loss: 1%}; see impairment.md."
        ),
        "capture": {
            "type": ["object", "boolean"],
            "description": "Capture the frames of the link at its first end.",
        },
        "vars": _VARS,
    },
    "required": ["endpoints"],
    "additionalProperties": False,
}

_SEGMENT: Schema = {
    "type": "object",
    "description": "A network of any number of NICs.",
    "properties": {
        "members": {
            "type": "array",
            "items": _MEMBER,
            "minItems": 1,
            "description": "The NICs of the segment.",
        },
        "type": {
            "enum": ["hub", "switch", "bridge"],
            "description": "hub: a QEMU process without a machine; switch: a process that learns "
            "addresses and has VLANs; bridge: a Linux bridge, which needs root and a single "
            "hypervisor.",
        },
        "prefix": _own_prefix("IPv4 network of the segment; from addressing.lans by default"),
        "prefix6": _own_prefix("IPv6 network of the segment; from addressing.lans6 by default"),
        "network": _SHARED,
        "bridge": {
            "type": "string",
            "pattern": _INTERFACE,
            "description": "Name of the Linux bridge; derived from lab and segment by default.",
        },
        "hypervisor": {
            "type": "string",
            "description": "Where the hub or switch runs; where most members are by default.",
        },
        "uplink": {
            "type": "object",
            "properties": vlans.UPLINK,
            "additionalProperties": False,
            "description": "Connect a hub or switch with the network of the hypervisor that it "
            "runs on.",
        },
        "ageing": {
            "type": "integer",
            "minimum": 1,
            "maximum": switching.MAX_AGEING,
            "description": "Of a switch: seconds after which it forgets an address that sends "
            "nothing; 300 by default.",
        },
        "description": {"type": "string", "description": "A note, for pictures."},
        "position": _POSITION,
        "vars": _VARS,
    },
    "required": ["members"],
    "additionalProperties": False,
}

_ADDRESSING: Schema = {
    "type": "object",
    "description": "Pools to assign addresses from. What is assigned is kept; the order in the "
    "file does not matter.",
    "properties": {
        "loopback": _prefix("IPv4 loopbacks, one address for each node."),
        "loopback6": _prefix("IPv6 loopbacks, one address for each node."),
        "links": _prefix("IPv4 networks of links."),
        "links6": _prefix("IPv6 networks of links, each a /64."),
        "link_length": {
            "type": "integer",
            "enum": [24, 29, 30, 31],
            "description": "Prefix length of a link's IPv4 network; 30 by default.",
        },
        "lans": _prefix("IPv4 networks of segments."),
        "lans6": _prefix("IPv6 networks of segments, each a /64."),
        "lan_length": {
            "type": "integer",
            "minimum": 8,
            "maximum": 30,
            "description": "Prefix length of a segment's IPv4 network; 24 by default.",
        },
        "management": _prefix("Management addresses, one for each node."),
        "ipv6": {
            "type": "boolean",
            "description": "Assign IPv6 addresses as well. Where no pool is given, they come "
            "from a /48 within fd00::/8 that is derived from the lab's name.",
        },
        "asn": dict(_AS_NUMBER, description="The first AS number; nodes are numbered from it."),
    },
    "additionalProperties": False,
}

_MANAGEMENT: Schema = {
    "description": "A network for the management NICs of all nodes, which no link or segment "
    "connects: true for a user network that forwards port 22 of each node. Nodes of kinds without "
    "a management NIC get the NIC mgmt, unless their system names NICs by their slots, or they "
    "have another link to the outside. In nics of a node, another link takes its place.",
    "oneOf": [
        {"type": "boolean"},
        {
            "type": "object",
            "properties": {
                "type": {
                    "enum": ["user", "bridge"],
                    "description": "user: a network of its own for each node, inside QEMU; bridge: "
                    "a bridge of the hypervisor.",
                },
                "forwards": {
                    "type": "array",
                    "items": {"oneOf": [{"type": "integer"}]},
                    "description": "Ports of the nodes to forward from free ports of the "
                    "hypervisor: numbers, or mappings as in qemu_vm, nics[].link.forwards; [22] by "
                    "default.",
                },
            },
            "additionalProperties": False,
        },
    ],
}

_KIND_NIC: Schema = {
    "type": "object",
    "description": "The NICs of the system.",
    "properties": {
        "model": {"type": "string", "description": "NIC model; virtio-net-pci by default."},
        "models": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Other NIC models of single NICs, by name.",
        },
        "name": {
            "type": "string",
            "pattern": _NAME_PATTERN,
            "description": "Names of data NICs, with {n} for the number; eth{n} by default. With "
            "{slot}, the numbers begin again in each slot.",
        },
        "per_slot": {
            "type": "integer",
            "minimum": 1,
            "maximum": 250,
            "description": "How many data NICs a slot has, for {slot} in their names, such as 4 "
            "for GigabitEthernet{slot}/{n}. The first slot is 0.",
        },
        "first": {
            "type": "integer",
            "minimum": 0,
            "maximum": 1000,
            "description": "Number of the first data NIC; 1 by default.",
        },
        "management": {
            "type": ["string", "array"],
            "items": {"type": "string"},
            "description": "NICs before the data NICs; a node always has them.",
        },
        "max": {
            "type": "integer",
            "minimum": 0,
            "maximum": 250,
            "description": "How many data NICs the system supports; 250 by default.",
        },
        "min": {
            "type": "integer",
            "minimum": 0,
            "maximum": 250,
            "description": "How many data NICs the system needs at least.",
        },
        "fill_slots": {
            "type": "boolean",
            "description": "The system names NICs by their slots: each NIC uses the slot of its "
            "number, and unconnected NICs fill the gaps.",
        },
        "block_size": {
            "type": "integer",
            "minimum": 1,
            "maximum": 250,
            "description": "Create data NICs in blocks of this size, at least one more than "
            "there are links. The spare ones are not connected, and take a link that is added "
            "while the node runs.",
        },
    },
    "additionalProperties": False,
}

_KIND_CONFIG: Schema = {
    "type": "object",
    "properties": {
        "delivery": {
            "enum": ["drive", "tftp"],
            "description": "How the system gets its files: on a config drive, or by TFTP on the "
            "user link of its management NIC; drive by default.",
        },
        "dhcp_options": {
            "type": "object",
            "additionalProperties": {"type": ["string", "integer"]},
            "description": "DHCP options on this link, by code, with delivery tftp: as "
            "dhcp_options of a link. In strings, `{tftp}` is the address of the TFTP server, "
            "`{address}` that of the system with its prefix length, and `{file}` the key file.",
        },
        "boot": {
            "type": "string",
            "description": "What `{boot}` in `vm` stands for if there are files, with delivery "
            "tftp; its strings have the same placeholders as dhcp_options.",
        },
        "label": {
            "type": "string",
            "description": "Label of the config drive's file system.",
        },
        "format": {
            "enum": ["iso", "fat"],
            "description": "File system of the drive; iso by default.",
        },
        "bus": {
            "enum": ["virtio", "scsi", "ide", "sata", "usb"],
            "description": "Bus of the drive; virtio by default.",
        },
        "file": {
            "type": "string",
            "description": "Name of the file with the node's config.",
        },
        "addresses": {
            "enum": ["none", "shell", "cloud_init"],
            "description": "shell: addresses.sh on the drive sets addresses, interfaces names "
            "NICs. cloud_init: the files of a NoCloud seed.",
        },
        "ssh_keys": {
            "type": "string",
            "description": "Name of the file with the SSH keys in the var ssh_keys.",
        },
    },
    "additionalProperties": False,
    "description": "How the system gets its first configuration without a console.",
}

# Descriptions of what the script of a kind has besides the options of qemu_console, or has with
# another default.
_OF_BOOTSTRAP = {
    "timeout": "Seconds for each step; 60 by default.",
    "console": "The console to type on; the first one by default.",
    "again": "When to type again what was typed before. never: not as long as the VM exists; "
    "change: if the steps or the config have changed; boot: at each boot, for systems that forget "
    "it. never by default.",
}

_RUNNING_CONFIG: Schema = {
    "type": "object",
    "description": "How the system shows its running configuration, for the action save_config of "
    "the role lab.",
    "properties": {
        "command": {
            "type": "string",
            "minLength": 1,
            "description": "The command that shows the configuration.",
        },
        "before": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Commands to type before it on a console, such as one that turns off "
            "paging.",
        },
        "omit": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Regular expressions of lines that are not part of the configuration.",
        },
        "volatile": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Regular expressions of lines that can differ although the "
            "configuration is the same, such as the time of the last change.",
        },
        "source": {"type": "string", "description": "Where these facts come from."},
    },
    "required": ["command"],
    "additionalProperties": False,
}

_WARM: Schema = {
    "enum": [True, False, "auto"],
    "description": "Whether a node starts from a template, a booted guest that is saved once on "
    "each hypervisor, instead of booting. auto: if the template exists, or at least three nodes "
    "share it. Only guests of the role guest_image can: see docs/warm_start.md.",
}

_KIND: Schema = {
    "type": "object",
    "description": "A reusable node type: data, not code.",
    "properties": {
        "description": {"type": "string", "description": "A sentence that describes the kind."},
        "extends": {"type": "string", "description": "The kind that this one is based on."},
        "aliases": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Other names of a kind of the collection, as other tools have them.",
        },
        "modules": {
            "description": "The other VMs of a system of several, such as line cards, each with "
            "the keys of a kind. Links to their data NICs are links of the node.",
        },
        "internal": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Links between the NICs of the node itself and of its modules, each as "
            "NIC -- MODULE:NIC. More than two NICs share a segment.",
        },
        "appliance": {
            "type": "string",
            "minLength": 1,
            "description": "The file of a GNS3 appliance (.gns3a) on the controller, found like "
            "`src` of files. The other keys of the kind change what it says.",
        },
        "version": {
            "type": "string",
            "description": "The version of the appliance; the first in the file by default.",
        },
        "image": {
            "type": "string",
            "description": "Name of the image in the option images of qemu_lab, or the path of a "
            "disk image on the hypervisor; the name of the kind by default. A kind whose `vm` has "
            "a kernel or a disk root needs none.",
        },
        "vm": {
            "type": "object",
            "description": "Options of qemu_vm. In strings, `{name}`, `{lab}`, `{uuid}`, "
            "`{management}`, `{loopback}` and `{vars.NAME}` are replaced by the values of the "
            "node, and `{boot}` by boot of config.",
        },
        "vars": {"type": "object", "description": "Defaults of the vars of nodes."},
        "disk": {
            "type": "object",
            "description": "Settings of the root disk besides its image: suboptions of disks "
            "of qemu_vm.",
        },
        "nic": _KIND_NIC,
        "files": _FILES,
        "config": _KIND_CONFIG,
        "bootstrap": {
            "type": "object",
            "description": "A script on the console that configures the system the first time, "
            "after it has started and before ready. Its strings have the placeholders of `vm`, and "
            "`{config}`, the config of the node; see kinds.md.",
        },
        "exec": _EXEC,
        "running_config": _RUNNING_CONFIG,
        "ready": _READY,
        "warm": _WARM,
        "facts": {
            "type": "object",
            "description": "Other facts about the system. The inventory uses ansible_network_os, "
            "user, python (the interpreter), new_host_keys (at each boot) and sftp.",
        },
    },
    "additionalProperties": False,
}

# What modules of a kind do not have: they are part of a node.
_NOT_OF_MODULES = (
    "aliases",
    "appliance",
    "version",
    "modules",
    "internal",
    "running_config",
    "facts",
)

_PLACEMENT: Schema = {
    "type": "object",
    "additionalProperties": False,
    "description": "Which hypervisor each node runs on.",
    "properties": {
        "policy": {
            "enum": ["pack", "spread", "memory"],
            "description": "pack: on as few hypervisors as possible; spread: the same number "
            "of nodes on each; memory: on the one with most free memory.",
        },
        "hypervisors": {
            "type": "array",
            "items": {"type": "string"},
            "description": "The hosts to use; those of the play by default.",
        },
    },
}

_LIMITS: Schema = {
    "type": "object",
    "additionalProperties": False,
    "description": "Limits of the load on a hypervisor.",
    "properties": {
        "booting": {
            "type": "integer",
            "minimum": 1,
            "description": "How many nodes may boot at the same time on a hypervisor.",
        },
        "memory_overcommit": {
            "type": "number",
            "minimum": 0.1,
            "description": "Nodes may use the free memory times this factor; 1 by default.",
        },
        "vcpu_ratio": {
            "type": "number",
            "minimum": 0.1,
            "description": "Virtual CPUs for each CPU of the host; no limit by default.",
        },
    },
}


_BOOTSTRAP: Schema = {
    "type": "boolean",
    "description": "Whether the bootstrap of the kind is typed on the console. By default it is, "
    "unless the kind reads its config from a drive, or the bootstrap types the config and the node "
    "has none.",
}


def _settings() -> dict[str, Schema]:
    """Return the settings that defaults, groups and nodes have in common."""
    return dict(
        vm_options(),
        kind={"type": "string", "description": "Kind of the node."},
        image={
            "type": "string",
            "description": "Name of an image, or the path of a disk image on the hypervisor.",
        },
        hypervisor={
            "type": "string",
            "description": "The inventory host that the node runs on. A running node that is on "
            "another one is an error, or migrated with allow_migration.",
        },
        shutdown=dict(
            _of_argument(SETTINGS_SPEC["shutdown"]),
            description="How the node is stopped; see the option of qemu_lab, of which each value "
            "that is not given here is used.",
        ),
        state={
            "enum": ["started", "stopped", "paused", "present"],
            "description": "State of the node while the lab is started.",
        },
        after={
            "description": "Nodes that must be started or ready before this one starts.",
            "oneOf": [
                {"type": "array", "items": NAME},
                {"type": "object", "additionalProperties": {"enum": ["started", "ready"]}},
            ],
        },
        ready=_READY,
        warm=_WARM,
        files=_FILES,
        config=dict(
            _CONTENT,
            description="First configuration, for kinds that read one from a drive, fetch it by "
            "TFTP or have a bootstrap: the content, or a template or file on the controller.",
        ),
        bootstrap=_BOOTSTRAP,
        exec=_EXEC,
        set_addresses={
            "type": "boolean",
            "description": "Whether the config drive sets the addresses of the node, in addition "
            "to its config; true by default.",
        },
        nic_model={"type": "string", "description": "Model of the NICs."},
        vars={"type": "object", "description": "Any data, for templates and conditions."},
    )


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


def _own_address(description: str) -> Schema:
    return {"type": ["string", "boolean"], "description": description}


def _node_settings() -> dict[str, Schema]:
    return dict(
        _settings(),
        groups={
            "type": "array",
            "items": NAME,
            "description": "Groups whose settings the node has; later ones take precedence.",
        },
        loopback=_own_address("IPv4 loopback; false for none."),
        loopback6=_own_address("IPv6 loopback; false for none."),
        management=_own_address("Management address; false for none."),
        uuid={
            "type": "string",
            "description": "UUID of the VM, to which licences are often bound: one, derived from "
            "lab and node (the default), or random.",
        },
        asn=dict(_AS_NUMBER, description="AS number."),
        label=_text("What pictures call the node, any text, before its name."),
        modules=_named(
            _object(dict(vm_options(), image=_settings()["image"], ready=_READY, vars=_VARS)),
            "Settings of the modules that its kind has, by name. Those of the node are for its own "
            "VM, except hypervisor, state and shutdown; those of defaults and groups for all.",
        ),
        position=_POSITION,
        nics={
            "type": "object",
            "additionalProperties": _node_nic(),
            "propertyNames": _NIC_NAME,
            "description": "NICs by name.",
        },
    )


def _group_settings() -> dict[str, Schema]:
    return dict(
        _settings(),
        members={"type": "array", "items": NAME, "description": "Nodes of the group."},
        asn=dict(_AS_NUMBER, description="AS number."),
        **{
            key: {"type": "boolean", "description": "false: the nodes have none."}
            for key in ("loopback", "loopback6", "management")
        },
    )


def _object(properties: Mapping[str, Schema], **more: Any) -> Schema:
    """Return the schema of a mapping with these keys only."""
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def _named(schema: Schema, description: str, **more: Any) -> Schema:
    """Return the schema of a mapping of names to values with this schema."""
    return {
        "type": "object",
        "propertyNames": NAME,
        "additionalProperties": schema,
        "description": description,
        **more,
    }


@functools.lru_cache(maxsize=None)
def topology_schema() -> Schema:
    """Return the schema of a topology file, with the options of qemu_vm in nodes."""
    properties = {
        "name": dict(NAME, description="Name of the lab."),
        "title": _text("Title of the lab in pictures, any text; the name by default."),
        "defaults": _object(_settings(), description="Settings of all nodes."),
        "kinds": _named(
            kind_schema(), "Kinds of this lab, in addition to those of the collection."
        ),
        "groups": _named(_object(_group_settings()), "Settings of several nodes."),
        "nodes": _named(
            {"oneOf": [{"type": "null"}, _object(_node_settings())]},
            "The nodes by name.",
            minProperties=1,
        ),
        "links": {
            "type": "array",
            "description": "The links, each in the short form NODE:NIC -- NODE:NIC or as a "
            "mapping.",
            "items": {"oneOf": [{"type": "string"}, _link()]},
        },
        "segments": _named(_SEGMENT, "Networks of any number of NICs."),
        "addressing": _ADDRESSING,
        "management": _management(),
        "placement": _PLACEMENT,
        "limits": _LIMITS,
        "vars": _VARS,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A network lab",
        **_object(properties, required=["name", "nodes"]),
    }


@functools.lru_cache(maxsize=None)
def images_schema() -> Schema:
    """Return the schema of the option images of qemu_lab."""
    path = {"type": "string"}
    image = _object(
        {
            "kernel": path,
            "initrd": path,
            "cmdline": {"type": "string"},
            "memory": _SIZE,
            "disk": path,
            "format": {"enum": FORMATS},
        }
    )
    return {
        "type": "object",
        "propertyNames": {"type": "string"},
        "additionalProperties": image,
    }


@functools.lru_cache(maxsize=None)
def kind_schema() -> Schema:
    """Return the schema of a kind's file."""
    properties = _KIND["properties"]
    disk = _of_argument({"type": "dict", "options": DISK_SPEC})["properties"]
    complete = dict(
        properties,
        vm=dict(properties["vm"], properties=vm_options(), additionalProperties=False),
        bootstrap=_bootstrap(properties["bootstrap"]),
        disk=dict(
            properties["disk"],
            properties={key: value for key, value in disk.items() if key != "name"},
            additionalProperties=False,
        ),
    )
    module = {key: value for key, value in complete.items() if key not in _NOT_OF_MODULES}
    complete["modules"] = _named(_object(module), properties["modules"]["description"])
    return dict(_KIND, properties=complete)


def _bootstrap(entry: Schema) -> Schema:
    """Return the schema of a kind's script. What it extends may have the steps."""
    properties = _of_argument({"type": "dict", "options": BOOTSTRAP_SPEC})["properties"]
    own = {name: dict(properties[name], description=text) for name, text in _OF_BOOTSTRAP.items()}
    return _object(dict(properties, **own), description=entry["description"])


@functools.lru_cache(maxsize=None)
def vm_options() -> dict[str, Schema]:
    """Return the options of qemu_vm that a node accepts, each with its schema."""
    return {
        name: _of_argument(option.spec)
        for name, option in OPTIONS.items()
        if name not in _NOT_OF_NODES
    }


def _of_argument(spec: Mapping[str, Any]) -> Schema:
    """Return the schema of an option from its argument spec; it accepts what Ansible accepts."""
    kind = spec.get("type", "str")
    if kind == "list":
        item = {"type": spec.get("elements", "raw"), "options": spec.get("options")}
        return {"type": "array", "items": _of_argument(item)}
    if kind == "dict":
        options = spec.get("options")
        if not options:
            return {"type": "object"}
        return {
            "type": "object",
            "additionalProperties": False,
            "required": [name for name, entry in options.items() if entry.get("required")],
            "properties": {
                name: _of_argument(entry)
                for key, entry in options.items()
                for name in [key] + entry.get("aliases", [])
            },
        }
    if spec.get("choices"):
        return {"enum": spec["choices"]}
    simple = {"bool": {"type": "boolean"}, "int": {"type": "integer"}, "raw": {}, "str": _SIZE}
    return simple.get(kind, {"type": "string"})


def _nic_option(name: str) -> Schema:
    """Return the schema of a NIC's suboption in a topology."""
    return dict(_of_argument(NIC_SPEC[name]), **_NIC_OVERRIDES.get(name, {}))


def _node_nic() -> Schema:
    """Return the schema of a node's NIC, derived from the suboptions of qemu_vm's nics."""
    properties = {name: _nic_option(name) for name in NIC_SPEC if name not in _NOT_OF_NICS}
    return _object(
        dict(properties, address=_ADDRESS),
        description="Settings of a NIC other than its link or segment.",
    )


def _management() -> Schema:
    """Return the schema of the management network, with the suboptions of links."""
    either, mapping = _MANAGEMENT["oneOf"]
    link = _of_argument(NIC_SPEC["link"])["properties"]
    own = mapping["properties"]
    forwards = own["forwards"]
    port = forwards["items"]["oneOf"][0]
    items = {"oneOf": [port, link["forwards"]["items"]]}
    more = {name: dict(link[name], description=text) for name, text in _MANAGEMENT_LINK.items()}
    properties = {**own, "forwards": dict(forwards, items=items), **more}
    return dict(_MANAGEMENT, oneOf=[either, dict(mapping, properties=properties)])


def _link() -> Schema:
    properties = _LINK["properties"]
    capture = dict(_nic_option("capture"), **properties["capture"])
    return dict(_LINK, properties=dict(properties, capture=capture))


def is_name(name: str) -> bool:
    """Return whether a node can have this name."""
    return re.search(NAME["pattern"], name) is not None


def is_nic_name(name: str) -> bool:
    """Return whether a NIC can have this name."""
    return len(name) <= _NIC_NAME["maxLength"] and re.search(_NIC_NAME["pattern"], name) is not None
