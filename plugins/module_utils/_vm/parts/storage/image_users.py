# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What other VMs under the same root hold: a writable image belongs to one VM."""

from __future__ import annotations

import os
from typing import NamedTuple

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
            if isinstance(definition, dict):
                yield lab, name, definition


def _folders(path):
    try:
        return [
            entry.name
            for entry in os.scandir(path)
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        ]
    except OSError:
        return []


class User(NamedTuple):
    """Who uses an image. vm: "lab/name". disk: the disk's name. role: disk or base. writes: whether it may write to it."""

    vm: str
    disk: str
    role: str
    writes: bool


def users_of(root, path):
    """The VMs under root that use the image at path: a list of User."""
    real, found = os.path.realpath(path), []
    for lab, name, definition in definitions(root):
        for disk in definition.get("disks", ()):
            held = disk.get("path") or os.path.join(
                root, lab, name, "%s.%s" % (disk["name"], disk.get("format"))
            )
            if os.path.realpath(held) == real:
                found.append(
                    User(
                        "%s/%s" % (lab, name),
                        disk["name"],
                        "disk",
                        not disk.get("read_only") and not disk.get("snapshot"),
                    )
                )
            elif disk.get("backing_file") and os.path.realpath(disk["backing_file"]) == real:
                found.append(User("%s/%s" % (lab, name), disk["name"], "base", False))
    return found
