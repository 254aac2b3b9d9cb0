# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The page of the live picture: that of a picture, with a script that follows the lab."""

from __future__ import annotations

import os

from ansible_collections.vlab.qemu.plugins.plugin_utils._live.state import facts_digest
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.page import (
    LivePart,
    page,
    policy_of,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.view import View


def live_page(view: View, writable: bool) -> tuple[str, str]:
    """Return the page of a View, and its content security policy."""
    live = LivePart(
        style=packaged_file("live.css").decode("utf-8"),
        script=packaged_file("live.js").decode("utf-8"),
        writable=writable,
        facts=facts_digest(view),
    )
    return page(view, live=live), policy_of(live=live) + "; frame-ancestors 'none'"


def packaged_file(name: str) -> bytes:
    """Return a file of this folder."""
    with open(os.path.join(os.path.dirname(__file__), name), "rb") as stream:
        return stream.read()
