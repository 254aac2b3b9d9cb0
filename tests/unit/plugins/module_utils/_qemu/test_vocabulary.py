# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import sys

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._qemu import vocabulary as module
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import parse_keyval

# A QEMU that counts its starts, knows two types and the options -m and -no-reboot, and aborts when
# it is asked about the device "aborts".
FAKE = r"""#!%s
import json, sys
open(sys.argv[0] + ".starts", "a").write("x")
if "-help" in sys.argv:
    sys.exit(print("usage\n-m [size=]megs\n                more\n-no-reboot  exit\n-h or -help  x"))
if "-version" in sys.argv:
    words = sys.argv[sys.argv.index("-version") + 1:]
    for word in words:
        if word not in ("-m", "-no-reboot", "5"):
            sys.exit(sys.argv[0] + ": %%s: invalid option" %% word)
    sys.exit(0)
TYPES = {"pvpanic": ["ioport"], "max-x86_64-cpu": ["aes"], "pc-machine": ["vmport"]}
say = lambda value: print(json.dumps(value), flush=True)
say({"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}})
for line in sys.stdin:
    request = json.loads(line)
    name, kind = request["execute"], request["arguments"].get("typename")
    if kind == "aborts":
        sys.exit("assertion failed")
    if name == "query-cpu-definitions" and MODELS:
        say({"return": [{"name": "max", "typename": "max-x86_64-cpu"}, {"name": "odd"}]})
    elif kind in TYPES:
        say({"return": [{"name": entry, "type": "bool"} for entry in TYPES[kind]]})
    elif name in ("quit", "qmp_capabilities"):
        say({"return": {}})
    else:
        say({"error": {"class": "CommandNotFound", "desc": "no"}})
    if name == "quit":
        break
"""


@pytest.fixture(name="make")
def fixture_make(tmp_path):
    path = tmp_path / "qemu-system-x86_64"

    def make(models=True):
        if not path.exists():
            path.write_text((FAKE % sys.executable).replace("MODELS", str(models)))
            path.chmod(0o755)
        return module.Vocabulary(str(path), str(tmp_path / "cache"))

    make.starts = lambda: os.path.getsize(str(path) + ".starts")
    return make


def test_answers_are_asked_once(make):
    for _run in range(2):
        words = make()
        assert words.cpu_models() == {"max": "max-x86_64-cpu"}
        assert words.cpu_properties("max") == {"aes"}
        assert words.cpu_properties("other") is None
        assert words.device_properties("pvpanic") == {"ioport"}
        assert words.machine_properties("pc") == {"vmport"}
        assert words.refusal(["-m", "5"]) == ""
        assert words.refusal(["-m", "5", "-foo"]) == "-foo: invalid option"
    assert make.starts() == 6


def test_what_the_binary_does_not_report_is_unknown(make):
    words = make(models=False)
    assert words.cpu_models() is None
    assert words.cpu_properties("max") is None
    assert words.machine_properties("q35") is None
    assert words.device_properties("aborts") is None


def test_the_options_of_its_help(make):
    assert make().options() == {"m", "no-reboot", "h"}


def test_the_cache_keeps_few_refusals(make, monkeypatch):
    monkeypatch.setattr(module, "_MAX_REFUSALS", 2)
    for number in range(4):
        make().refusal(["-x%d" % number])
    assert len([key for key in make()._answers if key.startswith("refusal")]) == 3


def test_a_binary_that_cannot_run(tmp_path):
    path = tmp_path / "qemu"
    path.write_text("no program")
    words = module.Vocabulary(str(path), str(tmp_path / "cache"))
    assert (words.cpu_models(), words.refusal(["-x"]), words.options()) == (None, "", frozenset())


@pytest.mark.parametrize(
    "text, properties",
    [
        ("q35", {"type": "q35"}),
        ("type=q35,usb=on", {"type": "q35", "usb": "on"}),
        ("e1000,help", {"type": "e1000", "help": "on"}),
        ("a=b,,c,d=e=f", {"a": "b,c", "d": "e=f"}),
        ("", {}),
    ],
)
def test_option_strings_are_read(text, properties):
    assert parse_keyval(text, "type") == properties
