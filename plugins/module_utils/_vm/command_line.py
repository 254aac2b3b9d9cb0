# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The command line: every part's words, in an order that QEMU understands."""

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import MACHINE, PARTS


def build(definition, host):
    """The argv that starts the VM, stopped (-S) and with nothing that was not asked for: a list of words."""
    words = []
    for part in PARTS:
        if part is not MACHINE:
            words += part.arguments(definition, host)
    # The machine comes first on the command line and last in time: other parts add to its properties.
    head = [host.binary, "-S", "-nodefaults", "-no-user-config", "-pidfile", host.folder.pidfile]
    head += MACHINE.arguments(definition, host) + addresses.bus_arguments(
        definition["family"], definition["places"]
    )
    tail = ["-incoming", host.incoming] if host.incoming else []
    return definition["wrapper"] + head + words + tail + definition["extra_args"]
