# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A connection into a guest by way of its hypervisor, whatever the guest is reached by there."""

from __future__ import annotations

import os

from ansible.errors import AnsibleError, AnsibleFileNotFound
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.connection import ConnectionBase

from ansible_collections.vlab.qemu.plugins.plugin_utils._hypervisor import Hypervisor

_PIECE = 4 << 20  # bytes of a file that cross to the hypervisor at once


class GuestConnection(ConnectionBase):
    """channel: what the relay reaches the guest by."""

    has_pipelining = True
    channel = ""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._hypervisor = None

    def _connect(self):
        """The way to the hypervisor; the guest is asked with the first command."""
        if self._hypervisor is None:
            name, variables = (
                self.get_option("hypervisor"),
                dict(self.get_option("hypervisor_vars") or {}),
            )
            if name in ("localhost", "127.0.0.1", "::1"):
                variables.setdefault("ansible_connection", "local")
            self._hypervisor = Hypervisor(name, variables)
            self._connected = True
        return self

    def close(self):
        """Leave the hypervisor, too."""
        if self._hypervisor is not None:
            self._hypervisor.close()
            self._hypervisor = None
        self._connected = False

    def reset(self):
        """Begin anew with the next command."""
        self.close()

    def transport_test(self, connect_timeout):
        """What wait_for_connection asks first."""
        self._errand("exec", command="true", connect_timeout=connect_timeout)

    def exec_command(self, cmd, in_data=None, sudoable=True):
        """Run a line for the guest's sh: (exit code, output, error output)."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if sudoable and self.become is not None and self.become.expect_prompt():
            raise AnsibleError(
                "become inside the guest would ask for a password, which this connection cannot answer: log in as the user that is "
                "needed, or let it become without a password"
            )
        told = self._errand(
            "exec",
            in_data if isinstance(in_data, bytes) else to_bytes(in_data or ""),
            command=to_text(cmd, errors="surrogate_or_strict"),
            timeout=self.get_option("command_timeout") or None,
        )
        return (told["rc"], *told["pieces"])

    def put_file(self, in_path, out_path):
        """Copy a file of the controller into the guest."""
        super().put_file(in_path, out_path)
        if not os.path.exists(to_bytes(in_path)):
            raise AnsibleFileNotFound("file or module does not exist: %s" % in_path)
        with open(to_bytes(in_path), "rb") as stream:
            piece, append = stream.read(_PIECE), False
            while piece or not append:
                self._errand("write", piece, path=out_path, append=append)
                piece, append = stream.read(_PIECE), True

    def fetch_file(self, in_path, out_path):
        """Copy a file of the guest to the controller."""
        super().fetch_file(in_path, out_path)
        with open(to_bytes(out_path), "wb") as stream:
            while True:
                piece = self._errand("read", path=in_path, offset=stream.tell(), size=_PIECE)[
                    "pieces"
                ][0]
                stream.write(piece)
                if len(piece) < _PIECE:
                    return

    def _errand(self, errand, data=b"", **request):
        self._connect()
        asked = {
            "channel": self.channel,
            "connect_timeout": self.get_option("connect_timeout"),
            **self._way(),
            **request,
        }
        return self._hypervisor.errand(
            errand,
            data,
            vm=self.get_option("vm"),
            lab=self.get_option("lab"),
            root=self.get_option("root"),
            **asked,
        )

    def _way(self):
        """What else the relay has to know."""
        return {}
