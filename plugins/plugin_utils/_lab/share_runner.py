# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""How qemu_lab runs a host's share of a lab on that host: by a request, else as a module."""

from __future__ import annotations

import json
import tempfile
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import code_bundle
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.host_action import (
    HostAction,
    Result,
)

Params = dict[str, Any]


class ShareRunner(HostAction):
    """An action plugin that can run a share on the task's host. task_vars: of that host."""

    task_vars: dict[str, Any]

    def run_share(self, params: Params, share: Params) -> Result:
        """Run a share on the host; return the result of the module.

        params: the options of qemu_lab that the host needs.
        """
        request = {"params": dict(params, **share), "check_mode": self._task.check_mode}
        result = self.send_request(self.task_vars, "_lab.lab_service", "converge", request)
        if result is None:
            share = dict(share, code_bundle=code_bundle.digest())
            result = self._run_module(params, share)
            if result.get("code_bundle_missing"):
                result = self._run_module_with_code_bundle(params, share)
        return result

    def _run_module(self, params: Params, share: Params) -> Result:
        # As texts: Ansible processes each value of arguments and results, which takes long for a
        # large lab.
        result: Result = self._execute_module(
            "vlab.qemu.qemu_lab",
            module_args=dict(params, share=json.dumps(share)),
            task_vars=self.task_vars,
        )
        if isinstance(result.get("vms"), str):
            result["vms"] = json.loads(result["vms"])
        return result

    def _run_module_with_code_bundle(self, params: Params, share: Params) -> Result:
        """Copy the code bundle to the host, which caches it, and run the module."""
        path = self._connection._shell.join_path(self._make_tmp_path(), "bundle.zip")
        with tempfile.NamedTemporaryFile(suffix=".zip") as local:
            local.write(code_bundle.pack())
            local.flush()
            self._transfer_file(local.name, path)
        self._fixup_perms2((self._connection._shell.tmpdir, path))
        try:
            return self._run_module(params, dict(share, code_bundle_archive=path))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
