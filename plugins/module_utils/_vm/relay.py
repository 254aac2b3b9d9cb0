# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The relay of a VM: the process that serves the clients of its consoles with clients: many.

It starts before the guest's first instruction and ends with QEMU. If it dies, the console's log
goes on, and the next run starts another one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._vm.detached import Detached

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

_END_TIMEOUT = 1.5  # seconds for its clients to read the last output


def _relay(folder: Folder) -> Detached:
    return Detached(
        title="the relay of the consoles of the VM %s" % folder.name,
        supervisor="vlab-relay",
        program=folder.file("console_relay.py"),
        record=folder.file("relay.json"),
        exit_code=folder.file("relay_exit_code"),
        log=folder.file("relay.log"),
    )


def running_pid(folder: Folder) -> int | None:
    """Return the pid of the relay of a VM, None if it does not run."""
    return _relay(folder).running_pid()


def state(folder: Folder) -> dict[str, Any]:
    """Return what is reported about the relay of a running VM."""
    return _relay(folder).state()


def start(folder: Folder, consoles: list[dict[str, Any]]) -> None:
    """Start the relay, once QEMU listens; end an earlier one. Raises HostError.

    consoles: the settings for the program, see console_relay.
    """
    from ansible_collections.vlab.qemu.plugins.module_utils._common.program_archive import (
        program_archive,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu import console_relay

    end(folder)
    relay = _relay(folder)
    settings = {"record": relay.record, "consoles": consoles}
    relay.start(program_archive(console_relay), [json.dumps(settings)])


def end(folder: Folder) -> None:
    """End the relay of a VM, also one that has no record, and remove its files but the log."""
    _relay(folder).end(_END_TIMEOUT)
