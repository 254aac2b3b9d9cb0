# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""JSON from sources that are not trusted: a guest, a monitor."""

from __future__ import annotations

import json
from typing import Any

MAX_DIGITS = 20  # of a whole number: 64 bits, with a sign


def parse_json(text: bytes | bytearray | str) -> Any:
    """Return the data in a JSON text.

    Raises json.JSONDecodeError if it is not JSON, or not complete; ValueError if it is not UTF-8,
    is nested too deeply, or has a number that is too large.
    """
    try:
        return json.loads(text, parse_int=_parse_int)
    except RecursionError:
        raise ValueError("it is nested too deeply")
    except UnicodeDecodeError:
        raise ValueError("its text is not UTF-8")


def _parse_int(digits: str) -> int:
    # The time to convert digits is quadratic.
    if len(digits) > MAX_DIGITS:
        raise ValueError("it has a number of %d digits" % len(digits))
    return int(digits)
