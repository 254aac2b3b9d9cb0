# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.console_script import ConsoleScript
from ansible_collections.vlab.qemu.tests.unit.fake_console import FakeConsole

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
    script = ConsoleScript(router.path, steps, timeout=5, **more)
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
        ConsoleScript(str(tmp_path / "none"), steps, **more)
    assert caught.value.facts["option"] == option
