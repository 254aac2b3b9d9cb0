# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The QEMU objects of one disk: its block node, device and limits, and the controllers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Collection, Dict, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import encryption
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses, binary_checks
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disk_options import LIMITS

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import Capabilities
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host

# A disk as the definition keeps it: its name and all suboptions.
Disk = Dict[str, Any]


class _Controller(NamedTuple):
    """A SCSI controller. driver: its device. units: how many drives it can have.

    is_hot_plugged: whether the guest learns from it that a disk comes or goes.
    """

    driver: str
    units: int
    is_hot_plugged: bool = False


# The driver of virtio depends on the machine. Source: QEMU, hw/scsi, struct SCSIBusInfo of each; 7
# is the ID of an LSI controller itself.
SCSI_CONTROLLERS = {
    "virtio": _Controller("virtio-scsi-", addresses.UNITS["scsi"], True),
    "pvscsi": _Controller("pvscsi", 64, True),
    "megasas": _Controller("megasas", 64),
    "mptsas1068": _Controller("mptsas1068", 8),
    "lsilogic": _Controller("lsi53c895a", 7),
    "lsi53c810": _Controller("lsi53c810", 7),
}
_HOT_PLUGGED = ("virtio", "scsi", "nvme", "usb")
_ERROR_BUSES = ("virtio", "scsi", "ide", "sata")
_WRITE_CACHE_BUSES = ("virtio", "scsi", "ide", "sata", "usb")
# The maximum length of a serial number; QEMU truncates or refuses longer ones.
_SERIAL_LENGTH = {"virtio": 20, "ide": 20, "sata": 20, "scsi": 36, "nvme": 20}
# The device of each bus; that of virtio depends on the machine.
_DRIVERS = {
    "nvme": "nvme",
    "scsi": "scsi-hd",
    "ide": "ide-hd",
    "sata": "ide-hd",
    "usb": "usb-storage",
    "sd": "sd-card",
    "floppy": "floppy",
}
# A cache mode as -blockdev takes it: direct and no-flush of the file, write-cache of the device.
# Source: qemu(1), -drive cache=.
_CACHE = {
    "writeback": (False, False, True),
    "none": (True, False, True),
    "writethrough": (False, False, False),
    "directsync": (True, False, False),
    "unsafe": (False, True, True),
}


def check_bus(path: str, bus: str, family: str) -> None:
    """Raise OptionError if machines of this family do not have a bus."""
    if bus == "ide" and family not in ("i440fx", "q35"):
        raise OptionError(path + ".bus", "this machine has no IDE: use virtio or scsi")
    if family == "none" and bus in ("sata", "nvme", "usb", "sd"):
        raise OptionError(path + ".bus", "this machine has no PCI bus for it: use virtio")
    if bus == "floppy" and family not in ("i440fx", "q35"):
        raise OptionError(path + ".bus", "this machine has no floppy drive")


def check(disk: Disk, path: str, family: str, capabilities: Capabilities) -> None:
    """Check the suboptions of a disk against each other and this QEMU. Raises OptionError."""
    bus = disk["bus"]
    check_bus(path, bus, family)
    if disk["aio"] == "native" and not _CACHE[disk["cache"]][0]:
        raise OptionError(path + ".aio", "native requires cache: none or directsync")
    if disk["aio"] == "io_uring" and not capabilities.at_least(5, 0):
        raise OptionError(
            path + ".aio", "io_uring requires QEMU 5.0; this is %s" % capabilities.version_text
        )
    for key in ("werror", "rerror"):
        if disk[key] and bus not in _ERROR_BUSES:
            raise OptionError("%s.%s" % (path, key), "disks on %s do not support it" % bus)
    if disk["read_only"] and bus in ("ide", "sata"):
        raise OptionError(
            path + ".read_only",
            "a disk on %s cannot be read only: use another bus, a cdrom, or snapshot" % bus,
        )
    if disk["properties"] and bus == "pflash":
        raise OptionError(path + ".properties", "a disk on pflash is no device")
    if disk["serial"]:
        _check_serial(path + ".serial", disk["serial"], bus)


def check_secret(disk: Disk, path: str, image: str) -> None:
    """Check the secret of a disk with a new image, or of a new disk. image: its path.

    Raises OptionError and ImageError.
    """
    secret_file, image_format = disk["secret_file"], disk["format"]
    exists = os.path.exists(image)
    if exists:
        encryption.check_encryption(path + ".path", image, image_format, secret_file)
    if disk["backing_file"]:
        encryption.check_encryption(
            path + ".backing_file", disk["backing_file"], disk["backing_format"], secret_file
        )
    if not secret_file:
        if image_format == "luks":
            raise OptionError(
                path + ".secret_file",
                "the format luks needs it: a file on the hypervisor with the passphrase",
            )
        return
    if exists and not encryption.is_encrypted(image, image_format):
        raise OptionError(
            path + ".secret_file",
            "%s is not encrypted: omit secret_file, or copy the image with qemu_disk" % image,
        )
    if not exists and image_format not in encryption.ENCRYPTED_FORMATS:
        raise OptionError(
            path + ".secret_file",
            "a new image of format %s cannot be encrypted: use qcow2 or luks" % image_format,
        )


def _check_serial(path: str, serial: str, bus: str) -> None:
    maximum = _SERIAL_LENGTH.get(bus)
    if maximum is None:
        raise OptionError(path, "disks on %s have no serial number" % bus)
    if len(serial.encode("utf-8")) > maximum:
        raise OptionError(path, "%r is too long: %d bytes at most on %s" % (serial, maximum, bus))


def slot_key(name: str) -> str:
    """Return the key of a disk in definition["slots"]."""
    return "disks/%s" % name


def slot_kind(bus: str, family: str) -> str:
    """Return the kind of slot of a disk on a bus: on q35, IDE disks are on AHCI."""
    if bus == "ide" and family == "q35":
        return "sata"
    return "pci" if bus in ("virtio", "nvme") else bus


def fixed_reason(bus: str, scsi_controller: str, what: str) -> str:
    """Return why a disk cannot come or go while the guest runs; empty if it can.

    what: plugged in or unplugged.
    """
    if bus not in _HOT_PLUGGED:
        return "a disk on %s cannot be %s" % (bus, what)
    if bus == "scsi" and not SCSI_CONTROLLERS[scsi_controller].is_hot_plugged:
        return "the guest does not learn from the SCSI controller %s that a disk comes or goes" % (
            scsi_controller
        )
    return ""


def has_scsi(slots: addresses.Slots) -> bool:
    """Return whether a VM with these slots has a SCSI controller."""
    return any(slot["kind"] == "scsi" for slot in slots.values())


def check_scsi(desired: dict[str, Any], host: Host) -> None:
    """Check the SCSI controller, if there is one, and the units on it. Raises OptionError."""
    option, name = "scsi_controller", desired["scsi_controller"]
    if name == "virtio" or not has_scsi(desired["slots"]):
        return
    if desired["family"] == "none":
        raise OptionError(option, "this machine has no PCI bus for %s: use virtio" % name)
    binary_checks.check_driver(option, SCSI_CONTROLLERS[name].driver, host)
    last = SCSI_CONTROLLERS[name].units - 1
    for key, slot in desired["slots"].items():
        if slot["kind"] == "scsi" and slot["index"] > last:
            raise OptionError(
                option,
                "%s has the units 0 to %d, and %s has the unit %d: use virtio or fewer drives"
                % (name, last, key, slot["index"]),
            )


def block_node(disk: Disk, identifier: str, path: str) -> dict[str, Any]:
    """Return the block node of a disk as -blockdev and blockdev-add take it.

    path: of the image.
    """
    direct, no_flush, _write_cache = _CACHE[disk["cache"]]
    cache = {"direct": direct, "no-flush": no_flush}
    discard = "unmap" if disk["discard"] else "ignore"
    file_node = {
        **encryption.file_node(path),
        "aio": disk["aio"],
        "cache": cache,
        "discard": discard,
    }
    if disk["read_only"]:
        file_node["read-only"] = True
    format_node = {
        "driver": disk["format"],
        "read-only": disk["read_only"],
        "cache": cache,
        "file": file_node,
        "discard": discard,
        "detect-zeroes": disk["detect_zeroes"],
    }
    if disk["secret_file"]:
        options = encryption.node_options(path, disk["format"], secret_id(identifier))
        format_node = {**options, **format_node}
    if not disk["limits"]:
        return dict(format_node, **{"node-name": identifier})
    return {
        "driver": "throttle",
        "node-name": identifier,
        "throttle-group": group_id(identifier),
        "file": format_node,
        "read-only": disk["read_only"],
        "cache": cache,
    }


def secret_id(identifier: str) -> str:
    """Return the ID of the secret of a disk."""
    return identifier + "-secret"


def secret(disk: Disk, identifier: str) -> dict[str, Any]:
    """Return the secret of an encrypted disk as object-add takes it."""
    return encryption.secret(secret_id(identifier), disk["secret_file"])


def root_node(monitor: Monitor, identifier: str) -> str:
    """Return the block node that the device of a disk reads: after a snapshot it is another one."""
    blocks = monitor.execute("query-block")
    for block in blocks if isinstance(blocks, list) else ():
        if identifier in str(block.get("qdev")).split("/") and block.get("inserted"):
            return str(block["inserted"].get("node-name") or identifier)
    return identifier


def group_id(identifier: str) -> str:
    """Return the ID of the throttle group of a disk."""
    return identifier + "-limits"


def throttle_group(disk: Disk, identifier: str) -> dict[str, Any]:
    """Return the throttle group of a disk as object-add takes it."""
    return {
        "qom-type": "throttle-group",
        "id": group_id(identifier),
        "limits": throttle_limits(disk["limits"]),
    }


def throttle_group_object(disk: Disk, identifier: str) -> dict[str, Any]:
    """Return the throttle group of a disk for -object.

    There, limits begin with x- before QEMU 6.2. JSON and qom-set do not need that.
    """
    group = throttle_group(disk, identifier)
    limits = group.pop("limits")
    return {**group, **{"x-" + key: value for key, value in limits.items() if value}}


def throttle_limits(limits: dict[str, int]) -> dict[str, int]:
    """Return the limits of a throttle group: bytes and requests per second, 0 for no limit.

    Source: QEMU, docs/throttle.txt.
    """
    return {key.replace("_", "-"): limits.get(key, 0) for key in LIMITS}


def device(
    disk: Disk, identifier: str, slot: addresses.Slot, family: str, arch: str
) -> dict[str, Any] | None:
    """Return the device of a disk as device_add takes it; None for flash, a machine property."""
    bus = disk["bus"]
    if bus == "pflash":
        return None
    properties = {"id": identifier, "drive": identifier, "bootindex": disk["boot_index"]}
    if bus in _WRITE_CACHE_BUSES:
        properties["write-cache"] = "on" if _CACHE[disk["cache"]][2] else "off"
    if bus in _SERIAL_LENGTH:
        # NVMe requires a serial number.
        default = ("vlab-" + identifier)[: _SERIAL_LENGTH[bus]] if bus == "nvme" else None
        properties["serial"] = disk["serial"] or default
    if bus in _ERROR_BUSES:
        properties.update({"werror": disk["werror"], "rerror": disk["rerror"]})
    if bus == "sd":
        del properties["bootindex"]
    properties.update(_bus_device(bus, slot, family, arch))
    properties.update(disk["properties"])
    return {key: value for key, value in properties.items() if value is not None}


def check_properties(disk: Disk, family: str, host: Host) -> None:
    """Check the names of the properties of a disk. Raises OptionError."""
    if disk["properties"]:
        driver = _driver(disk["bus"], family, host.arch)
        path = "disks[%s].properties" % disk["name"]
        binary_checks.check_device(path, driver, disk["properties"], host)


def _driver(bus: str, family: str, arch: str) -> str:
    if bus == "virtio":
        return "virtio-blk-" + addresses.virtio_suffix(family, arch)
    return _DRIVERS[bus]


def _bus_device(bus: str, slot: addresses.Slot, family: str, arch: str) -> dict[str, Any]:
    """Return the driver and the address of a disk's device."""
    index = slot["index"]
    address: dict[str, Any] = {"unit": index}
    if bus in ("virtio", "nvme"):
        address = addresses.pci(family, slot)
    elif bus == "scsi":
        address = {"bus": "scsi.0", "channel": 0, "scsi-id": index, "lun": 0}
    elif bus in ("ide", "sata"):
        address = ide_unit(family, slot)
    elif bus == "usb":
        address = {"bus": "usb.0", "port": str(index + 1)}
    elif bus == "sd":
        address = {"bus": "sd-bus"}
    return {"driver": _driver(bus, family, arch), **address}


def ide_unit(family: str, slot: addresses.Slot) -> dict[str, Any]:
    """Return bus and unit of an IDE or SATA device.

    q35 has AHCI built in, i440fx gets a controller named sata.
    """
    index = slot["index"]
    if slot["kind"] == "ide":
        return {"bus": "ide.%d" % (index // 2), "unit": index % 2}
    return {"bus": ("ide.%d" if family == "q35" else "sata.%d") % index}


def controllers(
    kinds: Collection[str], family: str, arch: str, scsi_controller: str
) -> list[dict[str, Any]]:
    """Return the controllers, as devices, that disks in these kinds of slots need."""
    devices: list[dict[str, Any]] = []
    if "scsi" in kinds:
        driver = SCSI_CONTROLLERS[scsi_controller].driver
        if scsi_controller == "virtio":
            driver += addresses.virtio_suffix(family, arch)
        devices.append({"driver": driver, "id": "scsi", **addresses.single(family, "scsi")})
    if "sata" in kinds and family != "q35":
        devices.append({"driver": "ahci", "id": "sata", **addresses.single(family, "sata")})
    if "sd" in kinds:
        devices.append({"driver": "sdhci-pci", "id": "sd", **addresses.single(family, "sd")})
    if "floppy" in kinds and family == "q35":
        devices.append({"driver": "isa-fdc", "id": "fdc"})
    return devices
