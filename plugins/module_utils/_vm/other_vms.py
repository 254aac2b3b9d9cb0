# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This room is private to the vlab.qemu collection: it may change with any release.

"""What other VMs under the same root hold: a writable image belongs to one VM."""

from __future__ import annotations

import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_json


def definitions(root):
    """The definitions of all VMs under root: yields (lab, name, definition). A damaged one is passed over."""
    for lab in sorted(_folders(root)):
        for name in sorted(_folders(os.path.join(root, lab))):
            try:
                definition = read_json(os.path.join(root, lab, name, "vm.json"))
            except HostError:
                continue
            if definition is not None:
                yield lab, name, definition


def _folders(path):
    try:
        return [entry.name for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")]
    except OSError:
        return []


def writer_of(root, path, but):
    """The VM, as "lab/name", other than but (lab, name) that has the image at path as a writable disk; None when there is none."""
    real = os.path.realpath(path)
    for lab, name, definition in definitions(root):
        if (lab, name) == but:
            continue
        for disk in definition.get("disks", ()):
            held = disk.get("path") or os.path.join(root, lab, name, "%s.%s" % (disk["name"], disk.get("format")))
            if not disk.get("read_only") and not disk.get("snapshot") and os.path.realpath(held) == real:
                return "%s/%s" % (lab, name)
    return None
