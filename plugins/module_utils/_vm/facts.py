# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Facts, never changes: of the VMs under a root, of images, of the host."""

from __future__ import annotations

import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    MonitorError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.accelerators import kvm_status
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binaries import (
    find_program,
    find_qemu_img,
    host_architecture,
    list_binaries,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import (
    get_capabilities,
    nic_models,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import GuestAgent
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qemu_img import QemuImg
from ansible_collections.vlab.qemu.plugins.module_utils._vm import cpu_limit
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import (
    Folder,
    check_name,
    default_root,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image import describe
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import observe
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
    definitions,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.memory import host_memory
from ansible_collections.vlab.qemu.plugins.module_utils._vm.report import report

_PROGRAMS = ("socat", "swtpm", "passt", "cpulimit", "ssh", "tcpdump")


def vms(root, lab=None, name=None, ask_agent=False, agent_timeout=2):
    """The result dicts of the VMs under root, of one lab or all, of one name or all; and warnings about those that cannot be read.

    ask_agent: ask the guest agents for addresses, waiting agent_timeout seconds for each.
    """
    root = os.path.abspath(root or default_root())
    for option, value in (("lab", lab), ("name", name)):
        if value is not None:
            check_name(option, value)
    found, warnings = [], []
    for its_lab, its_name, _definition in definitions(root):
        if lab not in (None, its_lab) or name not in (None, its_name):
            continue
        try:
            found.append(_vm(Folder(root, its_lab, its_name), ask_agent, agent_timeout))
        except VlabError as error:
            warnings.append("%s/%s: %s" % (its_lab, its_name, error.message))
            found.append(
                {"name": its_name, "lab": its_lab, "status": "unknown", "error": error.message}
            )
    return found, warnings


def _vm(folder, ask_agent, agent_timeout):
    observation = observe(folder)
    try:
        told = report(observation, observation.saved)
    finally:
        observation.close()
    if ask_agent and observation.alive and told.get("agent"):
        _add_agent_addresses(told, agent_timeout)
    return told


def _add_agent_addresses(told, timeout):
    """Addresses as the guest tells them, each with the NIC whose MAC it has."""
    nics = {nic["mac"]: nic for nic in told["nics"]}
    try:
        with GuestAgent(told["agent"], timeout) as agent:
            interfaces = agent.interfaces()
    except (GuestError, MonitorError) as error:
        told["agent_error"] = error.message
        return
    for interface in interfaces:
        nic = nics.get((interface.get("mac") or "").lower())
        if nic is not None:
            nic["guest_name"] = interface["name"]
            known = {entry["address"] for entry in nic["addresses"]}
            nic["addresses"] += [
                {"address": address, "port": None, "source": "agent"}
                for address in interface["addresses"]
                if address not in known
            ]


def image_chain(path):
    """The dicts of an image and the bases under it, the image first. Raises VlabError."""
    qemu_img = QemuImg(find_qemu_img())
    chain, here = [], os.path.abspath(path)
    while here:
        chain.append(describe(here, qemu_img))
        here = chain[-1]["backing_file"]
        if here and not os.path.exists(here):
            chain[-1]["backing_missing"] = True
            break
    return chain


def host():
    """What this hypervisor can do: its QEMUs, KVM and why not, memory, processors, programs."""
    memory = host_memory()
    told = {
        "arch": host_architecture(),
        "cpus": len(os.sched_getaffinity(0)),
        "root": default_root(),
        "memory_mb": {
            "total": memory.get("MemTotal", 0) >> 20,
            "available": memory.get("MemAvailable", 0) >> 20,
        },
        "hugepages": {
            "size_kb": memory.get("Hugepagesize", 0) >> 10,
            "total": memory.get("HugePages_Total", 0),
            "free": memory.get("HugePages_Free", 0),
        },
        "programs": {name: find_program(name) for name in _PROGRAMS},
        "qemu": [],
        "kvm": None,
        "accel": None,
    }
    try:
        told["qemu_img"] = find_qemu_img()
    except VlabError:
        told["qemu_img"] = None
    try:
        told["cpu_limit"] = cpu_limit.find_means()[0]
    except VlabError:
        told["cpu_limit"] = None
    warnings = []
    for path, arch in list_binaries():
        try:
            known = get_capabilities(path)
        except VlabError as error:
            warnings.append(error.message)
            continue
        status = kvm_status(path, arch, known)
        entry = {
            "path": path,
            "arch": arch,
            "version": ".".join(map(str, known.version)),
            "version_text": known.version_text,
            "default_machine": known.default_machine,
            "accelerators": sorted(known.accelerators),
            "nic_models": nic_models(known),
            "netdevs": sorted(known.netdev_types),
            "kvm": {"usable": status.usable, "reason": status.reason, "cause": status.cause},
        }
        told["qemu"].append(entry)
        if arch == told["arch"] and told["kvm"] is None:
            told["kvm"] = entry["kvm"]
            told["accel"] = "kvm" if status.usable else "tcg"
    if told["kvm"] is None:
        told["kvm"] = {
            "usable": False,
            "reason": "no QEMU for %s is installed" % told["arch"],
            "cause": "not_built_in",
        }
    return told, warnings
