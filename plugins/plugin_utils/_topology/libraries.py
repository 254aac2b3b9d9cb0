# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The libraries of the controller, imported when they are used, and which of them are missing: the error should tell, not a traceback."""

from __future__ import annotations

import importlib
import importlib.util


class _Library:
    """A library. Many runs need none, and to import one takes longer than all else that is done for a topology."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        return getattr(importlib.import_module(self._name), attribute)


jsonschema = _Library("jsonschema")
netaddr = _Library("netaddr")


def missing():
    """The name of a library that is not installed, or None."""
    return next(
        (name for name in ("jsonschema", "netaddr") if importlib.util.find_spec(name) is None), None
    )
