# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The first configuration of a node, typed on its console as the bootstrap of its kind says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE, Change
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console.console import Console
from ansible_collections.vlab.qemu.plugins.module_utils._console.script import Script
from ansible_collections.vlab.qemu.plugins.module_utils._console.steps import SCRIPT_SPEC
from ansible_collections.vlab.qemu.plugins.module_utils._lab.done_digest import DoneDigest
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import (
    log_name,
    open_console,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation

DEFAULT_TIMEOUT = 60  # seconds for a step
AGAIN = ("never", "change", "boot")
# The keys of bootstrap in a kind.
BOOTSTRAP_SPEC: dict[str, dict[str, Any]] = {
    **SCRIPT_SPEC,
    "console": {"type": "str"},
    "again": {"type": "str", "choices": list(AGAIN), "default": AGAIN[0]},
}
_MAX_LAST_LINE = 4096  # bytes
KEY = "bootstrap"


class Bootstrap:
    """The script of one node.

    options: those of BOOTSTRAP_SPEC, of a valid script. Raises OptionError for others.
    change: what this run does, None if it types nothing. warning: what it leaves as it is.
    """

    def __init__(self, folder: Folder, options: dict[str, Any]) -> None:
        self.folder, self.options = folder, dict({"timeout": DEFAULT_TIMEOUT}, **options)
        self.path = "nodes.%s.bootstrap" % folder.name
        self.change: Change | None = None
        self.warning = ""
        self._done = DoneDigest(KEY, options["steps"])
        if self.options.get("again", AGAIN[0]) not in AGAIN:
            raise OptionError(self.path + ".again", "it must be one of %s" % ", ".join(AGAIN))
        # The options must be known to be valid before anything is changed.
        Script(Console(""), self.options, path=self.path + ".")

    def plan(self, definition: Definition, runs: bool, boots: bool) -> None:
        """Plan whether to type.

        definition: the desired one, with the digest of the last time. runs: whether the guest runs
        after this run. boots: whether it boots in it. Raises OptionError.
        """
        consoles = [console["name"] for console in definition["consoles"]]
        if not consoles or self.options.get("console") not in (None, *consoles):
            raise OptionError(
                self.path + ".console",
                "the VM has no such console; it has %s" % (", ".join(consoles) or "none"),
            )
        again, is_same = self.options.get("again", AGAIN[0]), self._done.compare(definition)
        before = None
        if is_same is not None:
            before = "done" if is_same else "done with another configuration"
            if again == "never" and not is_same:
                self.warning = (
                    "%s: its configuration has changed since it was typed at the first boot; it is "
                    "typed again only with bootstrap.again: change in its kind" % self.folder.name
                )
            if not (again == "boot" and boots or again == "change" and not is_same):
                return
            if again == "boot":
                self._done.remove(definition)
        if runs:
            self.change = Change((KEY,), before, "done", LIVE)

    def run(self, definition: Definition, observation: Observation, boots: bool) -> None:
        """Type, and save that it was done in the definition and in the record of the run.

        Raises GuestError with the step that failed.
        """
        console = open_console(self.folder, self.options.get("console"))
        script = Script(console, self.options)
        try:
            script.run(b"" if boots else self._last_line(definition))
        except GuestError as error:
            raise GuestError(
                "its bootstrap failed: %s" % error.message,
                node=self.folder.name,
                rung=KEY,
                console=script.last_lines,
            )
        self._done.save(self.folder, definition, observation)

    def _last_line(self, definition: Definition) -> bytes:
        """Return the unfinished line that a guest has shown before the connection."""
        console = next(
            console
            for console in definition["consoles"]
            if self.options.get("console") in (None, console["name"])
        )
        try:
            with open(self.folder.file(log_name(console)), "rb") as stream:
                stream.seek(max(0, os.fstat(stream.fileno()).st_size - _MAX_LAST_LINE))
                return stream.read().rpartition(b"\n")[2]
        except OSError:
            return b""  # it has no log
