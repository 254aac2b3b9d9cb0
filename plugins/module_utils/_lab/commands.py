# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The commands of a node that are run once it is ready, by its guest agent or on its console."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE, Change
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console.console import compile_pattern
from ansible_collections.vlab.qemu.plugins.module_utils._console.login import (
    Login,
    LoginPatterns,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console.transcript import Transcript
from ansible_collections.vlab.qemu.plugins.module_utils._lab.done_digest import DoneDigest

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation

KEY = "exec"
_COMMAND_TIMEOUT = 300  # seconds for a command
_SESSION_TIMEOUT = 60  # seconds for the agent to answer, or for a login


class Commands:
    """The commands of one node.

    options: "commands"; "shown": the same without values that may be secret; "secrets": those
    values; "agent": whether the guest agent runs them in a shell, else a session on a console:
    "console": its name or None, "cli": whether it is a command line of a network system and not a
    shell, "login": of Login, "errors": a pattern of an output that is a refusal.
    change: what this run does, None if it runs nothing.
    """

    def __init__(self, folder: Folder, options: dict[str, Any]) -> None:
        self.folder, self.options = folder, options
        self.path = "nodes.%s.exec" % folder.name
        self.change: Change | None = None
        self._done = DoneDigest(KEY, options["commands"])
        self._hidden = Transcript(options["secrets"])
        self._errors = compile_pattern(self.path, options.get("errors") or r"(?!)")
        self._login = Login(**options.get("login") or {})
        LoginPatterns(self._login, self.path + ": ")

    def plan(self, definition: Definition, runs: bool, boots: bool) -> None:
        """Plan whether to run them.

        definition: the desired one, with the digest of the last time. runs: whether the guest runs
        after this run. boots: whether it boots in it. Raises OptionError.
        """
        consoles = [console["name"] for console in definition["consoles"]]
        has_console = consoles and self.options.get("console") in (None, *consoles)
        if not self.options["agent"] and not has_console:
            raise OptionError(
                self.path,
                "commands need a guest agent (guest_agent: true), or the console that its kind "
                "logs in on; the VM has %s" % (", ".join(consoles) or "no console"),
            )
        if boots and not definition["disks"]:
            # What they did is forgotten.
            self._done.remove(definition)
        is_same = self._done.compare(definition)
        if runs and not is_same:
            before = None if is_same is None else "other commands"
            shown = [self._hidden.without_secrets(text) for text in self.options["shown"]]
            self.change = Change((KEY,), before, shown, LIVE)

    def run(self, definition: Definition, observation: Observation) -> None:
        """Run them, and save that it was done. Raises GuestError naming the one that failed."""
        where = ""
        try:
            with self._session() as session:
                for number, command in enumerate(self.options["commands"]):
                    where = "[%d] (%s)" % (
                        number,
                        self._hidden.shown_text(self.options["shown"][number]),
                    )
                    self._check(*session.run(command, b"", _COMMAND_TIMEOUT))
        except GuestError as error:
            failed = "its exec%s failed" % where if where else "its exec could not begin"
            raise GuestError(
                "%s: %s" % (failed, self._hidden.masked(error.message)),
                node=self.folder.name,
                rung=KEY,
                console=error.facts.get("console", ""),
            )
        self._done.save(self.folder, definition, observation)

    def _check(self, code: int, output: bytes, error: bytes) -> None:
        """Raise GuestError for a command that failed."""
        is_refused = self.options.get("cli") and self._errors.search(output)
        if code or is_refused:
            transcript = Transcript(self.options["secrets"])
            transcript.add(output + error)
            shown = transcript.last_lines
            reason = "the system refused it" if is_refused else "it ended with exit code %d" % code
            raise GuestError("%s. Its output: %s" % (reason, shown), console=shown)

    @contextlib.contextmanager
    def _session(self) -> Iterator[Any]:
        """Open a session in the guest, whose method run is called with each command."""
        from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_exec import (
            wait_for_agent,
        )
        from ansible_collections.vlab.qemu.plugins.module_utils._vm import guest_session

        if self.options["agent"]:
            with contextlib.ExitStack() as stack:
                agent = wait_for_agent(self.folder.socket("agent.sock"), _SESSION_TIMEOUT)
                stack.push(agent)
                yield guest_session.AgentSession(agent)
        else:
            with guest_session.on_console(
                self.folder,
                self.options.get("console"),
                self._login,
                bool(self.options.get("cli")),
                _SESSION_TIMEOUT,
            ) as session:
                yield session
