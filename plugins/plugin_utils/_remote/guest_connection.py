# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The common part of the connection plugins that reach a guest through its hypervisor."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.connection import ConnectionBase

from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.hypervisor import Hypervisor

_CHUNK = 4 << 20  # bytes of a file in one request
_TEST_TIMEOUT = 30  # seconds for the guest to run nothing


class GuestConnection(ConnectionBase):
    """A connection to a guest. channel: how the hypervisor reaches the guest, agent or serial."""

    has_pipelining = True
    channel = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hypervisor: Hypervisor | None = None

    def _connect(self) -> GuestConnection:
        """Choose the hypervisor. The first command connects to it and to the guest."""
        if self._hypervisor is None:
            name = self.get_option("hypervisor")
            variables = dict(self.get_option("hypervisor_vars") or {})
            if name in ("localhost", "127.0.0.1", "::1"):
                variables.setdefault("ansible_connection", "local")
            self._hypervisor = Hypervisor(name, variables)
            self._connected = True
        return self

    def close(self) -> None:
        """Close the connection to the hypervisor."""
        if self._hypervisor is not None:
            self._hypervisor.close()
            self._hypervisor = None
        self._connected = False

    def reset(self) -> None:
        """Connect again with the next command."""
        self.close()

    def transport_test(self, connect_timeout: int) -> None:
        """Check that the guest runs commands; wait_for_connection calls this first."""
        self._request(
            "exec",
            command="true",
            connect_timeout=connect_timeout,
            timeout=max(connect_timeout, _TEST_TIMEOUT),
        )

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        """Run a command line of the guest's sh. Return its exit code, output and error output."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if sudoable and self.become is not None and self.become.expect_prompt():
            raise AnsibleError(
                "become in the guest asks for a password, which this connection cannot answer: log "
                "in as the user that is needed, or allow become without a password"
            )
        result, (out, error) = self._request(
            "exec",
            in_data if isinstance(in_data, bytes) else to_bytes(in_data or ""),
            command=to_text(cmd, errors="surrogate_or_strict"),
            timeout=self.get_option("command_timeout"),
        )
        return result["rc"], out, error

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file from the controller to the guest."""
        super().put_file(in_path, out_path)
        if not os.path.exists(to_bytes(in_path)):
            raise AnsibleFileNotFound("file or module does not exist: %s" % in_path)
        with open(to_bytes(in_path), "rb") as stream:
            chunk, append = stream.read(_CHUNK), False
            while chunk or not append:
                self._request("write", chunk, path=out_path, append=append)
                chunk, append = stream.read(_CHUNK), True

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file from the guest to the controller."""
        super().fetch_file(in_path, out_path)
        with open(to_bytes(out_path), "wb") as stream:
            while True:
                _result, (chunk,) = self._request(
                    "read", path=in_path, offset=stream.tell(), size=_CHUNK
                )
                stream.write(chunk)
                if len(chunk) < _CHUNK:
                    return

    def _request(
        self, name: str, data: bytes = b"", **parameters: Any
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Send a request about this guest to the hypervisor."""
        self._connect()
        if self._hypervisor is None:
            raise AnsibleConnectionFailure("the connection to the hypervisor is closed")
        common = {
            "channel": self.channel,
            "connect_timeout": self.get_option("connect_timeout"),
            "vm": self.get_option("vm"),
            "lab": self.get_option("lab"),
            "root": self.get_option("root"),
            **self._channel_parameters(),
        }
        return self._hypervisor.request(name, data, **{**common, **parameters})

    def _channel_parameters(self) -> dict[str, Any]:
        """Return the parameters that the channel needs."""
        return {}
