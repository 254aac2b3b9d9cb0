# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The facts of a hypervisor that placement needs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    existing_folder,
    free_space,
    read_text,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab import lab_record
from ansible_collections.vlab.qemu.plugins.module_utils._lab.moved import has_state
from ansible_collections.vlab.qemu.plugins.module_utils._lab.switch import switch_facts
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.accelerators import kvm_status
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binaries import find_qemu
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import get_capabilities
from ansible_collections.vlab.qemu.plugins.module_utils._vm.container import application_container
from ansible_collections.vlab.qemu.plugins.module_utils._vm.facts import vm_facts
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder, root_folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image_folder import image_folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.memory import host_memory

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Result

_UNLIMITED = 1 << 60


def hypervisor_facts(
    root: str | None, lab: str, files: Sequence[str], image_dir: str | None = None
) -> tuple[Result, list[str]]:
    """Return the facts of this host, and warnings.

    files: paths; missing ones are reported. image_dir: the folder that relative ones are in.
    """
    root = root_folder(root)
    images = image_folder(root, image_dir)
    facts: Result = {
        "lab": lab,
        "root": root,
        **available_resources(root),
        "qemu_version": None,
        "accel": None,
        "container": application_container(),
        "udp_ports": _bound_udp_ports(),
        "missing_files": [path for path in files if not os.path.exists(os.path.join(images, path))],
    }
    vms, warnings = vm_facts(root, lab)
    facts["vms"] = {vm["name"]: _vm_summary(root, lab, vm) for vm in vms}
    facts["switches"] = switch_facts(root, lab)
    try:
        record = lab_record.read(os.path.join(root, lab))
        facts["record"] = lab_record.to_text(record) if record.revision else None
    except VlabError as error:
        facts["record"] = None
        warnings.append(error.message)
    try:
        path, arch = find_qemu()
        capabilities = get_capabilities(path)
        facts["qemu_version"] = list(capabilities.version)
        facts["accel"] = "kvm" if kvm_status(path, arch, capabilities).usable else "tcg"
    except VlabError as error:
        warnings.append(error.message)
    return facts, warnings


def _vm_summary(root: str, lab: str, vm: Result) -> Result:
    folder = Folder(root, lab, vm["name"])
    summary = {
        "status": vm["status"],
        "memory_mb": vm.get("memory_mb"),
        "has_state": has_state(folder, vm["status"], vm.get("disks")),
    }
    impaired = [nic for nic in vm.get("nics", ()) if "impairment" in nic]
    if impaired:
        summary["impairments"] = {nic["name"]: nic["impairment"] for nic in impaired}
    return summary


def available_resources(root: str) -> dict[str, int]:
    """Return what is left for VMs under root: memory_available_mb, cpus, disk_free_mb."""
    return {
        # A kernel that does not report its available memory limits nothing.
        "memory_available_mb": host_memory().get("MemAvailable", _UNLIMITED) >> 20,
        "cpus": len(os.sched_getaffinity(0)),
        "disk_free_mb": free_space(existing_folder(root)) >> 20,
    }


def _bound_udp_ports() -> list[int]:
    """Return the UDP ports that programs of this host have bound."""
    ports = set()
    for path in ("/proc/net/udp", "/proc/net/udp6"):
        for line in (read_text(path) or "").splitlines()[1:]:
            ports.add(int(line.split()[1].rpartition(":")[2], 16))
    return sorted(ports)
