# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Facts of the VMs under a root, of images, and of the host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

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
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.image_files import identity
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qemu_img import QemuImg
from ansible_collections.vlab.qemu.plugins.module_utils._vm import command_line, cpu_limit
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import (
    Folder,
    check_name,
    default_root,
    root_folder,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image import describe
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import observe
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.memory import host_memory
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
    vm_names,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.report import report

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Result,
    )

_PROGRAMS = ("socat", "swtpm", "passt", "cpulimit", "ssh", "tcpdump")


def vm_facts(
    root: str | None,
    lab: str | None = None,
    name: str | None = None,
    ask_agent: bool = False,
    agent_timeout: float = 2,
    with_definition: bool = False,
) -> tuple[list[Result], list[str]]:
    """Return the results of the VMs under root, and a warning for each that cannot be read.

    lab, name: only VMs of this lab, of this name. ask_agent: ask the guest agents for addresses,
    for at most agent_timeout seconds each. with_definition: add the definition in the words of
    qemu_vm, and the command line of a VM that does not run.
    """
    root = root_folder(root)
    for option, value in (("lab", lab), ("name", name)):
        if value is not None:
            check_name(option, value)
    facts: list[Result] = []
    warnings = []
    for vm_lab, vm_name in vm_names(root):
        if lab not in (None, vm_lab) or name not in (None, vm_name):
            continue
        try:
            folder = Folder(root, vm_lab, vm_name)
            found = _vm_facts(folder, ask_agent, agent_timeout, with_definition)
            facts += [found] if found else []  # what has ended and has no definition is no VM
        except VlabError as error:
            warnings.append("%s/%s: %s" % (vm_lab, vm_name, error.message))
            facts.append(
                {"name": vm_name, "lab": vm_lab, "status": "unknown", "error": error.message}
            )
    return facts, warnings


def _vm_facts(
    folder: Folder, ask_agent: bool, agent_timeout: float, with_definition: bool
) -> Result:
    observation = observe(folder)
    try:
        if observation.damage:
            return {
                "name": folder.name,
                "lab": folder.lab,
                "folder": folder.path,
                "status": observation.status,
                "pid": observation.pid,
                "error": observation.damage.message,
            }
        facts = report(observation, observation.saved)
        if observation.monitor_error:
            facts["error"] = observation.monitor_error.message
        if with_definition and observation.saved:
            _add_definition(facts, folder, observation.saved)
    finally:
        observation.close()
    if ask_agent and observation.alive and facts.get("agent"):
        _add_agent_addresses(facts, agent_timeout)
    return facts


def _add_definition(facts: Result, folder: Folder, definition: Definition) -> None:
    facts["definition"] = definitions.written(folder, definition)
    if facts["command_line"] is None:
        facts["command_line"] = command_line.of_next_start(definition, Host(folder))


def _add_agent_addresses(facts: Result, timeout: float) -> None:
    """Add the addresses that the guest agent reports to the NICs with the same MAC."""
    nics = {nic["mac"]: nic for nic in facts["nics"]}
    try:
        with GuestAgent(facts["agent"], timeout) as agent:
            interfaces = agent.interfaces()
    except (GuestError, MonitorError) as error:
        facts["agent_error"] = error.message
        return
    for interface in interfaces:
        nic = nics.get((interface.get("mac") or "").lower())
        if nic is not None:
            nic["guest_name"] = interface["name"]
            addresses = {entry["address"] for entry in nic["addresses"]}
            nic["addresses"] += [
                {"address": address, "port": None, "source": "agent"}
                for address in interface["addresses"]
                if address not in addresses
            ]


def image_chain(path: str) -> list[dict[str, Any]]:
    """Return the facts of an image and of the bases under it, the image first. Raises VlabError."""
    qemu_img = QemuImg(find_qemu_img())
    chain: list[dict[str, Any]] = []
    next_path: str | None = os.path.abspath(path)
    visited = set()
    while next_path and identity(next_path) not in visited:
        visited.add(identity(next_path))
        chain.append(describe(next_path, qemu_img))
        next_path = chain[-1]["backing_file"]
        if next_path and not os.path.exists(next_path):
            chain[-1]["backing_missing"] = True
            break
    return chain


def host_facts() -> tuple[Result, list[str]]:
    """Return what this hypervisor can do, and warnings about QEMUs that cannot be examined."""
    memory = host_memory()
    facts: Result = {
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
        "qemu_img": _qemu_img_path(),
        "cpu_limit": _cpu_limit_method(),
    }
    binaries, warnings = _binary_facts()
    # KVM is of use for guests of the host's own architecture only.
    native = next((entry for entry in binaries if entry["arch"] == facts["arch"]), None)
    if native:
        facts["kvm"] = native["kvm"]
        facts["accel"] = "kvm" if native["kvm"]["usable"] else "tcg"
    else:
        facts["kvm"] = {
            "usable": False,
            "reason": "no QEMU for %s is installed" % facts["arch"],
            "cause": "not_built_in",
        }
        facts["accel"] = None
    facts["qemu"] = binaries
    return facts, warnings


def _qemu_img_path() -> str | None:
    try:
        return find_qemu_img()
    except VlabError:
        return None


def _cpu_limit_method() -> str | None:
    try:
        method: str = cpu_limit.find_means()[0]
        return method
    except VlabError:
        return None


def _binary_facts() -> tuple[list[dict[str, Any]], list[str]]:
    """Return the facts of each QEMU binary, and warnings."""
    facts, warnings = [], []
    for path, arch in list_binaries():
        try:
            capabilities = get_capabilities(path)
        except VlabError as error:
            warnings.append(error.message)
            continue
        kvm = kvm_status(path, arch, capabilities)
        facts.append(
            {
                "path": path,
                "arch": arch,
                "version": ".".join(map(str, capabilities.version)),
                "version_text": capabilities.version_text,
                "default_machine": capabilities.default_machine,
                "accelerators": sorted(capabilities.accelerators),
                "nic_models": nic_models(capabilities),
                "netdevs": sorted(capabilities.netdev_types),
                "kvm": {"usable": kvm.usable, "reason": kvm.reason, "cause": kvm.cause},
            }
        )
    return facts, warnings
