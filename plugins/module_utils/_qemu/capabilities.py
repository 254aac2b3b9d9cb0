# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Find out what a QEMU binary supports. The answers are cached until the binary changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
from typing import Any, Dict, FrozenSet, NamedTuple, Optional, Tuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_private_folder,
    read_json,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binary_session import (
    Ask,
    ask_binary,
)
from ansible_collections.vlab.qemu.plugins.module_utils._remote.cache_folder import cache_folder

_FORMAT = 4  # of the cache file: raise it when a field changes its meaning

# In the category of network devices, but without a netdev, or for Xen only.
_NOT_A_NIC = frozenset(("pvrdma", "rocker", "igbvf", "xen-net-device"))

# Devices that are built as modules come and go while the binary stays: these folders then change.
_MODULE_FOLDERS = (
    "/usr/lib/%s-linux-gnu/qemu" % platform.machine(),
    "/usr/lib64/qemu",
    "/usr/lib/qemu",
)


class Capabilities(NamedTuple):
    """What one QEMU binary supports. Names are QEMU's own."""

    version: Tuple[int, ...]  # (10, 0, 13)
    version_text: str  # 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)
    # {name: {alias?, default?, deprecated?, ram_id?, cpu_max, hotpluggable_cpus}}; aliases:
    # machine_name(); ram_id: of the backend of its memory
    machines: Dict[str, Dict[str, Any]]
    device_types: FrozenSet[str]  # for -device, and those that only boards use
    device_aliases: Dict[str, str]  # {alias: device type}, such as virtio-net: virtio-net-pci
    pci_devices: FrozenSet[str]
    device_buses: Dict[str, str]  # {device type for -device: the type of its bus, such as usb-bus}
    nic_devices: FrozenSet[str]  # device types with a netdev
    netdev_types: FrozenSet[str]  # built in, such as vde
    accelerators: FrozenSet[str]  # built in, such as tcg, kvm
    options: Dict[str, FrozenSet[str]]  # {command line option without its dash: its parameters}

    @property
    def default_machine(self) -> Optional[str]:
        """The machine type of a QEMU without -machine; None for architectures without a default."""
        return next((name for name, facts in self.machines.items() if facts.get("default")), None)

    @property
    def has_kvm(self) -> bool:
        """Whether KVM was built in. Whether it works: see the module accelerators."""
        return "kvm" in self.accelerators

    @property
    def json_object(self) -> bool:
        """Whether -object accepts JSON (QEMU 6.0)."""
        return self.at_least(6, 0)

    def at_least(self, major: int, minor: int = 0) -> bool:
        """Return whether the version is major.minor or newer."""
        return self.version >= (major, minor)

    def machine_name(self, name: str) -> Optional[str]:
        """Return the real name of a machine type or of an alias such as q35; None if unknown."""
        if name in self.machines:
            return name
        return next(
            (real for real, facts in self.machines.items() if facts.get("alias") == name), None
        )

    def device_name(self, name: str) -> Optional[str]:
        """Return the real name of a device type or of an alias such as virtio-net, or None."""
        name = self.device_aliases.get(name, name)
        return name if name in self.device_types else None

    def has_device(self, name: str) -> bool:
        """Return whether a device type, or an alias of one, has this name."""
        return self.device_name(name) is not None

    def has_netdev(self, kind: str) -> bool:
        """Return whether -netdev supports this type."""
        return kind in self.netdev_types

    def has_option(self, option: str, parameter: Optional[str] = None) -> bool:
        """Return whether the command line has this option (without its dash) and parameter."""
        return option in self.options and (parameter is None or parameter in self.options[option])


def nic_models(capabilities: Capabilities) -> list[str]:
    """Return the sorted device types that are NICs."""
    return sorted(capabilities.nic_devices)


def get_capabilities(path: str, cache: str | None = None, timeout: float = 30) -> Capabilities:
    """Return the Capabilities of the QEMU binary at path.

    cache: the folder of the cache, default cache_folder(); if it cannot be used, that is no error.
    timeout: seconds for all answers together.
    Raises HostError, with cmd and stderr, for a binary that does not run or does not answer.
    """
    identity = binary_identity(path)
    file = cache_file(path, "capabilities", cache)
    capabilities = _from_json(read_cached(file, identity))
    if capabilities is None:
        capabilities = ask_binary(path, _ask_all, timeout)
        write_cached(file, identity, _to_json(capabilities))
    return capabilities


def binary_identity(path: str) -> list[Any]:
    """Return values that change with the binary.

    They are: real path, size, modification time in ns, inode, modification times of the module
    folders in ns. Raises HostError if there is no such file.
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


def cache_file(path: str, subject: str, cache: str | None = None) -> str:
    """Return the path of the cache file on a subject (a word) for the binary at path."""
    real = os.path.realpath(path)
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:12]
    return os.path.join(
        cache or cache_folder(), "%s-%s-%s.json" % (subject, os.path.basename(real), digest)
    )


def read_cached(file: str, identity: object) -> Any:
    """Return the answer cached for identity (a JSON value).

    None if the file is missing, damaged or for another identity.
    """
    try:
        content = read_json(file)
    except HostError:
        return None
    if (
        isinstance(content, dict)
        and content.get("format") == _FORMAT
        and content.get("identity") == identity
    ):
        return content.get("answer")
    return None


def write_cached(file: str, identity: object, answer: object) -> None:
    """Cache an answer (a JSON value) for read_cached().

    A cache that cannot be written is no error: the binary is then asked again.
    """
    with contextlib.suppress(HostError):
        make_private_folder(os.path.dirname(file))
        write_json(file, {"format": _FORMAT, "identity": identity, "answer": answer})


def _to_json(capabilities: Capabilities) -> dict[str, Any]:
    plain = {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in capabilities._asdict().items()
    }
    return dict(
        plain,
        version=list(capabilities.version),
        options={name: sorted(words) for name, words in capabilities.options.items()},
    )


def _from_json(answer: Any) -> Capabilities | None:
    try:
        values: dict[str, Any] = {
            name: frozenset(value) if isinstance(value, list) else value
            for name, value in answer.items()
        }
        values["version"] = tuple(answer["version"])
        values["options"] = {name: frozenset(words) for name, words in answer["options"].items()}
        return Capabilities(**values)
    except (TypeError, KeyError, AttributeError):
        return None


def _ask_all(ask: Ask, version: dict[str, Any]) -> Capabilities:
    def types(base: str) -> frozenset[str]:
        return frozenset(
            entry["name"] for entry in ask("qom-list-types", abstract=False, implements=base)
        )

    number = tuple(version["qemu"][part] for part in ("major", "minor", "micro"))
    package = " (%s)" % version["package"].strip(" ()") if version.get("package") else ""
    nics, aliases, buses = _nics_aliases_and_buses(_help_text(ask, "device_add help"))
    return Capabilities(
        version=number,
        version_text=".".join(str(part) for part in number) + package,
        machines={machine["name"]: _machine(machine) for machine in ask("query-machines")},
        device_types=types("device"),
        device_aliases=aliases,
        pci_devices=types("pci-device"),
        device_buses=buses,
        nic_devices=nics,
        # query-qmp-schema also lists types that were not built in.
        netdev_types=frozenset(_help_text(ask, "netdev_add help").split("types:")[-1].split()),
        accelerators=frozenset(
            name[: -len("-accel")] for name in types("accel") if name.endswith("-accel")
        ),
        options={
            option["option"]: frozenset(parameter["name"] for parameter in option["parameters"])
            for option in ask("query-command-line-options")
            if option["option"]
        },
    )


def _help_text(ask: Ask, command_line: str) -> str:
    """Return the output of a human monitor command, for what no QMP command reports."""
    return ask("human-monitor-command", **{"command-line": command_line}) or ""


def _nics_aliases_and_buses(
    device_help: str,
) -> tuple[frozenset[str], dict[str, str], dict[str, str]]:
    """Return the device types that are NICs, {alias: device type}, and {device type: bus}.

    QMP reports none of them. Asking each device for a property called netdev would be slow, and
    some builds abort at some devices.
    """
    nics, aliases, buses = set(), {}, {}
    for section in re.split(r"\n\s*\n", device_help):
        for name, bus, alias in re.findall(
            r'^name "([^"]+)"(?:, bus ([\w-]+))?(?:.*?, alias "([^"]+)")?', section, re.MULTILINE
        ):
            if section.lstrip().startswith("Network devices") and name not in _NOT_A_NIC:
                nics.add(name)
            if alias:
                aliases[alias] = name
            if bus:
                buses[name] = bus
    return frozenset(nics), aliases, buses


def _machine(machine: dict[str, Any]) -> dict[str, Any]:
    facts = {"cpu_max": machine["cpu-max"], "hotpluggable_cpus": machine["hotpluggable-cpus"]}
    if machine.get("alias"):
        facts["alias"] = machine["alias"]
    if machine.get("default-ram-id"):
        facts["ram_id"] = machine["default-ram-id"]
    if machine.get("is-default"):
        facts["default"] = True
    if machine.get("deprecated"):
        facts["deprecated"] = True
    return facts
