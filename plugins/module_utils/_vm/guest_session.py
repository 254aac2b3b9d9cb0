# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Sessions in a guest: commands and files, through its agent or on a console."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Iterator

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._console.login import Login
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder


class AgentSession:
    """Commands and files through a connected guest agent."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    def run(self, command: str, data: bytes, timeout: float | None) -> tuple[int, bytes, bytes]:
        """Run a command line of sh. Return its exit code, output and error output."""
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_exec import (
            exec_in_guest,
        )

        # With the agent's own umask, only the owner could read a new file.
        argv = ["/bin/sh", "-c", "umask 022\n" + command]
        code, out, error = exec_in_guest(self.agent, argv, timeout, data)
        return code, out, error

    def write(self, path: str, data: bytes, append: bool) -> None:
        """Write or append to a file."""
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_files import write_file

        write_file(self.agent, path, data, append)

    def read(self, path: str, offset: int, size: int | None) -> bytes:
        """Return up to size bytes of a file."""
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_files import read_file

        content: bytes = read_file(self.agent, path, offset, size)
        return content


@contextlib.contextmanager
def on_console(
    folder: Folder, console: str | None, login: Login, is_cli: bool, timeout: float
) -> Iterator[Any]:
    """Open a session on a console, None for the first one.

    is_cli: whether a command line of a network system answers there, and not a shell. timeout: in
    seconds, for the login.
    """
    from ansible_collections.vlab.qemu.plugins.module_utils._console.serial_cli import SerialCli
    from ansible_collections.vlab.qemu.plugins.module_utils._console.serial_shell import (
        SerialShell,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import open_console

    shell_class = SerialCli if is_cli else SerialShell
    with open_console(folder, console, timeout) as connected:
        with shell_class(connected, login, timeout) as session:
            yield session
