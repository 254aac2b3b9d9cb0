# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Memory: its size and backend, and whether the host has enough."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import FILE
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    OptionError,
    report_os_errors,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_text, remove_file
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import parse_size
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import qom_object
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Option, Part

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition, Result
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host, MemoryFile
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation


def _mebibytes(path: str, value: str) -> int:
    size, rest = divmod(parse_size(path, value, unit="m"), 1 << 20)
    if rest or size < 1:
        raise OptionError(path, "%r is not a whole number of MiB" % value)
    return size


def _backend(path: str, value: dict[str, Any]) -> dict[str, bool] | None:
    return {key: True for key, desired in value.items() if desired} or None


def host_memory() -> dict[str, int]:
    """Return the fields of /proc/meminfo, in bytes; HugePages_* are counts."""
    fields = {}
    for name, number, unit in re.findall(
        r"^(\S+):\s+(\d+)( kB)?$", read_text("/proc/meminfo") or "", re.MULTILINE
    ):
        fields[name] = int(number) * (1024 if unit else 1)
    return fields


def ram_id(definition: Definition, host: Host) -> str | None:
    """Return the ID of the memory of a machine, which is in saved states; None if it has none."""
    machine = host.capabilities.machine_name(host.machine_type or definition["machine"])
    return host.capabilities.machines.get(machine or "", {}).get("ram_id")


def _mapped(
    definition: Definition, host: Host, file: MemoryFile, identifier: str
) -> dict[str, Any]:
    """Return the object that maps the memory from a file. Since QEMU 8.2, rom separates its cases.

    Source: QEMU, qapi/qom.json, MemoryBackendFileProperties.
    """
    is_read_only = not file.is_shared and host.capabilities.at_least(8, 2)
    return {
        "qom-type": "memory-backend-file",
        "id": identifier,
        "size": definition["memory"] << 20,
        "mem-path": file.path,
        "share": file.is_shared,
        **({"readonly": True, "rom": False} if is_read_only else {}),
    }


class Memory(Part):
    """The part that owns the memory."""

    name = "memory"
    options = {
        "memory": Option({"type": "str"}, 256, normalise=_mebibytes),
        "memory_backend": Option(
            {
                "type": "dict",
                "options": {
                    "hugepages": {"type": "bool"},
                    "prealloc": {"type": "bool"},
                    "share": {"type": "bool"},
                },
            },
            normalise=_backend,
        ),
        "check_host_memory": Option({"type": "bool"}, True, how=FILE),
    }

    def sharing_blockers(self, definition: Definition) -> list[str]:
        return ["memory_backend: it has other memory"] if definition["memory_backend"] else []

    def check_start(self, desired: Definition, host: Host) -> None:
        backend = desired["memory_backend"] or {}
        have = host_memory()
        need = desired["memory"] << 20
        if backend and not host.capabilities.at_least(5, 0):
            raise OptionError(
                "memory_backend",
                "QEMU %s cannot do it: 5.0 or later can" % host.capabilities.version_text,
            )
        if backend.get("hugepages"):
            page = have.get("Hugepagesize", 0)
            free = have.get("HugePages_Free", 0) * page
            if not page or free < need:
                raise HostError(
                    "memory_backend.hugepages: %d MiB are needed, but %d MiB of huge pages are"
                    " free: reserve more (sysctl vm.nr_hugepages), or set hugepages: false"
                    % (desired["memory"], free >> 20)
                )
        elif desired["check_host_memory"] and have.get("MemAvailable", need) < need:
            raise HostError(
                "memory: %d MiB are requested, but the host has %d MiB available: lower memory,"
                " stop other VMs, or set check_host_memory: false"
                % (desired["memory"], have["MemAvailable"] >> 20)
            )

    def before_launch(self, desired: Definition, host: Host) -> None:
        """Create the file that the memory is mapped from. Others may still have the former one."""
        if host.memory_file and host.memory_file.is_shared and ram_id(desired, host):
            path = host.memory_file.path
            remove_file(path)
            with report_os_errors("cannot create %s for the memory of the guest" % path):
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                try:
                    os.ftruncate(handle, desired["memory"] << 20)
                finally:
                    os.close(handle)

    def arguments(self, desired: Definition, host: Host) -> list[str]:
        words = ["-m", "%dM" % desired["memory"]]
        identifier = ram_id(desired, host)
        if host.memory_file and identifier:
            host.machine_properties["memory-backend"] = identifier
            words += qom_object(_mapped(desired, host, host.memory_file, identifier))
        elif desired["memory_backend"]:
            backend = desired["memory_backend"]
            words += qom_object(
                {
                    "qom-type": "memory-backend-memfd",
                    "id": "ram",
                    "size": desired["memory"] << 20,
                    "hugetlb": backend.get("hugepages"),
                    "prealloc": backend.get("prealloc"),
                    "share": backend.get("share", False),
                }
            )
        return words

    def report(self, definition: Definition, observation: Observation, result: Result) -> None:
        result["memory_mb"] = definition["memory"]
