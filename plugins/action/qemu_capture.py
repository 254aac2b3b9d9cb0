# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.utils.display import Display

from ansible_collections.vlab.qemu.plugins.module_utils._remote import protocol
from ansible_collections.vlab.qemu.plugins.module_utils._vm.capture_options import CAPTURE_SPEC
from ansible_collections.vlab.qemu.plugins.plugin_utils._frame_reader import FrameReader, words_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import client
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.host_action import HostAction
from ansible_collections.vlab.qemu.plugins.plugin_utils._stream import Stream

_SERVICE = "_vm.guest_service"


class ActionModule(HostAction):
    """Captures on the hypervisor, and passes the frames to a program on the controller."""

    TRANSFERS_FILES = False
    _requires_connection = True
    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the task; return its result."""
        super().run(tmp, task_vars)
        _checked, options = self.validate_argument_spec(argument_spec=CAPTURE_SPEC)
        try:
            return self._capture(options, dict(task_vars or {}))
        except AnsibleActionFail as error:
            # As an exception it would bypass failed_when and until, unlike an error of a module.
            return {"failed": True, "changed": False, "msg": error.message}

    def _capture(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        words = words_of(options.pop("reader"))
        interpreter = self._interpreter(task_vars)
        # Before the stream: it brings the code bundle, and opens the connection that SSH shares.
        reply = client.send_request(
            self._run_command, interpreter, _SERVICE, "check_capture", options
        )
        message = reply.message
        if message is None:
            raise AnsibleActionFail(
                "the hypervisor could not handle the request (exit code %s): %s"
                % (reply.code, reply.output[-1000:] or "it printed nothing")
            )
        if message.type == protocol.ERROR:
            raise AnsibleActionFail(message.content["message"])
        result = {"changed": False, "nic": message.content["result"]}
        if self._task.check_mode:
            return result
        reader = FrameReader(words, lambda line: Display().display("  " + line))
        try:
            request = client.request_for(_SERVICE, "capture", options)
            environment = self._compute_environment_string()
            stream = Stream(self._connection, interpreter, request, environment)
        except (AnsibleError, OSError) as error:
            reader.stop()
            reason = getattr(error, "strerror", None) or error
            raise AnsibleActionFail("the capture does not start: %s" % reason)
        return {**result, **reader.run(stream)}
