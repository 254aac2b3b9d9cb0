# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The origin of a lab: the topology that made its nodes, and that may change and remove them.

Two labs of one name would otherwise remove each other's nodes.
"""

from __future__ import annotations

from typing import Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError


def check_origin(
    lab: str, recorded: str | None, given: str | None, affected: Sequence[str], allowed: bool
) -> None:
    """Raise OptionError if a topology of another origin would change or remove what a lab has.

    recorded: the origin of the lab, None if it is not known. given: that of the topology of this
    run, None for a run without one. affected: what the run would change or remove. allowed: whether
    the run may do so.
    """
    if allowed or not affected or recorded is None or given in (None, recorded):
        return
    raise OptionError(
        "allow_takeover",
        "the lab %s was made by another topology (%s), and this one (%s) would change or remove %s."
        " Give this lab another name (lab, or lab_name of the role), or set allow_takeover "
        "(lab_allow_takeover of the role) to true to make it the topology of the lab"
        % (lab, recorded, given, ", ".join(affected)),
        lab_origin=recorded,
        topology_origin=given,
        affected=list(affected),
    )
