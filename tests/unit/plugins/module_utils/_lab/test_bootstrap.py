# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
import time

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console import screen
from ansible_collections.vlab.qemu.plugins.module_utils._lab.bootstrap import Bootstrap
from ansible_collections.vlab.qemu.plugins.module_utils._lab.commands import Commands
from ansible_collections.vlab.qemu.plugins.module_utils._lab.done_digest import DoneDigest
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.clone import Clone
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import SavedState
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.revert import Reverter
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import settings_of
from ansible_collections.vlab.qemu.tests.unit.console_system import ConsoleSystem
from ansible_collections.vlab.qemu.tests.unit.first_boot import FirstBoot
from ansible_collections.vlab.qemu.tests.unit.flood import Flood
from ansible_collections.vlab.qemu.tests.unit.vm_world import (
    FakeHost,
    compose,
    granted,
    snapshot_record,
)

SECRET = "Open-Sesame-1"
LINES = "hostname edge1\n\ninterface e1\n\tdescription %s\nip address 10.0.0.1/24\n" % ("x" * 130)
# A system that asks questions, requires a new password, and is slow to accept commands.
SYSTEM = {
    "boot": ["loading ####", "Last login: unknown", "ready # or not"],
    "noise": ["%LINK-3-UPDOWN: e1 is up #", "%SYS-5-CONFIG: a message of the log >"],
    "first": "dialog",
    "loses": 115,
    "covers": ["config"],
    "states": {
        "dialog": {
            "shows": "Enter the initial dialog? [yes/no]: ",
            "rules": [{"line": "no", "go": "return"}],
            "otherwise": "answer yes or no",
        },
        "return": {
            "shows": "Press RETURN to get started!\r\n",
            "rules": [{"line": "", "go": "login"}],
        },
        "login": {"shows": "edge login: ", "rules": [{"line": "admin", "go": "password"}]},
        "password": {
            "shows": "Password: ",
            "hidden": True,
            "rules": [
                {"line": "admin", "say": "Login incorrect\n", "go": "login", "tries": 2},
                {"line": "admin", "go": "new"},
                {"line": SECRET, "go": "exec"},
                {"line": ".*", "say": "Login incorrect\n", "go": "login"},
            ],
        },
        "new": {
            "shows": "New password: ",
            "hidden": True,
            "rules": [{"line": ".+", "go": "again"}],
        },
        "again": {
            "shows": "Retype new password: ",
            "hidden": True,
            "rules": [{"line": SECRET, "go": "exec"}],
        },
        "exec": {
            "shows": "edge# ",
            "rules": [
                {"line": "configure", "say": "% configuration load, not ready\n", "tries": 2},
                {"line": "configure", "go": "config"},
                {"line": "show version", "say": "Version 7.2\n"},
                {"line": "feature seven", "say": "ok\n"},
                {"line": "save", "say": "[#####\r[########## 100%\nsaved\n", "go": "exec"},
            ],
        },
        "config": {
            "shows": "edge(config)# ",
            "config": True,
            "rules": [{"line": "end", "go": "exec"}, {"line": "bad .*", "say": "% Invalid\n"}],
        },
    },
}
OPTIONS = {
    "prompt": r"^edge(\(\w+\))?# *",
    "errors": "^% ",
    "timeout": 5,
    "steps": [
        {
            "name": "questions",
            "answer": [
                {"expect": r"\[yes/no\]: *$", "send": "no"},
                {"expect": "Press RETURN", "send": "", "once": True},
            ],
            "until": "edge login: *$",
        },
        {
            "login": {
                "user": "admin",
                "password": "admin",
                "new_password": SECRET,
                "change": ["New password: *$", "Retype new password: *$"],
                "retry": 1,
            }
        },
        {"send": "configure", "retry": {"when": "not ready", "every": 1, "tries": 5}},
        {"name": "config", "lines": LINES},
        {"send": "end"},
        {"send": "show version"},
        {"send": "feature seven", "if_shown": r"Version 7\."},
        {"send": "feature eight", "unless_shown": r"Version 7\."},
        {"name": "save", "send": "save", "until": r"^saved\s"},
    ],
}


@pytest.fixture
def boot(tmp_path, monkeypatch):
    return FirstBoot(tmp_path, monkeypatch)


@pytest.fixture
def folder(boot):
    return boot.folder


def changed(options, **more):
    return dict(copy.deepcopy(options), **more)


def test_a_system_is_configured_once(boot, folder):
    with ConsoleSystem(folder.socket("console.sock"), SYSTEM) as system:
        first = boot.run(OPTIONS)
        assert first.change.option == "bootstrap" and first.change.before is None
        assert system.configured == [
            line.expandtabs().strip() for line in LINES.splitlines() if line.strip()
        ]
        commands = [line for state, line in system.typed if state == "exec" and line]
        assert commands == ["configure"] * 3 + ["show version", "feature seven", "save"]
        assert system.table["noise"] and not system._noise, "the noise came"
        typed = len(system.typed)
        second = boot.run(OPTIONS)
        assert second.change is None and second.warning == "" and len(system.typed) == typed
    with open(folder.run, encoding="utf-8") as stream:
        assert json.load(stream)["definition"]["bootstrap"] == boot.saved()["bootstrap"]
    assert SECRET not in json.dumps(boot.saved())


@pytest.mark.parametrize(
    "again, boots, runs, is_typed, warns",
    [
        ("never", False, True, False, True),
        ("change", False, True, True, False),
        ("change", False, False, False, False),
        ("boot", True, True, True, False),
        ("boot", False, True, False, False),
    ],
)
def test_when_it_is_typed_again(boot, folder, again, boots, runs, is_typed, warns):
    with ConsoleSystem(folder.socket("console.sock"), SYSTEM):
        boot.run(changed(OPTIONS, again=again))
    other = changed(OPTIONS, again=again)
    other["steps"][3]["lines"] = "hostname edge2"
    bootstrap = Bootstrap(folder, other)
    bootstrap.plan(boot.saved(), runs, boots)
    assert (bool(bootstrap.change), bool(bootstrap.warning)) == (is_typed, warns)


def test_a_run_after_a_killed_one_goes_on_at_the_prompt(boot, folder):
    """The system shows nothing new: the last line of the log has the question."""
    with open(folder.file("console.log"), "wb") as stream:
        stream.write(b"loading\r\nEnter the initial dialog? [yes/no]: ")
    quiet = dict(SYSTEM, boot=[], states=copy.deepcopy(SYSTEM["states"]))
    quiet["states"]["dialog"]["shows"] = ""
    with ConsoleSystem(folder.socket("console.sock"), quiet) as system:
        boot.run(OPTIONS, boots=False)
        assert "hostname edge1" in system.configured


def without(path, **changes):
    """Return the system with other values of a state."""
    table = copy.deepcopy(SYSTEM)
    table["states"][path].update(changes)
    return table


REFUSES_LOGIN = without(
    "password", rules=[{"line": ".*", "say": "Login incorrect\n", "go": "login"}]
)
DEAF = without("exec", hidden=True)


@pytest.mark.parametrize(
    "table, number, change, message",
    [
        (
            SYSTEM,
            0,
            {"until": "never", "timeout": 1},
            r"steps\[0\] \(questions\)\.until: the console did "
            r"not show .never. within 1 s\. Its last output: (.*\n)*.*edge login:",
        ),
        (
            SYSTEM,
            0,
            {"expect": "never", "timeout": 1},
            r"steps\[0\] \(questions\)\.expect: the console "
            "did not show 'never' within 1 s",
        ),
        (
            REFUSES_LOGIN,
            1,
            {"timeout": 3},
            r"steps\[1\]\.login: the guest rejected the password of "
            r"\*+ \d+ times",
        ),
        (
            SYSTEM,
            2,
            {"retry": {"when": "not ready", "every": 1, "tries": 2}},
            r"steps\[2\]\.retry: it was "
            r"refused 2 times\. Its last output: (.*\n)*% configuration load",
        ),
        (SYSTEM, 2, {"retry": None}, r"steps\[2\]: the system refused 'configure'"),
        (
            SYSTEM,
            3,
            {"lines": "good\nbad password %s\n" % SECRET},
            r"steps\[3\] \(config\)\.lines, line "
            r"2: the system refused 'bad password \*+'\. Its last output: (.*\n)*% Invalid",
        ),
        (
            DEAF,
            2,
            {"timeout": 1},
            r"steps\[2\]: the console did not echo 'configure' as typed within 1 s",
        ),
        (
            SYSTEM,
            8,
            {"until": "stored", "timeout": 1},
            r"steps\[8\] \(save\)\.until: the console did not show 'stored'",
        ),
    ],
)
def test_what_fails(boot, folder, table, number, change, message):
    """The error has the step and the last lines, and never a secret; nothing is remembered."""
    options = copy.deepcopy(OPTIONS)
    options["steps"][number].update(change)
    with ConsoleSystem(folder.socket("console.sock"), table):
        with pytest.raises(GuestError, match="its bootstrap failed: " + message) as caught:
            boot.run(options)
    assert SECRET not in str(caught.value.message) + json.dumps(caught.value.facts)
    assert "bootstrap" not in boot.saved()
    assert caught.value.facts["rung"] == "bootstrap" and caught.value.facts["node"] == "r1"


def test_a_uart_that_loses_what_comes_at_once(boot, folder, monkeypatch):
    monkeypatch.setattr(screen, "_MAX_CHUNK", 1000)
    with ConsoleSystem(folder.socket("console.sock"), SYSTEM):
        with pytest.raises(GuestError, match=r"line 4: the console did not echo"):
            boot.run(changed(OPTIONS, timeout=1))


@pytest.mark.parametrize(
    "data", [b"x", b"edge# ", b"\n", b"\x1b[", b"login: ", b"\r\n%  noise\r\n"]
)
def test_a_console_that_never_pauses(boot, folder, data):
    options = changed(OPTIONS, timeout=0.3)
    with Flood(folder.socket("console.sock"), data):
        began = time.monotonic()
        for number in (0, 1, 3):
            with pytest.raises(GuestError):
                boot.run(dict(options, steps=options["steps"][number:]))
        assert time.monotonic() - began < 20


def test_a_vm_that_ends(boot, folder):
    system = ConsoleSystem(folder.socket("console.sock"), SYSTEM)
    with system:
        system._stop.set()
        with pytest.raises(GuestError, match="the console at .* was closed: the VM has ended"):
            boot.run(OPTIONS)


@pytest.mark.parametrize(
    "change, option",
    [
        ({"steps": [{}]}, "steps[0]"),
        ({"steps": [{"send": "a", "login": {"user": "b"}}]}, "steps[0].login"),
        ({"steps": [{"expect": "("}]}, "steps[0].expect"),
        ({"steps": [{"answer": [{"expect": "a"}]}]}, "steps[0].answer[0]"),
        ({"steps": [{"answer": [{"expect": "", "send": ""}]}]}, "steps[0].answer[0].expect"),
        ({"steps": [{"send": "a", "retry": {"every": 1}}]}, "steps[0].retry"),
        ({"steps": [{"login": {"user": ""}}]}, "steps[0].login.user"),
        ({"steps": [{"login": {"user": "a", "change": ["b"]}}]}, "steps[0].login.change"),
        ({"steps": [{"login": {"user": "a", "failed": "("}}]}, "steps[0].login.failed"),
        ({"prompt": "("}, "prompt"),
        ({"errors": "("}, "errors"),
        ({"prompt": None, "steps": [{"login": {"user": "a"}}]}, "steps[0]"),
        ({"prompt": None, "steps": [{"send": "a", "errors": "b"}]}, "steps[0].errors"),
        ({"prompt": None, "echo": True}, "steps[0]"),
        ({"again": "often"}, "again"),
    ],
)
def test_mistakes(boot, folder, change, option):
    options = changed(OPTIONS, **change)
    if change == {"prompt": None, "echo": True}:
        options["steps"], option = [{"send": "a"}], "echo"
    with pytest.raises(OptionError) as caught:
        Bootstrap(folder, options)
    assert caught.value.option == "nodes.r1.bootstrap." + option


def test_a_console_that_does_not_exist(boot, folder):
    bootstrap = Bootstrap(folder, changed(OPTIONS, console="aux"))
    with pytest.raises(OptionError, match=r"nodes\.r1\.bootstrap\.console: .* it has console"):
        bootstrap.plan(boot.saved(), True, True)


AGAIN = changed(OPTIONS, again="change")
EXEC = {"commands": ["true"], "shown": ["true"], "secrets": [], "agent": True}


@pytest.fixture
def origin(boot, folder, tmp_path):
    """A snapshot s of a VM that was configured and has run commands, and changed after that."""
    with ConsoleSystem(folder.socket("console.sock"), SYSTEM):
        boot.run(AGAIN)
    host = FakeHost(name="r1", lab="origin", root=tmp_path / "labs")
    host.folder.make()
    given = {"memory": "32", "disks": [{"name": "d", "path": "/d.img", "read_only": True}]}
    definition = granted(compose(host=host, nics=[], **given))
    definition["bootstrap"] = boot.saved()["bootstrap"]
    DoneDigest("exec", ["true"]).put(definition)
    state = SavedState(host.folder, "s")
    state.make()
    state.save(snapshot_record(definition))
    later = dict(definition, bootstrap="salt:of another configuration")
    del later["exec"]
    definitions.save(host.folder, later)
    return state


def is_done(folder, definition, options=None, commands=None):
    """Return whether a run types nothing and runs nothing, in a guest that continues."""
    found = []
    for part in (Bootstrap(folder, options or AGAIN), Commands(folder, commands or EXEC)):
        part.plan(definition, True, False)
        found.append(part.change is None)
    return tuple(found)


def test_a_clone_has_what_was_done_in_its_origin(origin):
    folder = Folder(origin.vm.root, "other", "r1")
    clone = Clone(folder, "origin", "r1", "s")
    clone.load()
    host = FakeHost(name="r1", lab="other", root=origin.vm.root)

    def made():
        return definitions.compose(clone.definition(), {}, host)

    assert is_done(folder, made()) == (True, True)
    other = copy.deepcopy(AGAIN)
    other["steps"][3]["lines"] = "hostname edge2"
    assert is_done(folder, made(), other, dict(EXEC, commands=["false"])) == (False, False)


def test_a_vm_that_went_back_to_a_snapshot_has_what_was_done_then(origin):
    folder = origin.vm
    before = definitions.load(folder)
    assert is_done(folder, dict(before)) == (False, False)
    reverter = Reverter(origin, origin.load(), before, settings_of({}))
    reverter.replace_files(None)
    after = definitions.load(folder)
    assert is_done(folder, dict(after)) == (True, True)
    other = copy.deepcopy(AGAIN)
    other["steps"][3]["lines"] = "hostname edge2"
    assert is_done(folder, dict(after), other, dict(EXEC, commands=["false"])) == (False, False)
