# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The clock of a hypervisor, as a request."""

from __future__ import annotations

import time
from typing import Any


def _read(_parameters: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    return {"time": time.time()}, []


HANDLERS = {"read": _read}
