# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This room is private to the vlab.qemu collection: it may change with any release.

"""The topology language as a JSON schema. Its descriptions are the reference documentation."""

from __future__ import annotations

import functools

import jsonschema

from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS

# What a node says by other means than the options of qemu_vm.
_NOT_A_NODES = ("nics", "uuid", "mac_copy_from", "config_drive")

NAME = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"}
_NIC_NAME = {"type": "string", "pattern": r"^[^\s:,/\x00]+(/[^\s:,/\x00]+)*$", "maxLength": 60}
_PREFIX = {"type": "string", "description": "A network with its length, such as 10.0.0.0/16 or fd00::/48."}
_SIZE = {"type": ["integer", "string"]}

_READY = {
    "type": "object",
    "description": "When a node counts as ready. All that is given must hold, in this order.",
    "properties": {
        "console": {"type": "string", "description": "A regular expression that the console's log must match."},
        "agent": {"type": "boolean", "description": "The guest agent answers."},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535, "description": "A forwarded guest port accepts connections."},
        "command": {"type": "string", "description": "A shell command in the guest, run through its agent, ends with 0."},
        "timeout": {"type": "integer", "minimum": 1, "description": "Seconds for all of it; 300 by default."},
        "hint": {"type": "string", "description": "What to look at when it does not become ready; told in the error."},
    },
    "additionalProperties": False,
}

_FILES = {
    "type": "object",
    "description": "Files on the node's config drive, by name: their content, or a template on the controller.",
    "additionalProperties": {"oneOf": [
        {"type": "string"},
        {"type": "object", "properties": {"template": {"type": "string"}}, "required": ["template"], "additionalProperties": False}]},
}

_NIC = {
    "type": "object",
    "description": "What a NIC has beyond its link.",
    "properties": {
        "model": {"type": "string", "description": "NIC model; the kind's by default."},
        "mac": {"type": "string", "description": "MAC address; derived from lab, node and NIC by default."},
        "address": {"type": ["string", "array"], "items": {"type": "string"}, "description": "Addresses with their prefix length."},
        "mtu": {"type": "integer"},
        "capture": {"type": ["object", "boolean"], "description": "Capture its frames; see qemu_nic."},
        "link": {"type": "object", "description": "A link to the outside instead of one of the lab: see qemu_vm, nics[].link."},
        "link_down": {"type": "boolean", "description": "Take this end's carrier away."},
        "boot_index": {"type": "integer"},
        "boot_rom": {"type": "boolean"},
        "properties": {"type": "object"},
    },
    "additionalProperties": False,
}

_ENDPOINT = {"oneOf": [
    {"type": "string", "description": "NODE or NODE:NIC; without a NIC, the node's next free one."},
    {"type": "object", "properties": {"node": NAME, "nic": _NIC_NAME, "address": _NIC["properties"]["address"]},
     "required": ["node"], "additionalProperties": False}]}

_LINK = {
    "type": "object",
    "description": "A cable between two NICs.",
    "properties": {
        "endpoints": {"type": "array", "items": _ENDPOINT, "minItems": 2, "maxItems": 2},
        "name": {"type": "string", "description": "A name for messages; NODE:NIC--NODE:NIC by default."},
        "prefix": dict(_PREFIX, description="The link's IPv4 network; from addressing.links by default."),
        "prefix6": dict(_PREFIX, description="The link's IPv6 network; from addressing.links6 by default."),
        "down": {"type": "boolean", "description": "Take the carrier of both ends away."},
        "capture": {"type": ["object", "boolean"], "description": "Capture its frames, at its first end."},
        "vars": {"type": "object", "description": "Anything, for templates."},
    },
    "required": ["endpoints"],
    "additionalProperties": False,
}

_SEGMENT = {
    "type": "object",
    "description": "A network of any number of NICs.",
    "properties": {
        "members": {"type": "array", "items": _ENDPOINT, "minItems": 1},
        "type": {"enum": ["hub", "bridge"], "description": "hub: a QEMU without a machine, needs no root; bridge: a Linux bridge, needs "
                                                           "root and one hypervisor."},
        "prefix": dict(_PREFIX, description="Its IPv4 network; from addressing.lans by default."),
        "prefix6": dict(_PREFIX, description="Its IPv6 network; from addressing.lans6 by default."),
        "bridge": {"type": "string", "description": "Name of the Linux bridge; derived from lab and segment by default."},
        "hypervisor": {"type": "string", "description": "Where its hub runs; where most members are by default."},
        "vars": {"type": "object"},
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
        "link_length": {"type": "integer", "enum": [24, 29, 30, 31], "description": "Length of a link's IPv4 network; 30 by default."},
        "lans": dict(_PREFIX, description="IPv4 networks of segments."),
        "lans6": dict(_PREFIX, description="IPv6 networks of segments, each a /64."),
        "lan_length": {"type": "integer", "minimum": 8, "maximum": 30, "description": "Length of a segment's IPv4 network; 24 by default."},
        "management": dict(_PREFIX, description="Management addresses, one for each node."),
        "ipv6": {"type": "boolean", "description": "Take IPv6 addresses, too: from fd00::/48, derived from the lab's name, where no pool is "
                                                   "given."},
        "asn": {"type": "integer", "minimum": 1, "maximum": 4294967295, "description": "The first AS number; nodes count from it."},
    },
    "additionalProperties": False,
}

_KIND = {
    "type": "object",
    "description": "A reusable node type: data, not code.",
    "properties": {
        "description": {"type": "string"},
        "extends": {"type": "string", "description": "Another kind that this one changes."},
        "image": {"type": "string", "description": "The image's name among the images that qemu_lab is given; the kind's name by default."},
        "vm": {"type": "object", "description": "Options of qemu_vm."},
        "nic": {"type": "object", "properties": {
            "model": {"type": "string"},
            "name": {"type": "string", "description": "How data NICs are called, with {n} for the number: eth{n}."},
            "first": {"type": "integer", "minimum": 0, "description": "The first data NIC's number; 1 by default."},
            "management": {"type": "string", "description": "The NIC that comes before the data NICs, always there."},
            "most": {"type": "integer", "minimum": 1, "description": "How many data NICs the system takes."},
            "fill": {"type": "boolean", "description": "The system counts its cards: holes are filled with unconnected ones."},
            "block": {"type": "integer", "minimum": 1, "description": "Make data NICs in blocks of so many; the spare ones have no cable, and "
                                                                       "take a link that is added while the node runs."},
        }, "additionalProperties": False},
        "files": _FILES,
        "config": {"type": "object", "properties": {
            "label": {"type": "string"}, "format": {"enum": ["iso", "fat"]}, "bus": {"type": "string"},
            "addresses": {"enum": ["none", "shell"], "description": "shell: start.sh on the drive sets addresses, interfaces names NICs."},
        }, "additionalProperties": False, "description": "How the first configuration reaches the system without a console."},
        "ready": _READY,
        "facts": {"type": "object", "description": "Anything else that is known of the system; not used, shown in documentation."},
    },
    "additionalProperties": False,
}


@functools.lru_cache(maxsize=None)
def schema():
    """The schema of a topology file, with the options of qemu_vm in nodes."""
    vm = {name: _of_argument(option.spec) for name, option in OPTIONS.items() if name not in _NOT_A_NODES}
    settings = dict(vm, kind={"type": "string", "description": "The node's kind."},
                    image={"type": "string", "description": "An image's name, or the path of a disk image on the hypervisor."},
                    hypervisor={"type": "string", "description": "The inventory host that it runs on."},
                    state={"enum": ["started", "stopped", "paused", "present"], "description": "What it shall be while the lab is started."},
                    after={"description": "Nodes that must be there before it starts.", "oneOf": [
                        {"type": "array", "items": NAME},
                        {"type": "object", "additionalProperties": {"enum": ["started", "ready"]}}]},
                    ready=_READY, files=_FILES,
                    nic_model={"type": "string", "description": "Model of its NICs."},
                    vars={"type": "object", "description": "Anything, for templates and conditions."})
    node = dict(settings, groups={"type": "array", "items": NAME, "description": "Groups whose settings it takes, the last one wins."},
                loopback={"type": ["string", "boolean"], "description": "Its IPv4 loopback; false for none."},
                loopback6={"type": ["string", "boolean"], "description": "Its IPv6 loopback; false for none."},
                management={"type": ["string", "boolean"], "description": "Its management address; false for none."},
                asn={"type": "integer", "minimum": 1, "maximum": 4294967295, "description": "Its AS number."},
                nics={"type": "object", "additionalProperties": _NIC, "propertyNames": _NIC_NAME})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A network lab",
        "type": "object",
        "properties": {
            "name": dict(NAME, description="Name of the lab."),
            "defaults": {"type": "object", "properties": settings, "additionalProperties": False, "description": "Settings of all nodes."},
            "kinds": {"type": "object", "additionalProperties": _KIND, "description": "Kinds of this lab, besides those of the collection."},
            "groups": {"type": "object", "description": "Settings shared by some nodes.", "propertyNames": NAME, "additionalProperties": {
                "type": "object", "additionalProperties": False,
                "properties": dict(settings, members={"type": "array", "items": NAME, "description": "Nodes of the group."},
                                   asn=node["asn"])}},
            "nodes": {"type": "object", "propertyNames": NAME, "minProperties": 1, "description": "The nodes by name.",
                      "additionalProperties": {"oneOf": [{"type": "null"},
                                                         {"type": "object", "properties": node, "additionalProperties": False}]}},
            "links": {"type": "array", "description": "The links, each short, NODE:NIC -- NODE:NIC, or long.",
                      "items": {"oneOf": [{"type": "string"}, _LINK]}},
            "segments": {"type": "object", "propertyNames": NAME, "additionalProperties": _SEGMENT},
            "addressing": _ADDRESSING,
            "placement": {"type": "object", "additionalProperties": False, "properties": {
                "policy": {"enum": ["pack", "spread", "memory"],
                           "description": "pack: as few hypervisors as hold it; spread: evenly by number; memory: by free memory."},
                "hypervisors": {"type": "array", "items": {"type": "string"}, "description": "The hosts to use; those of the play by default."}}},
            "limits": {"type": "object", "additionalProperties": False, "properties": {
                "booting": {"type": "integer", "minimum": 1, "description": "How many nodes may boot at a time on a hypervisor."},
                "memory_overcommit": {"type": "number", "minimum": 0.1, "description": "How much of the free memory may be given away; 1."},
                "vcpu_ratio": {"type": "number", "minimum": 0.1, "description": "Virtual CPUs for each of the host's; no limit by default."}}},
            "vars": {"type": "object", "description": "Anything, for templates."},
        },
        "required": ["name", "nodes"],
        "additionalProperties": False,
    }


def _of_argument(spec):
    """The schema of an option from its entry in an argument spec; as tolerant as the argument spec is."""
    kind = spec.get("type", "str")
    if kind == "list":
        return {"type": "array", "items": _of_argument({"type": spec.get("elements", "raw"), "options": spec.get("options")})}
    if kind == "dict":
        options = spec.get("options")
        if not options:
            return {"type": "object"}
        return {"type": "object", "additionalProperties": False, "required": [name for name, entry in options.items() if entry.get("required")],
                "properties": {name: _of_argument(entry) for key, entry in options.items() for name in [key] + entry.get("aliases", [])}}
    made = {"bool": {"type": "boolean"}, "int": {"type": "integer"}, "raw": {}}.get(kind, _SIZE if kind == "str" else {"type": "string"})
    if spec.get("choices"):
        made = {"enum": spec["choices"]}
    return made


def check(data, problems):
    """Add what the schema finds wrong with data to problems; True when nothing is."""
    before = len(problems.found)
    validator = jsonschema.Draft202012Validator(schema())
    for error in validator.iter_errors(data):
        _tell(error, problems)
    return len(problems.found) == before


def _tell(error, problems):
    place = place_of(error.absolute_path)
    if error.validator == "oneOf" and error.context:
        # Of several forms, the one of the value's own type is what was meant.
        kept = [inner for inner in error.context if inner.validator != "type" or inner.path]
        for inner in kept or error.context[:1]:
            _tell(inner, problems)
        return
    if error.validator == "additionalProperties" and "properties" in error.schema:
        for name in sorted(set(error.instance) - set(error.schema["properties"])):
            problems.add("%s.%s" % (place, name) if place else str(name), "there is no such setting%s", _nearest(name, error.schema["properties"]))
        return
    if error.validator == "pattern":
        problems.add(place, "%r cannot be a name here: letters, digits, - and _", error.instance)
        return
    message = error.message
    problems.add(place or "the topology", message if len(message) < 200 else message[:120] + " ... " + message[-70:])


def _nearest(name, known):
    import difflib
    found = difflib.get_close_matches(str(name), list(known), 1)
    return "; did you mean %s?" % found[0] if found else ""


def place_of(path):
    """links[2].endpoints[0] from a path of keys and indexes."""
    text = ""
    for part in path:
        text += "[%d]" % part if isinstance(part, int) else ".%s" % part if text else str(part)
    return text
