# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The folder of a node, and the runs that configure it on its console, without long waits."""

from __future__ import annotations

import json
import types

from ansible_collections.vlab.qemu.plugins.module_utils._console import login, screen, script
from ansible_collections.vlab.qemu.plugins.module_utils._lab.bootstrap import Bootstrap
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

CONSOLES = [{"name": "console", "type": "unix", "log": True, "host": None, "port": None}]
_SPEED = 50  # of the pauses between tries


class FirstBoot:
    """path: an empty folder. socket: the path of the console."""

    def __init__(self, path, monkeypatch):
        self.folder = Folder(str(path), "lab", "r1")
        self.folder.make()
        self.socket = self.folder.socket("console.sock")
        definition = {"name": "r1", "consoles": CONSOLES}
        self._write(self.folder.definition, definition)
        self._write(self.folder.run, {"definition": definition})
        for module, name, seconds in (
            (screen, "QUIET_TIME", 0.05),
            (login, "QUIET_TIME", 0.05),
            (script, "ECHO_OFF_TIME", 0.05),
            (login, "ECHO_OFF_TIME", 0.05),
            (script, "WAKE_TIME", 0.6),
        ):
            monkeypatch.setattr(module, name, seconds)
        wait = screen.pause
        for module in (script, login):
            monkeypatch.setattr(
                module, "pause", lambda console, seconds, end: wait(console, seconds / _SPEED, end)
            )

    @staticmethod
    def _write(path, data):
        with open(path, "w", encoding="utf-8") as stream:
            json.dump(data, stream)

    def saved(self):
        """Return the definition of the VM."""
        with open(self.folder.definition, encoding="utf-8") as stream:
            return json.load(stream)

    def run(self, options, boots=True):
        """Plan and type. Return the Bootstrap."""
        bootstrap, definition = Bootstrap(self.folder, options), self.saved()
        bootstrap.plan(definition, True, boots)
        if bootstrap.change:
            running = {"name": "r1", "consoles": CONSOLES}
            observation = types.SimpleNamespace(running=running, folder=self.folder, run={})
            bootstrap.run(definition, observation, boots)
        return bootstrap
