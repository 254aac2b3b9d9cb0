# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The Python libraries of the controller, imported at first use.

Importing one takes longer than building a topology, and many runs need none of them.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


class _Library:
    """A stand-in for a module that imports it at the first access to an attribute."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


jsonschema = _Library("jsonschema")
netaddr = _Library("netaddr")


def missing() -> str | None:
    """Return the name of a library that is not installed, None if all are."""
    return next(
        (name for name in ("jsonschema", "netaddr") if importlib.util.find_spec(name) is None), None
    )
