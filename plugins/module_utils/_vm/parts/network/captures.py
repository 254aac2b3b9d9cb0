# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Capture files: one per NIC; an older one is kept under a number, because QEMU begins by emptying the file."""

from __future__ import annotations

import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    make_private_folder,
)


def capture_path(folder, nic):
    """Where a NIC's frames go: its own path, or captures/NIC.pcap in the VM's folder."""
    return nic["capture"]["path"] or os.path.join(folder.captures, nic["name"] + ".pcap")


def keep_older(folder, path):
    """Move an earlier capture out of the way: x.pcap becomes x.1.pcap, or the next free number."""
    if os.path.dirname(path) == folder.captures:
        make_private_folder(folder.captures)
    else:
        make_folder(os.path.dirname(path))
    if not os.path.exists(path):
        return
    stem, ending = os.path.splitext(path)
    number = 1
    while os.path.exists("%s.%d%s" % (stem, number, ending)):
        number += 1
    try:
        os.rename(path, "%s.%d%s" % (stem, number, ending))
    except OSError as error:
        raise HostError(
            "cannot keep the earlier capture %s: %s" % (path, error.strerror), path=path
        )
