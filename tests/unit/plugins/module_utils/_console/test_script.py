# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
import time
import tracemalloc

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._console.console import Console
from ansible_collections.vlab.qemu.plugins.module_utils._console import transcript
from ansible_collections.vlab.qemu.plugins.module_utils._console.script import Script
from ansible_collections.vlab.qemu.tests.unit.console_system import ConsoleSystem
from ansible_collections.vlab.qemu.tests.unit.fake_console import FakeConsole
from ansible_collections.vlab.qemu.tests.unit.flood import Flood

ROUTER = r"""
name = "router"
while True:
    words = input(name + "> ").split()
    if words[:1] == ["hostname"]:
        name = words[1]
    elif words[:1] == ["password"]:
        print("the password is now " + words[1])
"""


@pytest.fixture
def router(tmp_path):
    with FakeConsole(tmp_path / "console.sock", [sys.executable, "-c", ROUTER]) as fake:
        yield fake


def held(router, steps, **more):
    script = Script(Console(router.path), {"steps": steps, "timeout": 5}, **more)
    script.run()
    return script


def test_once_and_not_again(router):
    steps = [
        {"send": ""},
        {"expect": "router> ", "send": "hostname edge1"},
        {"expect": r"edge\d> "},
    ]
    first, second = held(router, steps, unless="edge1> "), held(router, steps, unless="edge1> ")
    assert (first.changed, first.matches) == (True, [None, "router> ", "edge1> "])
    assert (second.changed, second.matches) == (False, [])
    assert "hostname edge1" in first.transcript


ASKS_TWICE = r"""
input()
print("Sure? [y/n] \nA message.\nSure? [y/n] ", end="", flush=True)
first = input()
second = input("Erase? [y/n] ")
print("done %s %s" % (first, second))
input()
"""


def test_a_question_that_is_asked_twice_gets_one_answer(tmp_path):
    answers = [{"expect": "Sure", "send": "y"}, {"expect": "Erase", "send": "n"}]
    with FakeConsole(tmp_path / "console.sock", [sys.executable, "-c", ASKS_TWICE]) as asks:
        script = held(asks, [{"send": ""}, {"answer": answers, "until": "done .*"}])
    assert "done y n" in script.transcript


def test_a_question_that_matches_nothing_at_all_gets_an_answer(tmp_path):
    with FakeConsole(tmp_path / "console.sock", [sys.executable, "-c", ASKS_TWICE]) as asks:
        answers = [{"expect": "y*", "send": "y", "once": True}]
        script = held(asks, [{"send": ""}, {"answer": answers, "until": "Erase"}])
    assert script.changed


def test_a_refusal_from_before_is_not_of_this_login(tmp_path):
    table = {
        "boot": ["login: somebody", "Login incorrect"],
        "first": "login",
        "states": {
            "login": {"shows": "login: ", "rules": [{"line": "admin", "go": "exec"}]},
            "exec": {"shows": "sw# "},
        },
    }
    with ConsoleSystem(tmp_path / "console.sock", table) as system:
        held(system, [{"login": {"user": "admin", "password": "x"}, "until": "sw# *$"}])
    assert system.typed == [("login", "admin")]


def test_secrets_are_masked(router):
    script = held(
        router,
        [
            {"send": ""},
            {"expect": "> ", "send": "password ", "enter": False},
            {"secret": "open.sesame"},
            {"expect": "is now"},
        ],
    )
    assert "open.sesame" not in script.transcript
    assert "the password is now ********" in script.transcript


def test_what_does_not_come(router):
    with pytest.raises(
        GuestError,
        match=r"^steps\[1\].expect: the console did not show 'never' within 1 s. "
        r"Its last output: .*router>",
    ) as caught:
        held(router, [{"send": ""}, {"expect": "never", "timeout": 1}])
    assert caught.value.facts["matches"] == [None]
    assert "router>" in caught.value.facts["transcript"]


@pytest.mark.parametrize(
    "steps, more, option",
    [
        ([{"expect": "["}], {}, "steps[0].expect"),
        ([{"send": "a"}, {}], {}, "steps[1]"),
        ([{"send": "a", "secret": "b"}], {}, "steps[0].secret"),
        ([{"send": "a"}], {"unless": "("}, "unless"),
    ],
)
def test_mistakes(tmp_path, steps, more, option):
    with pytest.raises(OptionError) as caught:
        Script(Console(str(tmp_path / "none")), {"steps": steps}, **more)
    assert caught.value.facts["option"] == option


@pytest.mark.parametrize(
    "steps",
    [
        [{"expect": "never", "timeout": 1}],
        [{"expect": "noise", "timeout": 5}],
        [{"expect": "(?s)n.*"}, {"expect": "noise"}, {"expect": "noise"}],
    ],
)
def test_a_console_that_prints_without_a_pause(tmp_path, steps):
    """The script ends in time, and keeps a bounded transcript."""
    with Flood(tmp_path / "console.sock", b"a line of noise\r\n") as flood:
        script = Script(Console(flood.path), {"steps": steps, "timeout": 3})
        tracemalloc.start()
        begin = time.monotonic()
        try:
            script.run()
        except GuestError:
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert time.monotonic() - begin < 6
    assert peak < 64 << 20
    assert len(script.transcript) <= 2 << 20


def test_a_long_transcript_keeps_its_end(router, monkeypatch):
    monkeypatch.setattr(transcript, "MAX_OUTPUT", 40)
    steps = [{"send": ""}] + [{"expect": "> ", "send": "hostname edge%d" % n} for n in range(9)]
    script = held(router, [*steps, {"expect": "edge8> "}])
    assert script.transcript.startswith("[earlier output is omitted]\n")
    assert script.transcript.endswith("edge8> ") and len(script.transcript) < 80
