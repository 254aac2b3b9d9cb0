# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The suboptions of a disk: argument specs, topologies and RETURN derive from this table."""

from __future__ import annotations

from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import FILE, LIVE
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.paths import absolute_path
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import format_size, parse_size
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.images import normalise_checksum
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import check_properties
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Option

BUSES = ["virtio", "scsi", "ide", "sata", "nvme", "usb", "sd", "floppy", "pflash"]
FORMATS = ["qcow2", "raw", "qcow", "qed", "vdi", "vmdk", "vpc", "vhdx", "luks"]
CACHE_MODES = ["writeback", "none", "writethrough", "directsync", "unsafe"]
LIMITS = ["bps_total", "bps_read", "bps_write", "iops_total", "iops_read", "iops_write"]
_MAX_RATE = 10**15  # QEMU, include/qemu/throttle.h, THROTTLE_VALUE_MAX
_SECTOR = 512
# Properties of the device that other suboptions set.
_SET_PROPERTIES = (
    "driver",
    "id",
    "drive",
    "bootindex",
    "serial",
    "write-cache",
    "werror",
    "rerror",
)
_SECRET_OPTIONS = ("key-secret", "encrypt.key-secret", "encrypt.format", "encryption")


def image_size(path: str, value: str | int) -> int:
    """Return a size in bytes, a whole number of sectors. Raises OptionError."""
    size = parse_size(path, value)
    if size < _SECTOR or size % _SECTOR:
        raise OptionError(path, "%r is not a whole number of sectors of 512 bytes" % value)
    return size


def _format_options(path: str, value: dict[str, Any]) -> dict[str, str]:
    check_properties(path, value, nested=False)
    for key in _SECRET_OPTIONS:
        if value.get(key) is not None:
            raise OptionError(
                "%s.%s" % (path, key), "give the passphrase with secret_file, which encrypts"
            )
    return {
        key: str(entry).lower() if isinstance(entry, bool) else str(entry)
        for key, entry in value.items()
        if entry is not None
    }


def _properties(path: str, value: dict[str, Any]) -> dict[str, Any]:
    check_properties(path, value, _SET_PROPERTIES)
    return {key: entry for key, entry in value.items() if entry is not None}


def _limits(path: str, value: dict[str, Any]) -> dict[str, int]:
    limits = {
        key: _rate("%s.%s" % (path, key), rate)
        for key, rate in value.items()
        if rate not in (None, "", "0")
    }
    for kind in ("bps", "iops"):
        if kind + "_total" in limits and {kind + "_read", kind + "_write"} & set(limits):
            raise OptionError(
                "%s.%s_total" % (path, kind),
                "it cannot be combined with %s_read or %s_write" % (kind, kind),
            )
    return limits


def _rate(path: str, value: str | int) -> int:
    rate = parse_size(path, value)
    if rate > _MAX_RATE:
        raise OptionError(path, "%r exceeds the maximum of QEMU" % value)
    return rate


# The suboptions of the image, which qemu_disk also supports without a VM. FILE: a change does not
# concern a running VM.
IMAGE_OPTIONS: dict[str, Option] = {
    "path": Option({"type": "path"}, normalise=absolute_path),
    "size": Option({"type": "str"}, how=LIVE, normalise=image_size, written=format_size),
    "format": Option({"type": "str", "choices": FORMATS}),
    "format_options": Option({"type": "dict"}, {}, FILE, _format_options),
    "backing_file": Option({"type": "path", "aliases": ["backing_store"]}, normalise=absolute_path),
    "backing_format": Option({"type": "str", "choices": FORMATS}, how=FILE),
    "checksum": Option({"type": "str"}, how=FILE, normalise=normalise_checksum),
    "checksum_first_mib": Option({"type": "str"}, how=FILE, normalise=normalise_checksum),
    "secret_file": Option({"type": "path", "no_log": False}, how=FILE, normalise=absolute_path),
    "any_content": Option({"type": "bool"}, False, FILE),
}
# The suboptions of the device: how the VM uses the image.
ATTACHMENT_OPTIONS: dict[str, Option] = {
    "bus": Option({"type": "str", "choices": BUSES}, "virtio"),
    "index": Option({"type": "int"}),
    "cache": Option({"type": "str", "choices": CACHE_MODES}, "writeback"),
    "aio": Option({"type": "str", "choices": ["threads", "native", "io_uring"]}, "threads"),
    "discard": Option({"type": "bool"}, True),
    "detect_zeroes": Option({"type": "str", "choices": ["off", "on", "unmap"]}, "off"),
    "werror": Option({"type": "str", "choices": ["report", "ignore", "enospc", "stop"]}),
    "rerror": Option({"type": "str", "choices": ["report", "ignore", "stop"]}),
    "serial": Option({"type": "str"}),
    "boot_index": Option({"type": "int"}),
    "read_only": Option({"type": "bool"}, False),
    "snapshot": Option({"type": "bool"}, False),
    "limits": Option(
        {"type": "dict", "options": {key: {"type": "str"} for key in LIMITS}},
        {},
        LIVE,
        _limits,
    ),
    "properties": Option({"type": "dict"}, {}, normalise=_properties),
}
DISK_OPTIONS = {**IMAGE_OPTIONS, **ATTACHMENT_OPTIONS}

IMAGE_SPEC = {name: option.spec for name, option in IMAGE_OPTIONS.items()}
ATTACHMENT_SPEC = {name: option.spec for name, option in ATTACHMENT_OPTIONS.items()}
DISK_SPEC: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    **IMAGE_SPEC,
    **ATTACHMENT_SPEC,
}
DISK_DEFAULTS = {name: option.default for name, option in DISK_OPTIONS.items()}


def normalise_disk(path: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the suboptions of one disk as the definition keeps them. Raises OptionError.

    path: of the disk, such as disks[root], or empty for an image without a VM. given: None for an
    omitted suboption.
    """
    disk: dict[str, Any] = {}
    prefix = path + "." if path else ""
    for name, option in DISK_OPTIONS.items():
        value = given.get(name)
        if value is not None:
            # An empty string restores the default.
            if option.normalise and (value != "" or name == "size"):
                value = option.normalise(prefix + name, value)
            disk[name] = value
    if disk.get("backing_file") and disk.get("path") == disk["backing_file"]:
        raise OptionError(prefix + "backing_file", "an image cannot be its own base")
    return disk
