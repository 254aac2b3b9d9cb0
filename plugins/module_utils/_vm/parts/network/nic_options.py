# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The suboptions of a NIC: argument specs, topologies and RETURN derive from this table."""

from __future__ import annotations

from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.paths import absolute_path
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import format_size, parse_size
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import (
    check_number,
    shown,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import check_properties
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.pcap_ring import MIN_SIZE
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import by_name
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import links, macs
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import (
    Option,
    left_out,
    without_none,
)

_DEFAULT_COUNT, _MAX_COUNT = 10, 10000  # files of a rotated capture

NO_LINK: links.Link = {"type": "none"}


def _capture(path: str, given: dict[str, Any]) -> dict[str, Any] | None:
    if not given["enabled"]:
        return None
    if given.get("snaplen") is not None:
        check_number(path + ".snaplen", given["snaplen"], 1, (1 << 31) - 1, "a length in bytes")
    return {
        "path": absolute_path(path + ".path", given["path"]) if given.get("path") else None,
        "snaplen": given.get("snaplen"),
        **_rotation(path, given),
    }


def _rotation(path: str, given: dict[str, Any]) -> dict[str, int]:
    size, count = given.get("size"), given.get("count")
    if size in (None, ""):
        if count is not None:
            raise OptionError(path + ".count", "only a capture with size has several files")
        return {}
    size = parse_size(path + ".size", size)
    if size < MIN_SIZE:
        raise OptionError(
            path + ".size", "%s is too small for frames: give at least 256K" % shown(given["size"])
        )
    if count is None:
        count = _DEFAULT_COUNT
    check_number(path + ".count", count, 1, _MAX_COUNT, "a number of files")
    return {"size": size, "count": count}


def _written_capture(capture: dict[str, Any]) -> dict[str, Any]:
    written = {"enabled": True, **without_none(capture)}
    if "size" in written:
        written["size"] = format_size(written["size"])
    return written


def _mtu(path: str, value: int) -> int:
    if value != 0 and not 68 <= value <= 65535:
        raise OptionError(path, "%d is not an MTU: 68 to 65535, or 0 for none" % value)
    return value


def _properties(path: str, value: dict[str, Any]) -> dict[str, Any]:
    check_properties(path, value, reserved=("driver", "id", "netdev", "mac", "bootindex"))
    return {key: entry for key, entry in value.items() if entry is not None}


NIC_OPTIONS: dict[str, Option] = {
    "model": Option({"type": "str"}, "virtio-net-pci"),
    "mac": Option({"type": "str"}, normalise=macs.normalise, written=left_out),
    "link": Option({"type": "dict", "options": links.SPEC}, NO_LINK, LIVE, links.normalise),
    "link_down": Option({"type": "bool"}, False, LIVE),
    "capture": Option(
        {
            "type": "dict",
            "options": {
                "enabled": {"type": "bool", "default": True},
                "path": {"type": "path"},
                "snaplen": {"type": "int"},
                "size": {"type": "str"},
                "count": {"type": "int"},
            },
        },
        how=LIVE,
        normalise=_capture,
        written=_written_capture,
    ),
    "mtu": Option({"type": "int"}, normalise=_mtu),
    "rx_queue_size": Option({"type": "int", "choices": [256, 512, 1024]}, 256),
    "index": Option({"type": "int"}),
    "boot_index": Option({"type": "int"}),
    "boot_rom": Option({"type": "bool"}, False),
    "properties": Option({"type": "dict"}, {}, normalise=_properties),
}
# Suboptions that only virtio models support, with the property of the device that each becomes. 0
# and the default leave the property out.
VIRTIO_PROPERTIES = {"mtu": "host_mtu", "rx_queue_size": "rx_queue_size"}

NIC_SPEC = {name: option.spec for name, option in NIC_OPTIONS.items()}
NIC_DEFAULTS = {name: option.default for name, option in NIC_OPTIONS.items()}


def normalise_nic(path: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the suboptions of one NIC as the definition keeps them.

    path: of the NIC, such as nics[eth0]. given: without the name, None for an omitted suboption.
    """
    nic: dict[str, Any] = {}
    for name, option in NIC_OPTIONS.items():
        value = given.get(name)
        if value is not None:
            # An empty string restores the default.
            if option.normalise and value != "":
                value = option.normalise("%s.%s" % (path, name), value)
            nic[name] = value
    return nic


def with_saved_links(
    given: list[dict[str, Any]] | None, saved: list[dict[str, Any]]
) -> list[dict[str, Any]] | None:
    """Return the NICs of the user; a link that only has impair is the saved one, impaired so."""
    old = by_name(saved)
    return given and [
        dict(nic, link={**old[nic["name"]]["link"], "impair": nic["link"]["impair"]})
        if nic.get("name") in old and links.is_only_impaired(nic.get("link"))
        else nic
        for nic in given
    ]
