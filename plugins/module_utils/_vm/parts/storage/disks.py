# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Disks as the definition keeps them, and the block nodes and devices they become."""

from __future__ import annotations

import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import parse_size
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.images import normalise_checksum
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import check_properties
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses

BUSES = ["virtio", "scsi", "ide", "sata", "nvme", "usb", "sd", "floppy", "pflash"]
FORMATS = ["qcow2", "raw", "qcow", "qed", "vdi", "vmdk", "vpc", "vhdx", "luks"]
_LIMITS = ("bps_total", "bps_read", "bps_write", "iops_total", "iops_read", "iops_write")
_HOT_PLUGGED = ("virtio", "scsi", "nvme", "usb")
# What the serial number of a device may be long; QEMU cuts or refuses more.
_SERIAL_LENGTH = {"virtio": 20, "ide": 20, "sata": 20, "scsi": 36, "nvme": 20}
# How a cache mode is said to -blockdev: direct and no-flush of the file, write-cache of the device. Source: qemu(1), -drive cache=.
_CACHE = {
    "writeback": (False, False, True),
    "none": (True, False, True),
    "writethrough": (False, False, False),
    "directsync": (True, False, False),
    "unsafe": (False, True, True),
}
_ERROR_BUSES = ("virtio", "scsi", "ide", "sata")
_HIGHEST_RATE = 10**15  # QEMU, include/qemu/throttle.h, THROTTLE_VALUE_MAX

# What a disk is besides its image: the suboptions that qemu_disk has, too.
ATTACHMENT_SPEC = {
    "bus": {"type": "str", "choices": BUSES},
    "index": {"type": "int"},
    "cache": {"type": "str", "choices": list(_CACHE)},
    "aio": {"type": "str", "choices": ["threads", "native", "io_uring"]},
    "discard": {"type": "bool"},
    "detect_zeroes": {"type": "str", "choices": ["off", "on", "unmap"]},
    "werror": {"type": "str", "choices": ["report", "ignore", "enospc", "stop"]},
    "rerror": {"type": "str", "choices": ["report", "ignore", "stop"]},
    "serial": {"type": "str"},
    "boot_index": {"type": "int"},
    "read_only": {"type": "bool"},
    "snapshot": {"type": "bool"},
    "limits": {"type": "dict", "options": {key: {"type": "str"} for key in _LIMITS}},
}
IMAGE_SPEC = {
    "path": {"type": "path"},
    "size": {"type": "str"},
    "format": {"type": "str", "choices": FORMATS},
    "format_options": {"type": "dict"},
    "backing_file": {"type": "path", "aliases": ["backing_store"]},
    "backing_format": {"type": "str", "choices": FORMATS},
    "checksum": {"type": "str"},
    "checksum_first_mib": {"type": "str"},
}
DISK_SPEC = dict({"name": {"type": "str", "required": True}}, **IMAGE_SPEC, **ATTACHMENT_SPEC)

DEFAULTS = {
    "path": None,
    "size": None,
    "format": None,
    "format_options": {},
    "backing_file": None,
    "backing_format": None,
    "checksum": None,
    "checksum_first_mib": None,
    "bus": "virtio",
    "index": None,
    "cache": "writeback",
    "aio": "threads",
    "discard": True,
    "detect_zeroes": "off",
    "werror": None,
    "rerror": None,
    "serial": None,
    "boot_index": None,
    "read_only": False,
    "snapshot": False,
    "limits": {},
}


def normalise_disk(path, given):
    """What the user said of one disk, as the definition keeps it. path: of the disk, such as disks[root]. Raises OptionError."""
    disk = {key: value for key, value in given.items() if value is not None}
    path += "." if path else ""
    for key in ("path", "backing_file"):
        if disk.get(key):
            disk[key] = image_path(path + key, disk[key])
    if "size" in disk:
        disk["size"] = image_size(path + "size", disk["size"])
    for key in ("checksum", "checksum_first_mib"):
        if disk.get(key):
            disk[key] = normalise_checksum(path + key, disk[key])
    if "format_options" in disk:
        check_properties(path + "format_options", disk["format_options"], nested=False)
        disk["format_options"] = {
            key: str(value).lower() if isinstance(value, bool) else str(value)
            for key, value in disk["format_options"].items()
            if value is not None
        }
    if "limits" in disk:
        disk["limits"] = {
            key: _rate("%slimits.%s" % (path, key), value)
            for key, value in disk["limits"].items()
            if value not in (None, "", "0")
        }
        for kind in ("bps", "iops"):
            if kind + "_total" in disk["limits"] and {kind + "_read", kind + "_write"} & set(
                disk["limits"]
            ):
                raise OptionError(
                    "%slimits.%s_total" % (path, kind),
                    "it cannot go with %s_read or %s_write" % (kind, kind),
                )
    if disk.get("backing_file") and disk.get("path") == disk["backing_file"]:
        raise OptionError(path + "backing_file", "an image cannot be its own base")
    return disk


def image_path(path, value):
    """An absolute path of an image. Raises OptionError for what no file can be called."""
    if "\0" in value:
        raise OptionError(path, "%r has a NUL character" % value)
    return os.path.abspath(os.path.expanduser(value))


def image_size(path, value):
    """Bytes; images are made of sectors of 512 bytes. Raises OptionError."""
    size = parse_size(path, value)
    if size < 512 or size % 512:
        raise OptionError(path, "%r is not a whole number of sectors of 512 bytes" % value)
    return size


def _rate(path, value):
    rate = parse_size(path, value)
    if rate > _HIGHEST_RATE:
        raise OptionError(path, "%r is more than QEMU can count" % value)
    return rate


def check_bus(path, bus, family):
    """Whether a machine has a bus. Raises OptionError."""
    if bus == "ide" and family not in ("i440fx", "q35"):
        raise OptionError(path + ".bus", "this machine has no IDE: use virtio or scsi")
    if family == "none" and bus in ("sata", "nvme", "usb", "sd"):
        raise OptionError(path + ".bus", "this machine has no PCI bus for it: use virtio")
    if bus in ("floppy",) and family not in ("i440fx", "q35"):
        raise OptionError(path + ".bus", "this machine has no floppy drive")


def check(disk, path, family, capabilities):
    """Options of one disk against each other and the QEMU at hand. Raises OptionError."""
    bus = disk["bus"]
    check_bus(path, bus, family)
    if disk["aio"] == "native" and not _CACHE[disk["cache"]][0]:
        raise OptionError(path + ".aio", "native needs cache: none or directsync")
    if disk["aio"] == "io_uring" and not capabilities.at_least(5, 0):
        raise OptionError(
            path + ".aio", "io_uring needs QEMU 5.0; this is %s" % capabilities.version_text
        )
    for key in ("werror", "rerror"):
        if disk[key] and bus not in _ERROR_BUSES:
            raise OptionError("%s.%s" % (path, key), "disks on %s do not have it" % bus)
    if disk["read_only"] and bus in ("ide", "sata"):
        raise OptionError(
            path + ".read_only",
            "a disk on %s cannot be read only: use another bus, a cdrom, or snapshot" % bus,
        )
    if disk["serial"]:
        most = _SERIAL_LENGTH.get(bus)
        if most is None:
            raise OptionError(path + ".serial", "disks on %s have no serial number" % bus)
        if len(disk["serial"].encode("utf-8")) > most:
            raise OptionError(
                path + ".serial",
                "%r is too long: %d bytes at most on %s" % (disk["serial"], most, bus),
            )


def slot_kind(bus, family):
    """The kind of slot for a disk on a bus: q35 has its IDE disks on AHCI."""
    if bus == "ide" and family == "q35":
        return "sata"
    return "pci" if bus in ("virtio", "nvme") else bus


def is_hot_plugged(bus):
    """Whether a disk on this bus can come and go while the guest runs."""
    return bus in _HOT_PLUGGED


def node(disk, identifier, path):
    """The block node of a disk, as -blockdev and blockdev-add take it. path: of the image file."""
    direct, no_flush, _write_cache = _CACHE[disk["cache"]]
    cache = {"direct": direct, "no-flush": no_flush}
    block = is_block_device(path)
    file_node = {
        "driver": "host_device" if block else "file",
        "filename": path,
        "aio": disk["aio"],
        "cache": cache,
        "discard": "unmap" if disk["discard"] else "ignore",
    }
    made = {
        "driver": disk["format"],
        "read-only": disk["read_only"],
        "cache": cache,
        "file": file_node,
        "discard": "unmap" if disk["discard"] else "ignore",
        "detect-zeroes": disk["detect_zeroes"],
    }
    if disk["read_only"]:
        file_node["read-only"] = True
    if disk["limits"]:
        return {
            "driver": "throttle",
            "node-name": identifier,
            "throttle-group": group_id(identifier),
            "file": made,
            "read-only": disk["read_only"],
            "cache": cache,
        }
    made["node-name"] = identifier
    return made


def is_block_device(path):
    """Whether the image is a device of the host, not a file."""
    try:
        return (os.stat(path).st_mode & 0o170000) == 0o060000
    except OSError:
        return False


def group_id(identifier):
    """The id of the throttle group of a disk."""
    return identifier + "-limits"


def group(disk, identifier):
    """The throttle group of a disk, as object-add takes it."""
    return {
        "qom-type": "throttle-group",
        "id": group_id(identifier),
        "limits": throttle(disk["limits"]),
    }


def throttle(limits):
    """The limits of a throttle group: bytes and requests a second, 0 for none. Source: QEMU, docs/throttle.txt."""
    return {key.replace("_", "-"): limits.get(key, 0) for key in _LIMITS}


def device(disk, identifier, slot, family, arch):
    """The device of a disk, as device_add takes it; None for flash, which is a property of the machine."""
    bus, index = disk["bus"], slot["index"]
    made = {"id": identifier, "drive": identifier, "bootindex": disk["boot_index"]}
    if bus in ("virtio", "scsi", "ide", "sata", "usb"):
        made["write-cache"] = "on" if _CACHE[disk["cache"]][2] else "off"
    if bus in _SERIAL_LENGTH:
        made["serial"] = disk["serial"] or (("vlab-" + identifier)[:20] if bus == "nvme" else None)
    made.update({"werror": disk["werror"], "rerror": disk["rerror"]} if bus in _ERROR_BUSES else {})
    if bus == "virtio":
        suffix = "ccw" if arch == "s390x" else "device" if family == "none" else "pci"
        made.update({"driver": "virtio-blk-" + suffix, **addresses.pci(family, slot)})
    elif bus == "nvme":
        made.update({"driver": "nvme", **addresses.pci(family, slot)})
    elif bus == "scsi":
        made.update(
            {"driver": "scsi-hd", "bus": "scsi.0", "channel": 0, "scsi-id": index, "lun": 0}
        )
    elif bus in ("ide", "sata"):
        made.update({"driver": "ide-hd", **ide_unit(family, slot)})
    elif bus == "usb":
        made.update({"driver": "usb-storage", "bus": "usb.0", "port": str(index + 1)})
    elif bus == "sd":
        made.update({"driver": "sd-card", "bus": "sd-bus"})
        del made["bootindex"]
    elif bus == "floppy":
        made.update({"driver": "floppy", "unit": index})
    else:
        return None
    return {key: value for key, value in made.items() if value is not None}


def ide_unit(family, slot):
    """bus and unit of an IDE or SATA device: q35 has AHCI built in, i440fx gets a controller called sata."""
    index = slot["index"]
    if slot["kind"] == "ide":
        return {"bus": "ide.%d" % (index // 2), "unit": index % 2}
    return {"bus": ("ide.%d" if family == "q35" else "sata.%d") % index}


def controllers(kinds, family, arch):
    """The controllers that disks on these kinds of slot need, as devices."""
    made = []
    if "scsi" in kinds:
        suffix = "ccw" if arch == "s390x" else "device" if family == "none" else "pci"
        made.append(
            {"driver": "virtio-scsi-" + suffix, "id": "scsi", **addresses.single(family, "scsi")}
        )
    if "sata" in kinds and family != "q35":
        made.append({"driver": "ahci", "id": "sata", **addresses.single(family, "sata")})
    if "sd" in kinds:
        made.append({"driver": "sdhci-pci", "id": "sd", **addresses.single(family, "sd")})
    if "floppy" in kinds and family == "q35":
        made.append({"driver": "isa-fdc", "id": "fdc"})
    return made
