# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Sizes: numbers with binary suffixes, as in qemu-img."""

from __future__ import annotations

import re

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import shown

_SUFFIXES = {
    "": 1,
    "k": 1 << 10,
    "m": 1 << 20,
    "g": 1 << 30,
    "t": 1 << 40,
    "p": 1 << 50,
    "e": 1 << 60,
}
_SIZE = re.compile(
    r"\s*(\d{1,20}(?:\.\d{1,20})?)\s*([kmgtpe]?)(?:i?b)?\s*", re.IGNORECASE | re.ASCII
)
_MAX_SIZE = (1 << 63) - 1  # of a file, and of QEMU's byte counters


def parse_size(option: str, value: object, unit: str = "b") -> int:
    """Return the bytes in value, such as 20G, 1.5 GiB, 512m.

    unit: of a number without a suffix: b, k, m or g.
    Raises OptionError, naming option, for other text and for a size that is not whole bytes.
    """
    match = _SIZE.fullmatch(str(value))
    if not match:
        raise OptionError(
            option,
            "%s is not a size: give a number with one of the suffixes K, M, G, T, such as 20G"
            % shown(value),
        )
    number, suffix = match.groups()
    factor = _SUFFIXES[suffix.lower() or unit.replace("b", "")]
    size = float(number) * factor if "." in number else int(number) * factor
    if size != int(size):
        raise OptionError(option, "%s is not a whole number of bytes" % shown(value))
    if size > _MAX_SIZE:
        raise OptionError(option, "%s is larger than any file can be" % shown(value))
    return int(size)


def format_size(size: int) -> str:
    """Return the shortest exact text for a size in bytes: 1073741824 is 1G, 1000 is 1000."""
    for suffix in ("P", "T", "G", "M", "K"):
        factor = _SUFFIXES[suffix.lower()]
        if size and size % factor == 0:
            return "%d%s" % (size // factor, suffix)
    return str(size)
