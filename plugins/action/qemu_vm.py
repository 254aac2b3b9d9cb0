# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action.normal import ActionModule as NormalAction

from ansible_collections.vlab.qemu.plugins.plugin_utils import _local_files


class ActionModule(NormalAction):
    """Runs the module qemu_vm with the files of the controller that its options name."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the task; return its result."""
        try:
            self._task.args = with_files(self._task.args, self._find_needle)
        except AnsibleActionFail as error:
            # As an exception it would bypass failed_when and until, unlike an error of a module.
            return {"failed": True, "changed": False, "msg": error.message}
        result: dict[str, Any] = super().run(tmp, task_vars)
        return result


def with_files(args: dict[str, Any], find: _local_files.Find) -> dict[str, Any]:
    """Return the options with the content of each file in place of its path."""
    args = dict(args)
    seed = args.get("cloud_init")
    if isinstance(seed, dict):
        args["cloud_init"] = _read(seed, "cloud_init.%s", find)
    drive = args.get("config_drive")
    if isinstance(drive, dict) and isinstance(drive.get("files"), dict):
        files = _read(drive["files"], "config_drive.files[%s]", find)
        args["config_drive"] = dict(drive, files=files)
    return args


def _read(values: dict[str, Any], path: str, find: _local_files.Find) -> dict[str, Any]:
    return {
        name: _local_files.encoded(path % name, value["src"], find)
        if _local_files.is_source(value)
        else value
        for name, value in values.items()
    }
