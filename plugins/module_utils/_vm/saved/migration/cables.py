# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The links of a VM that moves.

They are unplugged on the origin while its guest is stopped, and plugged in on the target before the
guest continues. The guest keeps its cards and their carriers.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    MonitorError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import object_add
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm import ports
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import (
    capture_changes,
    dhcp_changes,
    link_changes,
    links,
    nic_devices,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.backends import udp_ends
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_options import NO_LINK

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import Capabilities
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Command, Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_devices import Nic


def _pluggable(definition: Definition) -> list[Nic]:
    """Return the NICs whose links can be plugged in while QEMU runs."""
    return [
        nic
        for nic in definition["nics"]
        if nic["link"]["type"] != "none" and not links.is_direct(nic["link"])
    ]


# On the origin.


def cables(
    definition: Definition, folder: Folder, capabilities: Capabilities
) -> dict[str, dict[str, Any]]:
    """Return the links to peers as links with addresses, by NIC: what they are on this host."""
    found = {}
    for nic in definition["nics"]:
        if "peer" in nic["link"]:
            context = nic_devices.link_context(nic, definition, folder, capabilities)
            ends = udp_ends(nic["link"], context)
            found[nic["name"]] = {
                "type": "udp",
                "local_address": ends.local[0],
                "local_port": ends.local[1],
                "remote_address": ends.remote[0],
                "remote_port": ends.remote[1],
            }
    return found


def unplug(monitor: Monitor, definition: Definition) -> None:
    """Unplug the links of a stopped guest, so that another QEMU can have their ports and paths."""
    commands: list[Command] = []
    for nic in _pluggable(definition):
        ids = nic_devices.nic_ids(definition, nic["name"])
        commands += [("netdev_del", {"id": ids.plug}), ("netdev_del", {"id": ids.link})]
    monitor.batch(commands)


def plug_again(
    monitor: Monitor, definition: Definition, folder: Folder, capabilities: Capabilities
) -> None:
    """Plug the links of a stopped guest in again, whether unplug has unplugged them or not.

    They are unplugged first: QEMU 5.2 ends when it is given a plug that it has.
    """
    unplug(monitor, definition)
    monitor.batch(
        [
            ("netdev_add", backend)
            for nic in _pluggable(definition)
            for backend in nic_devices.backends(nic, definition, folder, capabilities)[1:]
        ]
    )
    qemu = dhcp_changes.Qemu(monitor, folder, capabilities, monitor.peer_pid or 0)
    for nic in _pluggable(definition):
        with contextlib.suppress(VlabError):  # the next run starts what is missing
            dhcp_changes.start(nic, nic_devices.nic_ids(definition, nic["name"]), qemu)


# On the target.


def unplugged(definition: Definition) -> Definition:
    """Return a definition to start with: with the links, another QEMU would lose its frames."""
    waiting = {nic["name"] for nic in _pluggable(definition)}
    nics = [
        dict(nic, link=dict(NO_LINK), capture=None) if nic["name"] in waiting else nic
        for nic in definition["nics"]
    ]
    return dict(definition, nics=nics)


def addressed(definition: Definition, found: dict[str, dict[str, Any]]) -> Definition:
    """Return a definition with addresses instead of peers. found: of cables."""
    nics = []
    for nic in definition["nics"]:
        link = nic["link"]
        if nic["name"] in found and "peer" in link:
            kept = {key: value for key, value in link.items() if key in ("impair", "options")}
            link = {**found[nic["name"]], **kept}
        nics.append(dict(nic, link=link))
    return dict(definition, nics=nics)


def with_ports(definition: Definition, folder: Folder, held: Definition) -> Definition:
    """Return a definition with the ports that it is to have.

    Those that the system chooses are allocated now. Others may still be those of the QEMU that the
    VM leaves, and are registered later. held: the definition that the VM was started with.
    """
    requests = definitions.port_requests(definition)
    started = {request.key for request in definitions.port_requests(held)}
    now = [request for request in requests if request.port == "auto" or request.key in started]
    found = ports.claim(folder, now)
    fixed = {request.key: int(request.port) for request in requests if request.port != "auto"}
    return dict(plain_copy(definition), ports={**fixed, **found})


def plug(definition: Definition, live: Live) -> None:
    """Plug in the links of a guest that has arrived and is stopped. Raises MonitorError.

    Those that a killed run has plugged in are plugged in again. Rings of captures begin with
    copy_captures, when the guest runs.
    """
    captures = [
        nic_devices.nic_ids(definition, nic["name"]).capture
        for nic in _pluggable(definition)
        if nic["capture"]
    ]
    live.monitor.batch([("object-del", {"id": name}) for name in captures])
    capture_changes.prepare(definition, live.host)
    unplug(live.monitor, definition)
    link_changes.start_wires(definition, live)
    commands: list[Command] = []
    for nic in definition["nics"]:
        name = nic_devices.device_id(definition, nic["name"])
        up = nic_devices.has_carrier(nic)
        commands.append(("set_link", {"name": name, "up": up}))
    for nic in _pluggable(definition):
        created = nic_devices.backends(nic, definition, live.folder, live.capabilities)
        commands += [("netdev_add", backend) for backend in created[1:]]
        if nic["capture"]:
            capture = nic_devices.capture_filter(nic, definition, live.folder)
            commands.append(("object-add", object_add(capture, live.capabilities.json_object)))
    for reply in live.monitor.batch(commands):
        if isinstance(reply, MonitorError):
            raise reply
    qemu = dhcp_changes.qemu_of(live)
    for nic in _pluggable(definition):
        dhcp_changes.start(nic, nic_devices.nic_ids(definition, nic["name"]), qemu)


def copy_captures(definition: Definition, live: Live) -> None:
    """Start the process of the rings of captures of a guest that has arrived.

    The guest runs here already, so an error is no reason to return to the origin: the next run
    starts the process.
    """
    with contextlib.suppress(HostError):
        capture_changes.start_rotation(definition, live)
