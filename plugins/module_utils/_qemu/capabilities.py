# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What a QEMU binary can do: it is asked once, and the answer is kept in a cache file for as long as the binary is the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import select
import subprocess
import tempfile
import time
import typing

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_private_folder,
    read_json,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import start_program

_FORMAT = 1  # of the cache file: raise it when a field changes its meaning

# A list of accelerators, so that a binary without TCG answers on a host without KVM too.
_ARGUMENTS = (
    "-machine",
    "none,accel=tcg:qtest:kvm",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-S",
    "-qmp",
    "stdio",
)

# In the category of network devices, but they take no netdev, or work under Xen only.
_NOT_A_NIC = frozenset(("pvrdma", "rocker", "igbvf", "xen-net-device"))

# Built as modules, devices come and go without a change of the binary: these folders tell.
_MODULE_FOLDERS = (
    "/usr/lib/%s-linux-gnu/qemu" % platform.machine(),
    "/usr/lib64/qemu",
    "/usr/lib/qemu",
)


class Capabilities(typing.NamedTuple):
    """What one QEMU binary can do. Names are QEMU's own."""

    version: tuple  # (10, 0, 13)
    version_text: str  # 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)
    machines: dict  # {name: {alias?, default?, deprecated?, cpu_max, hotpluggable_cpus}}; aliases: see machine_name()
    commands: frozenset  # of QMP
    device_types: frozenset  # that -device can name, and those that only boards use
    device_aliases: dict  # {alias: device type}, such as virtio-net: virtio-net-pci
    pci_devices: frozenset
    nic_devices: frozenset  # device types that take a netdev
    object_types: frozenset  # for -object, such as filter-dump
    netdev_types: frozenset  # that were built in, such as vde
    chardev_types: frozenset
    cpu_models: frozenset
    accelerators: frozenset  # that were built in, such as tcg, kvm
    options: dict  # {command line option without its dash: frozenset of its parameters}

    @property
    def default_machine(self):
        """The machine type of a QEMU without -machine; None for architectures without one."""
        return next((name for name, facts in self.machines.items() if facts.get("default")), None)

    @property
    def has_kvm(self):
        """KVM was built in. Whether it works is another question: see the room accelerators."""
        return "kvm" in self.accelerators

    @property
    def json_object(self):
        """-object takes JSON (QEMU 6.0)."""
        return self.at_least(6, 0)

    def at_least(self, major, minor=0):
        """The version is major.minor or newer."""
        return self.version >= (major, minor)

    def machine_name(self, name):
        """The real name of a machine type or of an alias such as q35; None when this QEMU has neither."""
        if name in self.machines:
            return name
        return next(
            (real for real, facts in self.machines.items() if facts.get("alias") == name), None
        )

    def device_name(self, name):
        """The real name of a device type or of an alias such as virtio-net; None when this QEMU has neither."""
        name = self.device_aliases.get(name, name)
        return name if name in self.device_types else None

    def has_device(self, name):
        """There is a device type, or an alias of one, with this name."""
        return self.device_name(name) is not None

    def has_netdev(self, kind):
        """-netdev knows this type."""
        return kind in self.netdev_types

    def has_option(self, option, parameter=None):
        """The command line has this option (named without its dash), with this parameter."""
        return option in self.options and (parameter is None or parameter in self.options[option])


def nic_models(known):
    """The device types that are NICs, sorted. known: Capabilities."""
    return sorted(known.nic_devices)


def cache_folder():
    """Where answers are kept by default: /var/cache/vlab for root, $XDG_CACHE_HOME/vlab or ~/.cache/vlab for others."""
    if os.geteuid() == 0:
        return "/var/cache/vlab"
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vlab")


def get_capabilities(path, cache=None, timeout=30):
    """The Capabilities of the QEMU binary at path.

    cache: the folder of the cache, default cache_folder(); one that cannot be used is no error. timeout: seconds for one answer of all.
    Raises HostError, with cmd and stderr, for a binary that cannot be run or does not answer.
    """
    identity = binary_identity(path)
    file = cache_file(path, "capabilities", cache)
    known = _remembered(file, identity)
    if known is None:
        known = _ask(path, timeout)
        write_cached(file, identity, _as_json(known))
    return known


def binary_identity(path):
    """What changes when the binary is another one: [real path, size, time of change in ns, inode, times of the module folders in ns].

    Raises HostError when there is no such file.
    """
    real = os.path.realpath(path)
    try:
        state = os.stat(real)
    except OSError as error:
        raise HostError("cannot use the QEMU binary %s: %s" % (path, error.strerror), path=path)
    times = []
    for folder in _MODULE_FOLDERS:
        with contextlib.suppress(OSError):
            times.append(os.stat(folder).st_mtime_ns)
    return [real, state.st_size, state.st_mtime_ns, state.st_ino, times]


def cache_file(path, subject, cache=None):
    """The path of the cache file on a subject (a word) for the binary at path."""
    real = os.path.realpath(path)
    mark = hashlib.sha256(os.fsencode(real)).hexdigest()[:12]
    return os.path.join(
        cache or cache_folder(), "%s-%s-%s.json" % (subject, os.path.basename(real), mark)
    )


def read_cached(file, identity):
    """What was remembered under identity (a JSON value); None when nothing was, or the file is damaged or about something else."""
    try:
        kept = read_json(file)
    except HostError:
        return None
    if (
        isinstance(kept, dict)
        and kept.get("format") == _FORMAT
        and kept.get("identity") == identity
    ):
        return kept.get("answer")
    return None


def write_cached(file, identity, answer):
    """Keep an answer (a JSON value) for recall(). A cache that cannot be written is no error: the question is then asked again."""
    with contextlib.suppress(HostError):
        make_private_folder(os.path.dirname(file))
        write_json(file, {"format": _FORMAT, "identity": identity, "answer": answer})


def _as_json(known):
    plain = {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in known._asdict().items()
    }
    return dict(
        plain,
        version=list(known.version),
        options={name: sorted(words) for name, words in known.options.items()},
    )


def _remembered(file, identity):
    answer = read_cached(file, identity)
    try:
        values = {
            name: frozenset(value) if isinstance(value, list) else value
            for name, value in answer.items()
        }
        values["version"] = tuple(answer["version"])
        values["options"] = {name: frozenset(words) for name, words in answer["options"].items()}
        return Capabilities(**values)
    except (TypeError, KeyError, AttributeError):
        return None


def _ask(path, timeout):
    """Start the binary without a machine and ask it everything: one process, some 60 ms."""
    argv = [path] + list(_ARGUMENTS)
    with tempfile.TemporaryFile() as errors:
        try:
            # stdin stays open until the end: QEMU drops the commands it has not come to when its monitor is closed.
            process = start_program(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                env=dict(os.environ, LC_ALL="C"),
            )
        except OSError as error:
            raise HostError("cannot run %s: %s" % (path, error.strerror), cmd=argv, stderr="")
        try:
            return _conversation(process, time.monotonic() + timeout)
        except (OSError, ValueError, LookupError, TypeError) as error:
            process.kill()
            code = process.wait()
            errors.seek(0)
            text = errors.read()[-4096:].decode("utf-8", "replace").strip()
            raise HostError(
                "%s does not answer as QEMU does (%s): %s"
                % (
                    path,
                    error,
                    text or ("it ended with code %d" % code if code >= 0 else "it said nothing"),
                ),
                cmd=argv,
                rc=code,
                stderr=text,
            )
        finally:
            process.stdin.close()
            process.stdout.close()


def _conversation(process, deadline):
    lines = _lines(process.stdout.fileno(), deadline)

    def ask(command, **arguments):
        process.stdin.write(
            json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
        )
        reply = next(reply for reply in lines if "return" in reply or "error" in reply)
        return reply.get("return")

    def types(**arguments):
        return frozenset(
            entry["name"] for entry in ask("qom-list-types", abstract=False, **arguments)
        )

    def text(line):
        return ask("human-monitor-command", **{"command-line": line}) or ""

    version = next(lines)["QMP"]["version"]
    number = tuple(version["qemu"][part] for part in ("major", "minor", "micro"))
    ask("qmp_capabilities")
    # The built-in netdev types are in no QMP answer: query-qmp-schema lists also those that were not built. Nor are the categories
    # and the aliases of devices; asking each device for a property called netdev takes long, and some builds abort at some devices.
    # So these two are read from the text that -netdev help and -device help print, here without a process for each.
    devices, nics, aliases = types(implements="device"), set(), {}
    for section in re.split(r"\n\s*\n", text("device_add help")):
        for name, alias in re.findall(
            r'^name "([^"]+)"(?:.*?, alias "([^"]+)")?', section, re.MULTILINE
        ):
            if section.lstrip().startswith("Network devices") and name not in _NOT_A_NIC:
                nics.add(name)
            if alias:
                aliases[alias] = name
    netdevs = frozenset(text("netdev_add help").split("types:")[-1].split())
    models = ask("query-cpu-definitions")
    known = Capabilities(
        version=number,
        version_text=".".join(str(part) for part in number)
        + (" (%s)" % version["package"].strip(" ()") if version.get("package") else ""),
        machines={machine["name"]: _machine(machine) for machine in ask("query-machines")},
        commands=frozenset(command["name"] for command in ask("query-commands")),
        device_types=devices,
        device_aliases=aliases,
        pci_devices=types(implements="pci-device"),
        nic_devices=frozenset(nics),
        object_types=types(implements="user-creatable"),
        netdev_types=netdevs,
        chardev_types=frozenset(name[len("chardev-") :] for name in types(implements="chardev")),
        # Architectures without query-cpu-definitions name their models in their types: cortex-m3-arm-cpu.
        cpu_models=frozenset(re.sub(r"-[^-]+-cpu$", "", name) for name in types(implements="cpu"))
        if models is None
        else frozenset(model["name"] for model in models),
        accelerators=frozenset(
            name[: -len("-accel")] for name in types(implements="accel") if name.endswith("-accel")
        ),
        options={
            option["option"]: frozenset(parameter["name"] for parameter in option["parameters"])
            for option in ask("query-command-line-options")
            if option["option"]
        },
    )
    ask("quit")
    process.wait(max(0, deadline - time.monotonic()))
    return known


def _machine(machine):
    facts = {"cpu_max": machine["cpu-max"], "hotpluggable_cpus": machine["hotpluggable-cpus"]}
    if machine.get("alias"):
        facts["alias"] = machine["alias"]
    if machine.get("is-default"):
        facts["default"] = True
    if machine.get("deprecated"):
        facts["deprecated"] = True
    return facts


def _lines(handle, deadline):
    """The JSON values that come from a descriptor, one a line. Raises LookupError at its end, TimeoutError at the deadline."""
    waiting = b""
    while True:
        line, mark, rest = waiting.partition(b"\n")
        if mark:
            waiting = rest
            yield json.loads(line)
            continue
        if not select.select([handle], [], [], max(0, deadline - time.monotonic()))[0]:
            raise TimeoutError("no answer in time")
        data = os.read(handle, 1 << 18)
        if not data:
            raise LookupError("it ended")
        waiting += data
