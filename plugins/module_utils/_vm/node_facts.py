# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What a topology says of the nodes of a lab that is no part of a VM: its kind, its groups, its addresses. For the inventory."""

from __future__ import annotations

import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    read_json,
    remove_file,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import ABOUT, default_root


def _path(root, lab):
    return os.path.join(os.path.abspath(root or default_root()), lab, ABOUT)


def read_about(root, lab):
    """{node: what is known of it}; nothing for VMs that no topology made."""
    try:
        return (read_json(_path(root, lab)) or {}).get("nodes") or {}
    except HostError:
        return {}


def write_about(root, lab, nodes):
    """Keep it, in the lab's folder, which must be there."""
    if read_about(root, lab) != nodes:
        write_json(_path(root, lab), {"format": 1, "nodes": nodes})


def forget_about(root, lab):
    """Remove it, also where the lab's folder stays, for disks that are kept."""
    remove_file(_path(root, lab))
