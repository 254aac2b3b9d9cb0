# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The command line of QEMU: the arguments of every part, in an order that QEMU accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses, ports
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.machine import choose_accelerator

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host


def build(definition: Definition, host: Host) -> list[str]:
    """Return the argv that starts the VM stopped (-S), without QEMU's default devices."""
    host.machine_properties = {}
    arguments = [word for part in PARTS for word in part.arguments(definition, host)]
    head = [host.binary, "-S", "-nodefaults", "-no-user-config", "-pidfile", host.folder.pidfile]
    for part in PARTS:
        head += part.leading_arguments(definition, host)
    head += addresses.bus_arguments(definition["family"], definition["slots"])
    incoming = ["-incoming", host.incoming] if host.incoming else []
    wrapper, extra = definition["wrapper"], definition["extra_args"]
    return [*wrapper, *head, *arguments, *incoming, *extra]


def of_next_start(definition: Definition, host: Host) -> list[str] | None:
    """Return the argv of the next start of a VM that does not run; None if it cannot start.

    Ports that the VM does not hold yet are those that are free now. host: its accelerator is chosen
    unless a plan has done so.
    """
    try:
        host.find(definition["arch"], definition["qemu_binary"] or None)
        if not host.accel:
            choose_accelerator(definition, host)
        if definitions.lacks_ports(definition):
            free = ports.preview(host.folder, definitions.port_requests(definition))
            definition = dict(definition, ports=free)
        return build(definition, host)
    except VlabError:
        return None
