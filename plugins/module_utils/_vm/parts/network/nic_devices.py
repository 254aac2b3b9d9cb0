# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The QEMU objects of one NIC: its device, backends and capture filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses, buses
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.media import tftp_files
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import links
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.backends import (
    Backend,
    LinkContext,
    backend,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.captures import (
    capture_path,
    is_rotated,
    spool_path,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_options import (
    NIC_DEFAULTS,
    VIRTIO_PROPERTIES,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import Capabilities
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

# A NIC as the definition keeps it: its name and all suboptions.
Nic = Dict[str, Any]

# More MSI-X cards than this run out of the guest's interrupt vectors, about 200 per x86 processor.
_MAX_NICS_WITH_MSIX = 24


class NicIds(NamedTuple):
    """The IDs of a NIC's QEMU objects.

    nic: the device. port: its hub port, or its own backend. link: the backend of its link. plug:
    the hub port of the link. capture: the capture filter. hub: the number of the hub.
    """

    nic: str
    port: str
    link: str
    plug: str
    capture: str
    hub: int


def slot_key(name: str) -> str:
    """Return the key of a NIC in definition["slots"]."""
    return "nics/%s" % name


def nic_ids(definition: Definition, name: str) -> NicIds:
    """Return the IDs of a NIC's objects, which its slot determines."""
    number = definition["slots"][slot_key(name)]["index"]
    return NicIds(
        "nic%d" % number,
        "port%d" % number,
        "link%d" % number,
        "plug%d" % number,
        "capture%d" % number,
        number,
    )


def device_id(definition: Definition, name: str) -> str:
    """Return the ID of a NIC's device."""
    return nic_ids(definition, name).nic


def has_carrier(nic: Nic) -> bool:
    """Return whether the guest shall see a carrier."""
    return bool(nic["link"]["type"] != "none" and not nic["link_down"])


def is_virtio(model: str) -> bool:
    """Return whether a NIC model is a virtio device."""
    return "virtio" in model


def link_context(
    nic: Nic, definition: Definition, folder: Folder, capabilities: Capabilities
) -> LinkContext:
    """Return what the backend of a NIC depends on beside its link."""
    return LinkContext(
        folder.lab,
        folder.name,
        nic["name"],
        definition["ports"],
        capabilities,
        "nics[%s].link" % nic["name"],
        folder.root,
    )


def backends(
    nic: Nic, definition: Definition, folder: Folder, capabilities: Capabilities
) -> list[Backend]:
    """Return the backends of a NIC in the order of their creation, its hub port first.

    A direct link is the only backend of its NIC.
    """
    ids, link = nic_ids(definition, nic["name"]), nic["link"]
    served = tftp_files.folder_of(nic["name"], definition, folder)
    if served and link["type"] == "user":
        link = dict(link, tftp=served)
    context = link_context(nic, definition, folder, capabilities)
    if links.is_direct(link):
        return [backend(ids.port, link, context)]
    hub_port: Backend = {"type": "hubport", "id": ids.port, "hubid": ids.hub}
    if link["type"] == "none":
        return [hub_port]
    plug: Backend = {"type": "hubport", "id": ids.plug, "hubid": ids.hub, "netdev": ids.link}
    return [hub_port, backend(ids.link, link, context), plug]


def device(nic: Nic, definition: Definition, capabilities: Capabilities) -> dict[str, Any]:
    """Return the device of a NIC as device_add takes it."""
    ids = nic_ids(definition, nic["name"])
    is_pci = capabilities.device_name(nic["model"]) in capabilities.pci_devices
    properties = {
        "driver": nic["model"],
        "id": ids.nic,
        "netdev": ids.port,
        "mac": nic["mac"],
        "bootindex": nic["boot_index"],
    }
    if is_pci:
        slot = definition["slots"][slot_key(nic["name"])]
        properties.update(addresses.pci(definition["family"], slot))
        properties["romfile"] = None if nic["boot_rom"] or nic["boot_index"] is not None else ""
    properties.update(buses.usb_port(definition["slots"], slot_key(nic["name"])))
    if is_virtio(nic["model"]):
        for key, name in VIRTIO_PROPERTIES.items():
            properties[name] = nic[key] if nic[key] and nic[key] != NIC_DEFAULTS[key] else None
        properties.update(_queues(nic, is_pci, len(definition["nics"])))
    properties.update(nic["properties"])
    return {key: value for key, value in properties.items() if value is not None}


def _queues(nic: Nic, is_pci: bool, nic_count: int) -> dict[str, Any]:
    queues = nic["link"].get("queues", 1)
    if queues > 1:
        # Two vectors for each queue, one for the configuration and one for control.
        return {"mq": True, "vectors": 2 * queues + 2} if is_pci else {"mq": True}
    return {"vectors": 0} if nic_count > _MAX_NICS_WITH_MSIX and is_pci else {}


def capture_filter(nic: Nic, definition: Definition, folder: Folder) -> dict[str, Any]:
    """Return the capture filter of a NIC as object-add takes it."""
    ids = nic_ids(definition, nic["name"])
    properties = {
        "qom-type": "filter-dump",
        "id": ids.capture,
        "netdev": ids.port,
        "file": spool_path(folder, nic["name"]) if is_rotated(nic) else capture_path(folder, nic),
    }
    if nic["capture"]["snaplen"]:
        properties["maxlen"] = nic["capture"]["snaplen"]
    return properties
