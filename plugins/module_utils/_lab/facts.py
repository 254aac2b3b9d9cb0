# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What a hypervisor has for a lab, as placement wants to know it."""

from __future__ import annotations

import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_text
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.accelerators import kvm_status
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binaries import find_qemu
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import get_capabilities
from ansible_collections.vlab.qemu.plugins.module_utils._vm.container import application_container
from ansible_collections.vlab.qemu.plugins.module_utils._vm.facts import vms
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import default_root
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.memory import host_memory


def hypervisor(root, lab, files):
    """The facts of this host, and warnings. files: paths; those that are missing are told."""
    root = os.path.abspath(root or default_root())
    told = {
        "lab": lab,
        **room(root),
        "qemu_version": None,
        "accel": None,
        "container": application_container(),
        "udp_ports": _udp_ports(),
        "missing_files": [path for path in files if not os.path.exists(path)],
    }
    found, warnings = vms(root, lab)
    told["vms"] = {
        vm["name"]: {"status": vm["status"], "memory_mb": vm.get("memory_mb")} for vm in found
    }
    try:
        path, arch = find_qemu()
        known = get_capabilities(path)
        told["qemu_version"] = list(known.version)
        told["accel"] = "kvm" if kvm_status(path, arch, known).usable else "tcg"
    except VlabError as error:
        warnings.append(error.message)
    return told, warnings


def room(root):
    """What this host has left for VMs under root: memory_available_mb, cpus, disk_free_mb."""
    while not os.path.isdir(root):
        root = os.path.dirname(root)
    space = os.statvfs(root)
    # A kernel that does not tell its free memory refuses nothing.
    return {
        "memory_available_mb": host_memory().get("MemAvailable", 1 << 60) >> 20,
        "cpus": len(os.sched_getaffinity(0)),
        "disk_free_mb": space.f_bavail * space.f_frsize >> 20,
    }


def _udp_ports():
    """The UDP ports that programs of this host hold."""
    ports = set()
    for path in ("/proc/net/udp", "/proc/net/udp6"):
        for line in (read_text(path) or "").splitlines()[1:]:
            ports.add(int(line.split()[1].rpartition(":")[2], 16))
    return sorted(ports)
