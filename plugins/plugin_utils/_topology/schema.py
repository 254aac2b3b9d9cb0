# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The topology language as a JSON schema. Its descriptions are the reference documentation."""

from __future__ import annotations

import difflib
import functools
import re

from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disks import DISK_SPEC
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.network import NIC_SPEC
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.libraries import jsonschema
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.fast_validation import (
    is_surely_valid,
)

# What a node says by other means than the options of qemu_vm.
_NOT_A_NODES = ("nics", "uuid", "mac_copy_from", "config_drive")

# Python's $ also matches before a line's end.
NAME = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$(?!\n)"}
_NIC_NAME = {
    "type": "string",
    "pattern": r"^[^\s:,/.\x00-\x1f\x7f][^\s:,/\x00-\x1f\x7f]*(/[^\s:,/\x00-\x1f\x7f]+)*$(?!\n)",
    "maxLength": 60,
}
_PREFIX = {
    "type": "string",
    "description": "A network with its length, such as 10.0.0.0/16 or fd00::/48.",
}
_SIZE = {"type": ["integer", "string"]}
_CONTENT = {
    "oneOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                "template": {
                    "type": "string",
                    "description": "Path of a template on the controller.",
                }
            },
            "required": ["template"],
            "additionalProperties": False,
        },
    ]
}

_READY = {
    "type": "object",
    "description": "When a node counts as ready. All that is given must hold, in this order.",
    "properties": {
        "console": {
            "type": "string",
            "description": "A regular expression that the console's log must match.",
        },
        "failed": {
            "type": "string",
            "description": "A regular expression: once the console's log matches it, the node will not become ready.",
        },
        "agent": {"type": "boolean", "description": "The guest agent answers."},
        "port": {
            "type": "integer",
            "minimum": 1,
            "maximum": 65535,
            "description": "A forwarded guest port accepts connections.",
        },
        "command": {
            "type": "string",
            "description": "A shell command in the guest, run through its agent, ends with 0.",
        },
        "timeout": {
            "type": "integer",
            "minimum": 1,
            "description": "Seconds for all of it; 300 by default.",
        },
        "hint": {
            "type": "string",
            "description": "What to look at when it does not become ready; told in the error.",
        },
    },
    "additionalProperties": False,
}

_FILES = {
    "type": "object",
    "description": "Files on the node's config drive, by name: their content, or a template on the controller.",
    "additionalProperties": _CONTENT,
}

_ADDRESS = {
    "type": ["string", "array"],
    "items": {"type": "string"},
    "description": "Addresses with their prefix length.",
}
# A node's NIC has the suboptions of qemu_vm's nics. Its number follows from its name.
_NOT_A_NODES_NIC = ("index",)
# Where a topology differs from qemu_vm.
_NIC_OVERRIDES = {
    "model": {"type": "string", "description": "NIC model; the kind's by default."},
    "mac": {
        "type": "string",
        "description": "MAC address; derived from lab, node and NIC by default.",
    },
    "capture": {"type": ["object", "boolean"]},
    "link": {
        "description": (
            "A link to the outside instead of one of the lab: see qemu_vm, nics[].link."
        ),
    },
}

_ENDPOINT = {
    "description": "NODE:NIC, or NODE for its next free NIC, or a mapping.",
    "oneOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                "node": dict(NAME, description="The node."),
                "nic": dict(_NIC_NAME, description="Its NIC; the next free one by default."),
                "address": dict(
                    _ADDRESS,
                    description="Addresses of this end; from the wire's network by default.",
                ),
            },
            "required": ["node"],
            "additionalProperties": False,
        },
    ],
}

_LINK = {
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
        "prefix": dict(
            _PREFIX, description="The link's IPv4 network; from addressing.links by default."
        ),
        "prefix6": dict(
            _PREFIX, description="The link's IPv6 network; from addressing.links6 by default."
        ),
        "down": {"type": "boolean", "description": "Take the carrier of both ends away."},
        "capture": {
            "type": ["object", "boolean"],
            "description": "Capture its frames, at its first end.",
        },
        "vars": {"type": "object", "description": "Anything, for templates."},
    },
    "required": ["endpoints"],
    "additionalProperties": False,
}

_INTERFACE = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$"
_SEGMENT = {
    "type": "object",
    "description": "A network of any number of NICs.",
    "properties": {
        "members": {
            "type": "array",
            "items": _ENDPOINT,
            "minItems": 1,
            "description": "The NICs on it.",
        },
        "type": {
            "enum": ["hub", "bridge"],
            "description": "hub: a QEMU without a machine, needs no root; bridge: a Linux bridge, needs "
            "root and one hypervisor.",
        },
        "prefix": dict(_PREFIX, description="Its IPv4 network; from addressing.lans by default."),
        "prefix6": dict(_PREFIX, description="Its IPv6 network; from addressing.lans6 by default."),
        "bridge": {
            "type": "string",
            "pattern": _INTERFACE,
            "description": "Name of the Linux bridge; derived from lab and segment by default.",
        },
        "hypervisor": {
            "type": "string",
            "description": "Where its hub runs; where most members are by default.",
        },
        "vars": {"type": "object", "description": "Anything, for templates."},
    },
    "required": ["members"],
    "additionalProperties": False,
}

_ADDRESSING = {
    "type": "object",
    "description": "Pools that addresses are taken from. What is taken depends on names only, never on the order in the file.",
    "properties": {
        "loopback": dict(_PREFIX, description="IPv4 loopbacks, one address for each node."),
        "loopback6": dict(_PREFIX, description="IPv6 loopbacks."),
        "links": dict(_PREFIX, description="IPv4 networks of links."),
        "links6": dict(_PREFIX, description="IPv6 networks of links, each a /64."),
        "link_length": {
            "type": "integer",
            "enum": [24, 29, 30, 31],
            "description": "Length of a link's IPv4 network; 30 by default.",
        },
        "lans": dict(_PREFIX, description="IPv4 networks of segments."),
        "lans6": dict(_PREFIX, description="IPv6 networks of segments, each a /64."),
        "lan_length": {
            "type": "integer",
            "minimum": 8,
            "maximum": 30,
            "description": "Length of a segment's IPv4 network; 24 by default.",
        },
        "management": dict(_PREFIX, description="Management addresses, one for each node."),
        "ipv6": {
            "type": "boolean",
            "description": "Take IPv6 addresses, too: from fd00::/48, derived from the lab's name, where no pool is "
            "given.",
        },
        "asn": {
            "type": "integer",
            "minimum": 1,
            "maximum": 4294967295,
            "description": "The first AS number; nodes count from it.",
        },
    },
    "additionalProperties": False,
}

_KIND = {
    "type": "object",
    "description": "A reusable node type: data, not code.",
    "properties": {
        "description": {"type": "string", "description": "What it is, in a sentence."},
        "extends": {"type": "string", "description": "Another kind that this one changes."},
        "image": {
            "type": "string",
            "description": "The image's name among the images that qemu_lab is given; the kind's name by default.",
        },
        "vm": {
            "type": "object",
            "description": "Options of qemu_vm. In texts, `{name}`, `{lab}`, `{uuid}`, `{management}`, `{loopback}` and "
            "`{vars.NAME}` stand for what the node has.",
        },
        "vars": {"type": "object", "description": "Defaults of the nodes' vars."},
        "disk": {
            "type": "object",
            "description": "What the root disk has besides its image: suboptions of qemu_vm's disks.",
        },
        "nic": {
            "type": "object",
            "description": "The system's NICs.",
            "properties": {
                "model": {"type": "string", "description": "NIC model; virtio-net-pci by default."},
                "name": {
                    "type": "string",
                    "pattern": r"\{n\}",
                    "description": "How data NICs are called, with {n} for the number; eth{n} by default.",
                },
                "first": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 1000,
                    "description": "The first data NIC's number; 1 by default.",
                },
                "management": {
                    "type": ["string", "array"],
                    "items": {"type": "string"},
                    "description": "The NICs that come before the data NICs, always there.",
                },
                "max": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 250,
                    "description": "How many data NICs the system takes; 250 by default.",
                },
                "min": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 250,
                    "description": "How many data NICs the system wants to see at least.",
                },
                "fill_slots": {
                    "type": "boolean",
                    "description": "The system counts its cards: each sits at its number's place, and holes are filled "
                    "with unconnected ones.",
                },
                "block_size": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 250,
                    "description": "Make data NICs in blocks of so many, one more than there are links at least; the spare ones have no "
                    "cable, and take a link that is added while the node runs.",
                },
            },
            "additionalProperties": False,
        },
        "files": _FILES,
        "config": {
            "type": "object",
            "properties": {
                "label": {
                    "type": "string",
                    "description": "Label of the config drive's file system.",
                },
                "format": {
                    "enum": ["iso", "fat"],
                    "description": "Its file system; iso by default.",
                },
                "bus": {
                    "enum": ["virtio", "scsi", "ide", "sata", "usb"],
                    "description": "How it is attached; virtio by default.",
                },
                "file": {
                    "type": "string",
                    "description": "The file that the node's config becomes.",
                },
                "addresses": {
                    "enum": ["none", "shell", "cloud_init"],
                    "description": "shell: start.sh on the drive sets addresses, interfaces "
                    "names NICs. cloud_init: the files of a NoCloud seed.",
                },
            },
            "additionalProperties": False,
            "description": "How the first configuration reaches the system without a console.",
        },
        "ready": _READY,
        "facts": {
            "type": "object",
            "description": "Anything else that is known of the system; not used, shown in documentation.",
        },
    },
    "additionalProperties": False,
}


@functools.lru_cache(maxsize=None)
def schema():
    """The schema of a topology file, with the options of qemu_vm in nodes."""
    vm = vm_options()
    kind = dict(
        _KIND,
        properties=dict(
            _KIND["properties"],
            vm=dict(_KIND["properties"]["vm"], properties=vm, additionalProperties=False),
            disk=dict(_KIND["properties"]["disk"], **_disk()),
        ),
    )
    settings = dict(
        vm,
        kind={"type": "string", "description": "The node's kind."},
        image={
            "type": "string",
            "description": "An image's name, or the path of a disk image on the hypervisor.",
        },
        hypervisor={"type": "string", "description": "The inventory host that it runs on."},
        state={
            "enum": ["started", "stopped", "paused", "present"],
            "description": "What it shall be while the lab is started.",
        },
        after={
            "description": "Nodes that must be there before it starts.",
            "oneOf": [
                {"type": "array", "items": NAME},
                {"type": "object", "additionalProperties": {"enum": ["started", "ready"]}},
            ],
        },
        ready=_READY,
        files=_FILES,
        config=dict(
            _CONTENT,
            description="Its first configuration, for kinds that take one from a drive: the content, or a "
            "template.",
        ),
        nic_model={"type": "string", "description": "Model of its NICs."},
        vars={"type": "object", "description": "Anything, for templates and conditions."},
    )
    node = dict(
        settings,
        groups={
            "type": "array",
            "items": NAME,
            "description": "Groups whose settings it takes, the last one wins.",
        },
        loopback={
            "type": ["string", "boolean"],
            "description": "Its IPv4 loopback; false for none.",
        },
        loopback6={
            "type": ["string", "boolean"],
            "description": "Its IPv6 loopback; false for none.",
        },
        management={
            "type": ["string", "boolean"],
            "description": "Its management address; false for none.",
        },
        asn={
            "type": "integer",
            "minimum": 1,
            "maximum": 4294967295,
            "description": "Its AS number.",
        },
        nics={
            "type": "object",
            "additionalProperties": _node_nic(),
            "propertyNames": _NIC_NAME,
            "description": "Its NICs by name.",
        },
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A network lab",
        "type": "object",
        "properties": {
            "name": dict(NAME, description="Name of the lab."),
            "defaults": {
                "type": "object",
                "properties": settings,
                "additionalProperties": False,
                "description": "Settings of all nodes.",
            },
            "kinds": {
                "type": "object",
                "propertyNames": NAME,
                "additionalProperties": kind,
                "description": "Kinds of this lab, besides those of the collection.",
            },
            "groups": {
                "type": "object",
                "description": "Settings shared by some nodes.",
                "propertyNames": NAME,
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": dict(
                        settings,
                        members={
                            "type": "array",
                            "items": NAME,
                            "description": "Nodes of the group.",
                        },
                        asn=node["asn"],
                        **{
                            key: {"type": "boolean", "description": "false: its nodes have none."}
                            for key in ("loopback", "loopback6", "management")
                        },
                    ),
                },
            },
            "nodes": {
                "type": "object",
                "propertyNames": NAME,
                "minProperties": 1,
                "description": "The nodes by name.",
                "additionalProperties": {
                    "oneOf": [
                        {"type": "null"},
                        {"type": "object", "properties": node, "additionalProperties": False},
                    ]
                },
            },
            "links": {
                "type": "array",
                "description": "The links, each short, NODE:NIC -- NODE:NIC, or long.",
                "items": {"oneOf": [{"type": "string"}, _link()]},
            },
            "segments": {
                "type": "object",
                "propertyNames": NAME,
                "additionalProperties": _SEGMENT,
                "description": "Networks of any number of NICs.",
            },
            "addressing": _ADDRESSING,
            "placement": {
                "type": "object",
                "additionalProperties": False,
                "description": "Which hypervisor each node runs on.",
                "properties": {
                    "policy": {
                        "enum": ["pack", "spread", "memory"],
                        "description": "pack: as few hypervisors as hold it; spread: evenly by number; memory: by free memory.",
                    },
                    "hypervisors": {
                        "type": "array",
                        "items": {"type": "string"},
                        "description": "The hosts to use; those of the play by default.",
                    },
                },
            },
            "limits": {
                "type": "object",
                "additionalProperties": False,
                "description": "What a hypervisor may be asked for.",
                "properties": {
                    "booting": {
                        "type": "integer",
                        "minimum": 1,
                        "description": "How many nodes may boot at a time on a hypervisor.",
                    },
                    "memory_overcommit": {
                        "type": "number",
                        "minimum": 0.1,
                        "description": "How much of the free memory may be given away; 1.",
                    },
                    "vcpu_ratio": {
                        "type": "number",
                        "minimum": 0.1,
                        "description": "Virtual CPUs for each of the host's; no limit by default.",
                    },
                },
            },
            "vars": {"type": "object", "description": "Anything, for templates."},
        },
        "required": ["name", "nodes"],
        "additionalProperties": False,
    }


def _of_argument(spec):
    """The schema of an option from its entry in an argument spec; as tolerant as the argument spec is."""
    kind = spec.get("type", "str")
    if kind == "list":
        return {
            "type": "array",
            "items": _of_argument(
                {"type": spec.get("elements", "raw"), "options": spec.get("options")}
            ),
        }
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
    made = {"bool": {"type": "boolean"}, "int": {"type": "integer"}, "raw": {}}.get(
        kind, _SIZE if kind == "str" else {"type": "string"}
    )
    if spec.get("choices"):
        made = {"enum": spec["choices"]}
    return made


@functools.lru_cache(maxsize=None)
def kind_schema():
    """The schema of a kind's file."""
    return schema()["properties"]["kinds"]["additionalProperties"]


@functools.lru_cache(maxsize=None)
def vm_options():
    """The options of qemu_vm that a node takes, each with its schema."""
    return {
        name: _of_argument(option.spec)
        for name, option in OPTIONS.items()
        if name not in _NOT_A_NODES
    }


def _nic_option(name):
    """Return the schema of a NIC's suboption in a topology."""
    return dict(_of_argument(NIC_SPEC[name]), **_NIC_OVERRIDES.get(name, {}))


def _node_nic():
    """Return the schema of a node's NIC, derived from the suboptions of qemu_vm's nics."""
    names = [name for name in NIC_SPEC if name not in _NOT_A_NODES_NIC]
    return {
        "type": "object",
        "description": "Settings of a NIC other than its wire.",
        "properties": dict({name: _nic_option(name) for name in names}, address=_ADDRESS),
        "additionalProperties": False,
    }


def _link():
    capture = dict(_nic_option("capture"), **_LINK["properties"]["capture"])
    return dict(_LINK, properties=dict(_LINK["properties"], capture=capture))


def _disk():
    made = _of_argument({"type": "dict", "options": DISK_SPEC})
    return {
        "properties": {key: value for key, value in made["properties"].items() if key != "name"},
        "additionalProperties": False,
    }


def check(data, problems):
    """Add what the schema finds wrong with data to problems; return data without it, as a copy, for a further look."""
    wrong = []
    if not is_surely_valid(data, schema()):
        for error in jsonschema.Draft202012Validator(schema()).iter_errors(data):
            _tell(error, problems, wrong)
    return _without(data, (), set(wrong))


def is_nic_name(name):
    """Whether a NIC can be called so."""
    return len(name) <= _NIC_NAME["maxLength"] and re.search(_NIC_NAME["pattern"], name) is not None


# What was left out of a list whose numbers are told to the user.
NOTHING = object()
_NUMBERED = ("links", "endpoints", "members")


def _without(data, here, wrong):
    if isinstance(data, dict):
        # A node of which nothing can be understood is there all the same: links to it are right.
        kept = {
            key: None if here == ("nodes",) and isinstance(key, str) and key else NOTHING
            for key in data
            if here + (key,) in wrong
        }
        kept.update(
            {
                key: _without(value, here + (key,), wrong)
                for key, value in data.items()
                if key not in kept
            }
        )
        return {key: value for key, value in kept.items() if value is not NOTHING}
    if isinstance(data, list):
        made = [
            NOTHING if here + (number,) in wrong else _without(value, here + (number,), wrong)
            for number, value in enumerate(data)
        ]
        return (
            made
            if here[-1:] and here[-1] in _NUMBERED
            else [value for value in made if value is not NOTHING]
        )
    return data


def _tell(error, problems, wrong):
    path = tuple(error.absolute_path)
    place = place_of(path)
    if error.validator == "oneOf" and error.context:
        # Of several forms, the one of the value's own type is what was meant.
        kept = [
            inner
            for inner in error.context
            if inner.validator != "type" or len(inner.absolute_path) > len(path)
        ]
        if kept:
            for inner in kept:
                _tell(inner, problems, wrong)
            return
        problems.add(
            place,
            "%s is not what can be here: %s",
            _shown(error.instance),
            " or ".join(
                _TYPES.get(inner.validator_value, str(inner.validator_value))
                for inner in error.context
                if inner.validator == "type"
            ),
        )
    elif error.validator == "additionalProperties" and "properties" in error.schema:
        for name in sorted(set(error.instance) - set(error.schema["properties"]), key=str):
            problems.add(
                place_of(path + (name,)),
                "there is no such setting%s",
                _nearest(name, error.schema["properties"]),
            )
            wrong.append(path + (name,))
        return
    elif "propertyNames" in list(error.relative_schema_path)[-2:]:
        problems.add(
            place_of(path + (error.instance,)),
            "%s cannot be a name here: %s",
            _shown(error.instance),
            _RULES[error.schema["pattern"]]
            if isinstance(error.instance, str)
            else "put it in quotes",
        )
        wrong.append(path + (error.instance,))
        return
    elif error.validator in ("pattern", "maxLength"):
        problems.add(
            place,
            "%s cannot be a name here: %s",
            _shown(error.instance),
            _RULES[error.schema["pattern"]],
        )
    elif error.validator == "type":
        kinds = (
            error.validator_value
            if isinstance(error.validator_value, list)
            else [error.validator_value]
        )
        problems.add(
            place or "the topology",
            "%s is not %s",
            _shown(error.instance),
            " or ".join(_TYPES.get(kind, kind) for kind in kinds),
        )
    elif error.validator == "enum":
        problems.add(
            place,
            "%s is not one of %s%s",
            _shown(error.instance),
            ", ".join(map(str, error.validator_value)),
            _nearest(
                error.instance, [value for value in error.validator_value if isinstance(value, str)]
            ),
        )
    elif error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        problems.add(place or "the topology", "%s is missing", " and ".join(missing))
        if not path:
            return
    else:
        problems.add(
            place or "the topology",
            error.message
            if len(error.message) < 200
            else error.message[:120] + " ... " + error.message[-70:],
        )
    wrong.append(path)


_RULES = {
    _INTERFACE: "letters, digits, . - and _, 15 at most",
    NAME["pattern"]: "letters, digits, - and _, 63 at most, no - or _ first",
    _NIC_NAME["pattern"]: "60 letters at most, without spaces, commas and colons",
    _KIND["properties"]["nic"]["properties"]["name"]["pattern"]: "it must have {n} for the number",
}
_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


def _shown(value):
    """A value in a message, not longer than a line."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) < 80 else text[:60] + " ... " + text[-10:]


def _nearest(name, known):
    if not isinstance(name, str):
        return ""
    found = difflib.get_close_matches(name, list(known), 1)
    return "; did you mean %s?" % found[0] if found else ""


def place_of(path):
    """links[2].endpoints[0] from a path of keys and indexes."""
    text = ""
    for part in path:
        if isinstance(part, int) and not isinstance(part, bool):
            text += "[%d]" % part
        else:
            text += ("." if text else "") + (
                part if isinstance(part, str) and part and part.isprintable() else ascii(part)
            )
    return text
