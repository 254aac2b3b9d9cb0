# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The start of a lab's share after a reboot of its hypervisor, as the last run described it."""

from __future__ import annotations

import os
import sys
from typing import Any, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import FILE, Change
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    OptionError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    read_json,
    remove_file,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._vm import autostart
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import LAB_AUTOSTART
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import SETTINGS_SPEC
from ansible_collections.vlab.qemu.plugins.module_utils._vm.shapes import check_format

_FORMAT = 1
_RUNNING = ("started", "paused")
_KEPT = ("ready", "after")  # of a node of the share

# {"format", "vms": [{"name", "state", "ready", "after"}], "segments", "limits"}
Saved = Dict[str, Any]


class LabAutostart:
    """The autostart of a lab in one run.

    folder: of the lab. params: of the run. desired: None to leave it as it is.
    """

    def __init__(self, folder: str, params: dict[str, Any]) -> None:
        self.folder, self.params = folder, params
        self.desired: bool | None = params.get("autostart")
        if params["state"] == "absent":
            self.desired = False
        self.is_enabled = autostart.is_enabled(folder)
        if params.get("by_name") and self.desired and not self.is_enabled:
            raise OptionError("autostart", "give the topology, too: it has what is to be started")
        # The run changes the addresses in it.
        self._segments = plain_copy(params.get("segments") or [])

    @property
    def changes(self) -> list[Change]:
        """What this run changes."""
        if self.desired is None or self.desired == self.is_enabled:
            return []
        return [Change(("autostart",), self.is_enabled, self.desired, FILE)]

    @property
    def warnings(self) -> list[str]:
        """What keeps the lab from being started."""
        return autostart.warnings() if self.desired else []

    def apply(self) -> None:
        """Save how the lab is started, or that it is not. Raises HostError."""
        if self.params.get("is_autostart"):
            return
        if self.desired or self.desired is None and self.is_enabled:
            if os.path.isdir(self.folder):
                write_json(self._path, self._described())
                autostart.enable(self.folder, "lab")
        elif self.desired is False:
            autostart.disable(self.folder)
            remove_file(self._path)

    @property
    def _path(self) -> str:
        return os.path.join(self.folder, LAB_AUTOSTART)

    def _described(self) -> Saved:
        """Return the share as a start needs it. A node that this run left alone stays as it was."""
        if self.params.get("by_name"):
            saved = _read(self._path)
            return dict(saved, vms=[dict(vm, state=self.params["state"]) for vm in saved["vms"]])
        try:
            earlier = {vm["name"]: vm["state"] for vm in _read(self._path)["vms"]}
        except HostError:
            earlier = {}
        vms = []
        for node in self.params["vms"]:
            state = node["state"]
            if state in ("keep", "present", "suspended"):
                state = earlier.get(node["name"], "started" if state == "suspended" else "stopped")
            kept = {key: node[key] for key in _KEPT if node.get(key)}
            vms.append({"name": node["name"], "state": state, **kept})
        return {
            "format": _FORMAT,
            "vms": vms,
            "segments": self._segments,
            "limits": self.params.get("limits") or {},
        }


def _read(path: str) -> Saved:
    saved = read_json(path)
    vms = saved.get("vms") if isinstance(saved, dict) else None
    if not isinstance(vms, list) or not all(
        isinstance(vm, dict)
        and isinstance(vm.get("name"), str)
        and isinstance(vm.get("state"), str)
        for vm in vms
    ):
        raise HostError(
            "%s is damaged or missing: run qemu_lab again, which writes it" % path, path=path
        )
    result: Saved = saved
    if not isinstance(result.get("format"), int):
        raise HostError("%s is damaged: run qemu_lab again, which writes it" % path, path=path)
    check_format(path, result["format"], _FORMAT)
    return result


def params_of(path: str) -> dict[str, Any]:
    """Return what the run of a lab gets that starts it. path: its folder. Raises HostError."""
    folder = os.path.abspath(path)
    saved = _read(os.path.join(folder, LAB_AUTOSTART))
    names = {vm["name"] for vm in saved["vms"] if vm["state"] in _RUNNING}
    return {
        **{name: option.get("default") for name, option in SETTINGS_SPEC.items()},
        "lab": os.path.basename(folder),
        "root": os.path.dirname(folder),
        "state": "started",
        "purge": False,
        "wait_ready": True,
        "allow_container": True,
        "is_autostart": True,
        "segments": saved.get("segments"),
        "limits": saved.get("limits"),
        "vms": [
            dict(
                vm,
                state=vm["state"] if vm["name"] in names else "keep",
                options={},
                after={key: event for key, event in vm.get("after", {}).items() if key in names},
            )
            for vm in saved["vms"]
            if os.path.exists(os.path.join(folder, vm["name"], "vm.json"))
        ],
    }


def start(path: str) -> None:
    """Start the lab whose folder is at path. Raises SystemExit with the reason if it cannot."""
    from ansible_collections.vlab.qemu.plugins.module_utils._lab.converge import converge_lab

    try:
        result = converge_lab(params_of(path), check_mode=False)
    except VlabError as error:
        raise SystemExit("\n".join([*error.facts.get("progress", []), error.message]))
    for text in [*result["progress"], *result["warnings"]]:
        sys.stdout.write("%s\n" % text)
