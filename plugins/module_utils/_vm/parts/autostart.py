# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Whether the VM is started after a reboot of the hypervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE, Change
from ansible_collections.vlab.qemu.plugins.module_utils._vm import autostart
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Option, Part

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Params,
        Result,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation


class Autostart(Part):
    """The part that owns the start after a reboot."""

    name = "autostart"
    options = {"autostart": Option({"type": "bool"}, False, how=LIVE)}

    def complete(self, desired: Definition, saved: Definition, given: Params, host: Host) -> None:
        if given.get("autostart"):
            for text in autostart.warnings():
                host.warn(text)

    def pending(self, desired: Definition, host: Host) -> list[Change]:
        is_enabled = autostart.is_enabled(host.folder.path)
        if is_enabled == desired["autostart"]:
            return []
        return [Change(("autostart",), is_enabled, desired["autostart"], LIVE, self.name)]

    def prepare(self, desired: Definition, host: Host) -> list[str]:
        self._set(desired["autostart"], host.folder.path)
        return []

    def apply(self, change: Change, desired: Definition, live: Live) -> None:
        self._set(desired["autostart"], live.folder.path)

    def refresh(self, desired: Definition, live: Live) -> None:
        """Replace the code by that of this run, and correct what was changed by hand."""
        self._set(desired["autostart"], live.folder.path)

    @staticmethod
    def _set(is_on: bool, path: str) -> None:
        if is_on:
            autostart.enable(path, "vm")
        else:
            autostart.disable(path)

    def report(self, definition: Definition, observation: Observation, result: Result) -> None:
        result["autostart"] = definition["autostart"]
