# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This room is private to the vlab.qemu collection: it may change with any release.

"""The libraries of the controller, and which of them are missing: the error should tell, not a traceback."""

from __future__ import annotations

try:
    import jsonschema
except ImportError:
    jsonschema = None

try:
    import netaddr
except ImportError:
    netaddr = None


def missing():
    """The name of a library that is not installed, or None."""
    return next((name for name, library in (("jsonschema", jsonschema), ("netaddr", netaddr)) if library is None), None)
