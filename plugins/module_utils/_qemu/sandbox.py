# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What QEMU cannot do in its seccomp sandbox: a forbidden system call may end the whole VM.

At a forbidden call, the kernel kills QEMU; some versions return an error instead. The calls of
resourcecontrol always return one, so they are not here.
Source: QEMU, softmmu/qemu-seccomp.c, the table of system calls.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any, Iterator, Mapping, NamedTuple, Sequence, Tuple

# The sets of system calls. The one without an option is always forbidden.
SPAWN, PRIVILEGES, ALWAYS = "spawn", "elevateprivileges", "on"

_URI_COMMANDS = ("migrate", "migrate-incoming", "migrate-recover")
_SCRIPTS = ("script", "downscript")
_OPENED = ("fd", "fds")
REMEDY = "set sandbox: false and restart the VM, or do without it"


class Sandbox(NamedTuple):
    """The sandbox of a QEMU process. denied: the sets of system calls that it forbids."""

    denied: frozenset[str]

    def refusal(self, command: str, arguments: Mapping[str, Any] | None) -> str:
        """Return why this QEMU must not be given a QMP command; empty if it may.

        command, arguments: with QEMU's names. Human monitor commands are looked into.
        """
        for needed, what in _needs(command, arguments or {}):
            if needed in self.denied:
                return what
        return ""


def sandbox_of(argv: Sequence[str]) -> Sandbox:
    """Return the sandbox of the QEMU with this command line."""
    denied: set[str] = set()
    for option, value in zip(argv, argv[1:]):
        if option.lstrip("-") == "sandbox" and option.startswith("-"):
            words = value.split(",")
            denied = {word.partition("=")[0] for word in words if word.endswith("=deny")}
            denied |= {ALWAYS} if words[0] in ("on", "enable=on") else set()
    return Sandbox(frozenset(denied))


# A set of system calls that a command needs, and what it would do.
_Need = Tuple[str, str]


def _needs(command: str, arguments: Mapping[str, Any]) -> Iterator[_Need]:
    if command == "human-monitor-command":
        yield from _human_needs(str(arguments.get("command-line", "")))
    elif command in _URI_COMMANDS:
        yield from _migration_needs(arguments)
    elif command == "migrate-set-parameters" and arguments.get("mode") == "cpr-exec":
        yield SPAWN, "mode cpr-exec starts another QEMU"
    elif command == "netdev_add":
        yield from netdev_needs(arguments)
    elif command == "block-export-add" and arguments.get("type") == "fuse":
        yield ALWAYS, "an export of type fuse mounts a file system"


def _migration_needs(arguments: Mapping[str, Any]) -> Iterator[_Need]:
    if str(arguments.get("uri", "")).startswith("exec:"):
        yield SPAWN, "exec: starts a program"
    for channel in arguments.get("channels") or ():
        address = channel.get("addr") if isinstance(channel, dict) else None
        if isinstance(address, dict) and address.get("transport") == "exec":
            yield SPAWN, "the transport exec starts a program"


def netdev_needs(arguments: Mapping[str, Any]) -> Iterator[_Need]:
    """Yield what a backend needs that a sandbox may forbid; arguments: of netdev_add."""
    kind = arguments.get("type")
    if kind == "tap" and not any(arguments.get(key) for key in _OPENED):
        if arguments.get("helper"):
            yield SPAWN, "helper starts a program"
            return
        # Without them, QEMU runs its own: /etc/qemu-ifup and /etc/qemu-ifdown.
        scripts = [key for key in _SCRIPTS if arguments.get(key) != "no"]
        if scripts:
            yield SPAWN, "a tap without %s=no starts a program" % scripts[0]
    elif kind in ("bridge", "passt"):
        yield SPAWN, "a backend of type %s starts a program" % kind
    elif kind == "user":
        # slirp starts the programs when the guest connects.
        if arguments.get("smb"):
            yield SPAWN, "smb starts a program"
        for forward in arguments.get("guestfwd") or ():
            text = forward.get("str", "") if isinstance(forward, dict) else str(forward)
            if "-cmd:" in text:
                yield SPAWN, "a guestfwd with cmd: starts a program"


def _human_needs(line: str) -> Iterator[_Need]:
    """Yield what a line of the human monitor needs."""
    words = line.split()
    if not words:
        return
    command, rest = words[0], words[1:]
    if command in ("migrate", "migrate_incoming", "migrate_recover"):
        # Flags come before the URI, which may be quoted.
        target = next((word.strip('"') for word in rest if not word.startswith("-")), "")
        yield from _migration_needs({"uri": target})
    elif command == "netdev_add":
        yield from netdev_needs(_parsed(" ".join(rest), "type"))
    elif command == "migrate_set_parameter" and rest[:2] == ["mode", "cpr-exec"]:
        yield SPAWN, "mode cpr-exec starts another QEMU"


def argument_needs(words: Sequence[str]) -> Iterator[tuple[str, _Need]]:
    """Yield (option, need) for the words of a command line."""
    for option, value in zip(words, [*words[1:], ""]):
        name = option[1:] if option.startswith("--") else option
        for need in _argument_needs(name, value):
            yield option, need


def _argument_needs(name: str, value: str) -> Iterator[_Need]:
    if name in ("-netdev", "-nic", "-net"):
        yield from netdev_needs(_parsed(value, "type"))
    elif name == "-runas" or name == "-run-with" and re.search(r"(^|,)user=", value):
        yield PRIVILEGES, "it changes the user of QEMU"


def _parsed(text: str, head: str) -> dict[str, Any]:
    """Return the properties of an option string; head: the key of a first word without one."""
    properties: dict[str, Any] = {}
    if text.lstrip().startswith("{"):
        with contextlib.suppress(ValueError):
            properties = json.loads(text)
        return properties
    for word in re.split(r"(?<!,),(?!,)", text.strip().strip('"')):
        key, equals, value = word.partition("=")
        if equals and key == "guestfwd":
            properties.setdefault(key, []).append(value)
        elif equals:
            properties[key] = value
        elif not properties:
            properties[head] = word
    return properties
