# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""How a running VM gets the DHCP options of its user links.

QEMU's DHCP server cannot send others, so the frames of its backend go through a filter to a process
of the VM and back. Its chardevs and the filter exist only while the process runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import remove_file
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import object_add
from ansible_collections.vlab.qemu.plugins.module_utils._vm import dhcp_programs
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.dhcp_options import (
    encoded,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import Capabilities
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_devices import (
        Nic,
        NicIds,
    )

OPTION = "dhcp_options"


class Qemu(NamedTuple):
    """A running QEMU."""

    monitor: Monitor
    folder: Folder
    capabilities: Capabilities
    pid: int


def qemu_of(live: Live) -> Qemu:
    """Return the QEMU of a running VM under change."""
    return Qemu(live.monitor, live.folder, live.capabilities, live.pid)


# Observe.


def observe(observation: Observation) -> None:
    """Remove from the recorded definition the options that no process adds."""
    for nic in observation.running["nics"]:
        given = nic["link"].get(OPTION)
        if given and dhcp_programs.options(observation.folder, nic["name"]) != encoded(given):
            nic["link"] = {key: value for key, value in nic["link"].items() if key != OPTION}


# Apply.


def start(nic: Nic, ids: NicIds, qemu: Qemu) -> None:
    """Let a NIC that has its backend have its options, and no others. Raises a VlabError."""
    stop(nic["name"], ids, qemu)
    given = nic["link"].get(OPTION)
    if not given:
        return
    dhcp_programs.prepare(qemu.folder, nic["name"])
    paths = _sockets(ids, qemu)
    try:
        for name, path in paths.items():
            remove_file(path)
            qemu.monitor.execute("chardev-add", {"id": name, "backend": _listening(path)})
        target, source = paths.values()
        settings = {"source": source, "target": target, "options": encoded(given)}
        dhcp_programs.start(qemu.folder, qemu.pid, nic["name"], settings)
        # It comes last: it passes on what the process reads, and without one, nothing.
        redirector = _redirector(ids, *paths)
        qemu.monitor.execute("object-add", object_add(redirector, qemu.capabilities.json_object))
    except VlabError:
        stop(nic["name"], ids, qemu)
        raise


def stop(name: str, ids: NicIds, qemu: Qemu) -> None:
    """End what start has begun, also in a run that was killed; name: of the NIC."""
    if not dhcp_programs.exists(qemu.folder, name):
        return
    paths = _sockets(ids, qemu)
    qemu.monitor.batch(
        [("object-del", {"id": _filter_id(ids)})]
        + [("chardev-remove", {"id": chardev}) for chardev in paths]
    )
    dhcp_programs.end(qemu.folder, name)
    for path in paths.values():
        remove_file(path)


def _filter_id(ids: NicIds) -> str:
    return "dhcp%d" % ids.hub


def _sockets(ids: NicIds, qemu: Qemu) -> dict[str, str]:
    """Return the chardevs with their sockets: what QEMU reads, then what it writes."""
    names = ["%s-%s" % (_filter_id(ids), end) for end in ("in", "out")]
    return {name: qemu.folder.socket(name + ".sock") for name in names}


def _listening(path: str) -> dict[str, Any]:
    address = {"type": "unix", "data": {"path": path}}
    return {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}


def _redirector(ids: NicIds, read: str, written: str) -> dict[str, Any]:
    return {
        "qom-type": "filter-redirector",
        "id": _filter_id(ids),
        "netdev": ids.link,
        "queue": "tx",  # what the backend sends
        "indev": read,
        "outdev": written,
    }
