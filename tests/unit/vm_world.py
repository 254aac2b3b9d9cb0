# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""VMs without QEMU: hosts with the recorded capabilities of a QEMU, and definitions for them."""

from __future__ import annotations

import json
import os
import re

from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import Capabilities
from ansible_collections.vlab.qemu.plugins.module_utils._vm import command_line
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host

VERSIONS = ("5.2", "7.2", "10.0")
BINARY = "/usr/bin/qemu-system-x86_64"
ROOT = "/nowhere/vlab"
_CAPABILITIES = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "plugins", "module_utils", "_vm", "capabilities"
)


def capabilities(version, **changes):
    """The recorded Capabilities of a real QEMU. changes: fields to replace."""
    with open(os.path.join(_CAPABILITIES, version + ".json"), encoding="utf-8") as stream:
        answer = json.load(stream)
    values = {
        name: frozenset(value) if isinstance(value, list) else value
        for name, value in answer.items()
    }
    values.update(
        version=tuple(answer["version"]),
        options={name: frozenset(words) for name, words in answer["options"].items()},
    )
    return Capabilities(**values)._replace(**changes)


# Some of what QEMU 7.2 reports.
NETDEV_OPTIONS = {
    "user": {"ipv6": "boolean", "ipv6-dns": "string", "smb": "string", "guestfwd": "array"},
    "tap": {"ifname": "string", "sndbuf": "int", "vhostforce": "boolean", "poll-us": "int"},
    "socket": {"fd": "string"},
}


class FakeVocabulary:
    """The words of a QEMU that are known: of the CPU models, devices and machines given."""

    def __init__(self, cpus=None, devices=None, machines=None, refusal="", options=()):
        self.cpus, self.devices, self.machines = cpus, devices or {}, machines or {}
        self.refuses, self.its_options = refusal, options
        self.asked = []

    def cpu_models(self):
        self.asked.append("cpus")
        return self.cpus and {name: name + "-cpu" for name in self.cpus}

    def cpu_properties(self, model):
        self.asked.append(model)
        return self.cpus.get(model)

    def device_properties(self, name):
        self.asked.append(name)
        return self.devices.get(name)

    def machine_properties(self, name):
        self.asked.append(name)
        return self.machines.get(name)

    def refusal(self, words):
        self.asked.append(words)
        return self.refuses

    def options(self):
        return self.its_options


class FakeHost(Host):
    """A host with one QEMU, for x86_64 by default. Nothing on the real host is read."""

    def __init__(self, version="7.2", name="r1", lab="lab1", root=ROOT, arch="x86_64"):
        super().__init__(Folder(str(root), lab, name))
        self.accel, self.accel_reason, self.its_arch = "tcg", "asked for", arch
        self.__dict__["capabilities"] = _KNOWN[version]
        self.__dict__["netdev_options"] = NETDEV_OPTIONS
        self.__dict__["vocabulary"] = FakeVocabulary()

    def find(self, arch, binary):
        binary = binary[0] if isinstance(binary, list) else binary
        self.binary, self.arch = (
            binary or "/usr/bin/qemu-system-" + (arch or self.its_arch),
            arch or self.its_arch,
        )


_KNOWN = {version: capabilities(version) for version in VERSIONS}


def compose(given=None, saved=None, host=None, **more):
    """Return definition.compose of given and more over saved."""
    return definitions.compose(saved, dict(given or {}, **more), host or FakeHost())


def granted(definition, first=20001):
    """The definition with its ports, counted from first for those that are auto."""
    ports = {}
    for request in definitions.port_requests(definition):
        ports.setdefault(
            request.key,
            request.port
            if request.port != "auto"
            else (5900 if request.key == "display" else first) + len(ports),
        )
    return dict(definition, ports=ports)


def argv(given=None, host=None, **more):
    """The command line of a VM made from given and more."""
    host = host or FakeHost()
    return command_line.build(granted(compose(given, host=host, **more)), host)


def values(words, option):
    """What follows each occurrence of option on a command line."""
    return [words[place + 1] for place, word in enumerate(words) if word == option]


def parsed(text, head=None):
    """A list of (key, value) of an option string, as QEMU parses it; ",," is a comma in a value.

    See util/qemu-option.c, opts_do_parse.

    head: the key of a first word without one, such as driver.
    """
    pairs, rest = [], text
    while rest:
        name = re.match(r"[^=,]*", rest).group()
        if rest[len(name) : len(name) + 1] == "=":
            rest = rest[len(name) + 1 :]
            value = re.match(r"(?:[^,]|,,)*", rest).group()
        elif not pairs and head:
            name, value = head, re.match(r"(?:[^,]|,,)*", rest).group()
        else:
            value = None
            rest = rest[len(name) :]
        rest = rest[len(value or "") + 1 :]
        pairs.append((name, value and value.replace(",,", ",")))
    return pairs


def snapshot_record(definition, **more):
    """The record of a snapshot with memory, without layers. more: values to replace."""
    record = {
        "name": "s",
        "description": "",
        "status": "running",
        "memory": True,
        "qemu_version": [7, 2, 0],
        "machine_type": "pc-i440fx-7.2",
        "accel": "tcg",
        "definition": definition,
        "console_from": 0,
        "disks": {},
        "files": [],
    }
    return dict(record, **more)
