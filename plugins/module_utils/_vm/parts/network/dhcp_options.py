# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""DHCP options of user links: how they are checked, and what is sent."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import shown

# What QEMU's DHCP server sets by itself, with the suboption of the link that changes it.
_OF_QEMU = {
    1: "network",
    3: "host_address",
    6: "dns",
    12: "hostname",
    15: "domain",
    119: "dns_search",
}
_OF_PROTOCOL = (0, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 61, 82, 255)
# RFC 2132 and 5859: one or more IPv4 addresses. Others are texts, or given in hexadecimal digits.
_ADDRESSES = (4, 7, 42, 44, 69, 72, 150)
_HEXADECIMAL = re.compile(r"0x((?:[0-9a-fA-F]{2})+)")
_MAX_VALUE = 255  # bytes, RFC 2132
_MAX_SIZE = 900  # bytes of all, so that an answer of QEMU stays below an Ethernet frame


def normalise(path: str, given: dict[Any, Any]) -> dict[str, str] | None:
    """Return the options by code, None for none. Raises OptionError."""
    options = {}
    for code, value in given.items():
        number = _code(path, code)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise OptionError(
                "%s[%d]" % (path, number),
                "%s is no text: give one, or bytes as hexadecimal digits after 0x" % shown(value),
            )
        options[str(number)] = str(value)
    size = sum(2 + len(_encoded(path, code, value)) for code, value in options.items())
    if size > _MAX_SIZE:
        raise OptionError(path, "%d bytes are too many for a DHCP reply: %d" % (size, _MAX_SIZE))
    return {code: options[code] for code in sorted(options, key=int)} or None


def encoded(options: dict[str, str]) -> dict[str, str]:
    """Return normalised options as the program takes them: {code: hexadecimal digits}."""
    return {code: _encoded("", code, value).hex() for code, value in options.items()}


def _code(path: str, given: Any) -> int:
    text = str(given)
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:4]) < 255:
        raise OptionError(
            path, "%s is no code of a DHCP option: 1 to 254, such as 67" % shown(given)
        )
    code = int(text)
    if code in _OF_QEMU:
        raise OptionError(
            "%s[%d]" % (path, code), "QEMU sets it: use %s of the link" % _OF_QEMU[code]
        )
    if code in _OF_PROTOCOL:
        raise OptionError("%s[%d]" % (path, code), "the DHCP server sets it by itself")
    return code


def _encoded(path: str, code: str, value: str) -> bytes:
    """Return the value of an option as it is sent. Raises OptionError."""
    option = "%s[%s]" % (path, code)
    found = _HEXADECIMAL.fullmatch(value)
    if found:
        data = bytes.fromhex(found.group(1))
    elif int(code) in _ADDRESSES:
        data = b"".join(_address(option, one.strip()) for one in value.split(","))
    else:
        try:
            data = value.encode("utf-8")
        except UnicodeEncodeError:
            raise OptionError(option, "it is not UTF-8: give hexadecimal digits after 0x")
    if not 0 < len(data) <= _MAX_VALUE:
        raise OptionError(option, "it has %d bytes: 1 to %d are possible" % (len(data), _MAX_VALUE))
    return data


def _address(option: str, text: str) -> bytes:
    try:
        return ipaddress.IPv4Address(text).packed
    except ValueError:
        raise OptionError(
            option, "%s is no IPv4 address: this option has addresses, with commas" % shown(text)
        )
