# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json
import subprocess
import types

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab import commands
from ansible_collections.vlab.qemu.plugins.module_utils._lab.commands import Commands
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.tests.unit.console_system import ConsoleSystem
from ansible_collections.vlab.qemu.tests.unit.fake_console import FakeConsole
from ansible_collections.vlab.qemu.tests.unit.first_boot import CONSOLES
from ansible_collections.vlab.qemu.tests.unit.plugins.module_utils._qemu.test_guest_agent import (
    FakeAgent,
)

SECRET = "Open-Sesame-1"
# A command line behind a login, which refuses what it does not know.
SYSTEM = {
    "first": "idle",
    "states": {
        "idle": {"shows": "", "rules": [{"line": "", "go": "login"}]},
        "login": {"shows": "edge login: ", "rules": [{"line": "admin", "go": "password"}]},
        "password": {
            "shows": "Password: ",
            "hidden": True,
            "rules": [
                {"line": SECRET, "go": "exec"},
                {"line": ".*", "say": "Login incorrect\n", "go": "login"},
            ],
        },
        "exec": {
            "shows": "edge# ",
            "rules": [
                {"line": "configure", "go": "config"},
                {"line": "copy", "say": "Destination filename?", "go": "question"},
                {"line": "boot", "go": "login"},
            ],
        },
        "question": {"shows": ""},
        "config": {
            "shows": "edge(config)# ",
            "config": True,
            "rules": [{"line": "end", "go": "exec"}, {"line": "bad .*", "say": "% Invalid\n"}],
        },
    },
}
LOGIN = {"user": "admin", "password": SECRET, "prompt": r"^edge(\(\w+\))?# *"}


class Agent(FakeAgent):
    """A guest agent that runs programs here."""

    def _answer(self, client, request):
        if request["execute"] == "guest-exec":
            given = request["arguments"]
            done = subprocess.run([given["path"], *given["arg"]], capture_output=True, check=False)
            self.answers["guest-exec-status"] = {
                "exited": True,
                "exitcode": done.returncode,
                "out-data": base64.b64encode(done.stdout).decode(),
                "err-data": base64.b64encode(done.stderr).decode(),
            }
        super()._answer(client, request)


class Node:
    """A node with its files."""

    def __init__(self, path, disks=({"name": "root"},)):
        self.folder = Folder(str(path), "lab", "r1")
        self.folder.make()
        self.console = self.folder.socket("console.sock")
        self.definition = {"name": "r1", "consoles": CONSOLES, "ports": {}, "disks": list(disks)}
        for file in (self.folder.definition, self.folder.run):
            with open(file, "w", encoding="utf-8") as stream:
                json.dump({"definition": self.definition, **self.definition}, stream)

    def saved(self):
        with open(self.folder.definition, encoding="utf-8") as stream:
            return json.load(stream)

    def plan(self, options, runs=True, boots=False):
        """Return the planned Commands, and the definition."""
        planned, definition = Commands(self.folder, options), self.saved()
        planned.plan(definition, runs, boots)
        return planned, definition

    def run(self, options, boots=False):
        """Plan and run. Return the change."""
        planned, definition = self.plan(options, True, boots)
        if planned.change:
            observation = types.SimpleNamespace(running=definition, folder=self.folder, run={})
            planned.run(definition, observation)
        return planned.change


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "_SESSION_TIMEOUT", 5)
    return Node(tmp_path)


def options(*given, **more):
    by_agent = {"agent": True, "console": None, "cli": False, "login": {}, "errors": "^% "}
    return {"commands": list(given), "shown": list(given), "secrets": [], **by_agent, **more}


def on_cli(*given, **more):
    return options(*given, agent=False, cli=True, login=LOGIN, secrets=[SECRET], **more)


def test_commands_are_run_once_and_again_if_they_change(node, tmp_path):
    file = tmp_path / "out"
    first = options("echo one >>%s" % file, "echo $((1+1)) >>%s" % file)
    with Agent(node.folder.socket("agent.sock"), {"guest-exec": {"pid": 1}}):
        change = node.run(first)
        assert (change.option, change.before, change.after) == ("exec", None, first["shown"])
        assert node.run(first) is None and file.read_text() == "one\n2\n"
        change = node.run(options("echo three >>%s" % file))
        assert change.before == "other commands" and file.read_text() == "one\n2\nthree\n"
    with open(node.folder.run, encoding="utf-8") as stream:
        assert json.load(stream)["definition"]["exec"] == node.saved()["exec"]


@pytest.mark.parametrize(
    "disks, runs, boots, is_run",
    [
        ([{"name": "root"}], True, True, False),
        ([], True, True, True),
        ([], True, False, False),
        ([], False, True, False),
    ],
)
def test_what_a_node_without_a_disk_forgets_is_run_at_each_boot(
    tmp_path, disks, runs, boots, is_run
):
    node, given = Node(tmp_path, disks), options("true")
    with Agent(node.folder.socket("agent.sock"), {"guest-exec": {"pid": 1}}):
        node.run(given)
    planned, definition = node.plan(given, runs, boots)
    assert (planned.change is not None) == is_run
    assert ("exec" in definition) == (not boots or bool(disks)), "a killed run does it again"


def test_a_command_that_fails_is_named_and_what_follows_is_not_run(node, tmp_path):
    file = tmp_path / "out"
    given = options("true", "echo %s; echo no such user >&2; exit 3" % SECRET, "touch %s" % file)
    given.update(secrets=[SECRET], shown=["true", "echo {vars.key}; exit 3", "touch"])
    with Agent(node.folder.socket("agent.sock"), {"guest-exec": {"pid": 1}}):
        with pytest.raises(GuestError) as caught:
            node.run(given)
    assert caught.value.message == (
        "its exec[1] ('echo {vars.key}; exit 3') failed: it ended with exit code 3. "
        "Its output: ********\nno such user"
    )
    assert caught.value.facts == {
        "node": "r1",
        "rung": "exec",
        "console": "********\nno such user",
    }
    assert not file.exists() and "exec" not in node.saved()


def test_an_agent_that_does_not_answer(node, monkeypatch):
    monkeypatch.setattr(commands, "_SESSION_TIMEOUT", 0.2)
    with pytest.raises(GuestError, match="its exec could not begin: no guest agent answers at"):
        node.run(options("true"))


def test_a_shell_on_the_console(node, tmp_path):
    file = tmp_path / "out"
    with FakeConsole(node.console, ["/bin/sh", "-i"]):
        node.run(options("echo 'a b' >%s" % file, agent=False))
        assert file.read_text() == "a b\n"
        with pytest.raises(GuestError, match=r"its exec\[0\] .* exit code 1"):
            node.run(options("false", agent=False))


def test_a_command_line_on_the_console(node):
    given = on_cli("configure", "hostname edge1", "username x password " + SECRET, "end")
    with ConsoleSystem(node.console, SYSTEM) as system:
        change = node.run(given)
        assert system.configured == ["hostname edge1", "username x password " + SECRET]
        assert change.after[2] == "username x password ********"
        typed = len(system.typed)
        assert node.run(given) is None and len(system.typed) == typed
    assert SECRET not in json.dumps(node.saved())


@pytest.mark.parametrize(
    "given, message",
    [
        (
            ["configure", "bad " + SECRET],
            r"its exec\[1\] \('bad \*+'\) failed: the system refused it\. Its output: % Invalid",
        ),
        (["copy"], r"its exec\[0\] \('copy'\) failed: no prompt came after 'copy' in time(.|\n)*"),
        (["boot"], r"its exec\[0\] \('boot'\) failed: the session on the console .* has ended"),
    ],
)
def test_what_a_command_line_refuses(node, monkeypatch, given, message):
    monkeypatch.setattr(commands, "_COMMAND_TIMEOUT", 1)
    with ConsoleSystem(node.console, SYSTEM):
        with pytest.raises(GuestError, match=message) as caught:
            node.run(on_cli(*given))
    assert SECRET not in caught.value.message + json.dumps(caught.value.facts)
    assert "exec" not in node.saved()


def test_a_login_that_is_refused(node):
    given = on_cli("configure", **{})
    given["login"] = dict(LOGIN, password="wrong")
    with ConsoleSystem(node.console, SYSTEM):
        with pytest.raises(GuestError, match="its exec could not begin: the guest rejected the"):
            node.run(given)


@pytest.mark.parametrize("console, agent", [("aux", False), (None, False), ("aux", True)])
def test_a_node_without_a_way_to_run_commands(node, console, agent):
    planned = Commands(node.folder, options("true", console=console, agent=agent))
    definition = dict(node.definition, consoles=[] if console is None else CONSOLES)
    if agent:
        planned.plan(definition, True, False)
        return
    with pytest.raises(OptionError, match=r"nodes\.r1\.exec: commands need a guest agent"):
        planned.plan(definition, True, False)
