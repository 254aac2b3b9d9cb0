# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Memory: its size and backend, and whether the host has enough."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import FILE
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_text
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import parse_size
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import qom_object
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Option, Part

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition, Result
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
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

    def arguments(self, desired: Definition, host: Host) -> list[str]:
        words = ["-m", "%dM" % desired["memory"]]
        if desired["memory_backend"]:
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
