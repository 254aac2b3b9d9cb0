# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A request to a hypervisor whose data is read while the handler works.

Ansible's connections return the output of a command when it has ended, so the command that they
would run is started here.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from typing import IO, Any, Iterator, Sequence

from ansible.errors import AnsibleError

from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import start_program
from ansible_collections.vlab.qemu.plugins.module_utils._remote import protocol
from ansible_collections.vlab.qemu.plugins.module_utils._remote.protocol import Message
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.client import process_of

_END_TIMEOUT = 20  # seconds for the handler to clean up


def local_command(connection: Any, command: str) -> Sequence[str]:
    """Return the argv that runs a line of sh on the host of a connection. Raises AnsibleError."""
    become = connection.become
    if become is not None:
        command = become.build_become_command(command, connection._shell)
        if become.expect_prompt():
            raise AnsibleError(
                "become on the hypervisor asks for a password, which a stream cannot answer: allow"
                " it without a password, or run as the user who started the lab"
            )
    if connection.transport == "local":
        return ["/bin/sh", "-c", command]
    if connection.transport != "ssh":
        raise AnsibleError(
            "the connection %s cannot pass a stream on: use ssh or local" % connection.transport
        )
    words = connection._build_command(
        connection.get_option("ssh_executable"), "ssh", connection.host, command
    )
    return [os.fsdecode(word) for word in words]


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise AnsibleError("the program of the connection has no pipes")
    return process.stdin, process.stdout


class Stream:
    """A request that is being handled; an iterator of pieces, and then its outcome.

    connection: of Ansible to the hypervisor, which has the code bundle from an earlier request.
    environment: assignments before the command. Raises AnsibleError, OSError.
    """

    def __init__(
        self, connection: Any, interpreter: str, request: Message, environment: str = ""
    ) -> None:
        command, stdin = process_of(interpreter, request)
        command = " ".join(filter(None, (environment, command)))
        self.outcome: Message | None = None
        self._token = request.token
        self._errors = tempfile.TemporaryFile()  # a pipe that nobody reads would stop the process
        self._process = start_program(
            local_command(connection, command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._stdin, self._stdout = _pipes(self._process)
        # It stays open: the handler ends with it.
        with contextlib.suppress(BrokenPipeError):  # the program has ended, see output
            self._stdin.write(stdin)
            self._stdin.flush()

    def pieces(self) -> Iterator[bytes]:
        """Yield the data as it comes; then outcome is the last message, or None."""
        with self._stdout as source, contextlib.suppress(EOFError):
            message = protocol.read_message(source, self._token)
            while message is not None:
                if message.type == protocol.DATA:
                    yield from message.pieces
                elif message.type != protocol.STARTED:
                    self.outcome = message
                    return
                message = protocol.read_message(source, self._token)

    def end(self) -> None:
        """Let the handler end, and wait for it."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        try:
            self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def output(self) -> str:
        """Return what the process wrote to its error output."""
        self._errors.seek(0)
        return self._errors.read(1 << 16).decode("utf-8", "replace").strip()
