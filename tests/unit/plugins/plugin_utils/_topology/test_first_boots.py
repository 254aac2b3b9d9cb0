# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The first boot of each kind with a script, played against a table of the system."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import GuestError
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
    bootstrap,
    builder,
    kinds,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems
from ansible_collections.vlab.qemu.tests.unit.console_system import ConsoleSystem
from ansible_collections.vlab.qemu.tests.unit.first_boot import FirstBoot

TABLES = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((pathlib.Path(__file__).resolve().parents[3] / "first_boots").glob("*.yml"))
}
_TIMEOUT = 4  # seconds for a step of a system that is played
LINES = [
    "hostname edge1",
    "interface one",
    "description %s" % " ".join(["a long text"] * 12),
    "no shutdown",
]


def script(name, table, **more):
    """Return the script of a node with a config."""
    node = {
        "kind": table.get("kind", name),
        "config": "\n".join(LINES),
        "bootstrap": True,
        "vars": table.get("vars", {}),
        **more,
    }
    topology = builder.build({"name": "t", "nodes": {"r1": node}})
    made = bootstrap.script_of(topology, topology.nodes["r1"], lambda _node, content: content)
    steps = [dict(step, timeout=_TIMEOUT) for step in made["steps"]]
    for step in steps:
        if step.get("login", {}).get("retry"):
            step["login"] = dict(step["login"], retry=1)
    return dict(made, steps=steps)


@pytest.fixture
def boot(tmp_path, monkeypatch):
    return FirstBoot(tmp_path, monkeypatch)


def test_all_kinds_with_a_script_are_played():
    shipped = [name for name in kinds.shipped() if kinds.shipped()[name].get("bootstrap")]
    assert sorted({table.get("kind", name) for name, table in TABLES.items()}) == sorted(shipped)
    for name in kinds.shipped():
        problems = Problems()
        spec = kinds.resolve(name, {}, problems, name)
        bootstrap.check_script(name, spec["bootstrap"], problems)
        assert not problems.found


@pytest.mark.parametrize("name", TABLES)
def test_a_system_is_configured_once(boot, name):
    table = dict(TABLES[name], loses=115)
    with ConsoleSystem(boot.socket, table) as system:
        first = boot.run(script(name, table))
        assert first.change
        assert system.configured == LINES
        typed = [line for _state, line in system.typed]
        if "saves" in table:
            assert table["saves"] in typed[typed.index(LINES[-1]) :]
        second = boot.run(script(name, table))
        assert (second.change, second.warning) == (None, "")
        assert [line for _state, line in system.typed] == typed


def test_a_prompt_that_is_not_the_last_is_not_answered(boot):
    # It prints a message that ends like a login prompt before the prompt itself.
    table = TABLES["extreme_exos"]
    with ConsoleSystem(boot.socket, table) as system:
        boot.run(script("extreme_exos", table))
        assert system.typed[:3] == [("login", "admin"), ("password", ""), ("wizard", "q")]


@pytest.mark.parametrize("name", TABLES)
def test_a_line_that_the_system_refuses_is_named(boot, name):
    table = dict(TABLES[name])
    refusals = {
        "juniper_vsrx": "syntax error.",
        "juniper_vmx_vcp": "syntax error.",
        "juniper_vqfx_re": "syntax error.",
        "fortinet_fortigate": "Command fail. Return code -61",
        "paloalto_panos": "Invalid syntax.",
        "nvidia_cumulusvx": "-bash: nonsense: command not found",
        "extreme_exos": "Error: Invalid input detected",
        "extreme_voss": "% Invalid input detected",
        "huawei_vrp": "Error: Unrecognized command found",
        "arrcus_arcos": "syntax error: unknown command",
        "mikrotik_ros": "bad command name nonsense",
        "sonic": "-bash: nonsense: command not found",
        "openwrt": "-ash: nonsense: not found",
        "opnsense": "nonsense: Command not found.",
        "cisco_asav": "ERROR: % Invalid input detected",
        "nokia_sros": "MINOR: MGMT_CORE #2201: Unknown element",
        "nokia_sros_classic": "Error: Bad command.",
        "aruba_aoscx": "Invalid input: nonsense",
    }
    refusal = {"line": "nonsense", "say": refusals.get(name, "% Invalid input detected") + "\n"}
    table["states"] = {
        state: dict(entry, rules=[refusal, *entry.get("rules", ())])
        for state, entry in table["states"].items()
    }
    options = script(name, table, config="%s\nnonsense\n" % LINES[0])
    number = next(n for n, step in enumerate(options["steps"]) if "lines" in step)
    message = (
        r"steps\[%d\]\.lines, line 2: the system refused 'nonsense'\. Its last output: " % number
    )
    with ConsoleSystem(boot.socket, table):
        with pytest.raises(
            GuestError, match=message + r"(.*\n)*.*" + re.escape(refusal["say"].strip())
        ):
            boot.run(options)


@pytest.mark.parametrize("name", [name for name in TABLES if "login" in TABLES[name]["states"]])
def test_a_login_that_is_always_refused(boot, name):
    table = dict(TABLES[name])
    steps = script(name, table)["steps"]
    login = next(n for n, step in enumerate(steps) if "login" in step)
    says = "User Authentication failed\n" if name == "cisco_xrv" else "Login incorrect\n"
    refused = {
        "shows": "Password: ",
        "hidden": True,
        "rules": [{"line": ".*", "say": says, "go": "login"}],
    }
    states = dict(table["states"], password=refused)
    user = steps[login]["login"]["user"]
    states["login"] = dict(states["login"], rules=[{"line": re.escape(user), "go": "password"}])
    options = dict(script(name, table))
    options["steps"] = [
        dict(step, timeout=2) if n == login else step for n, step in enumerate(steps)
    ]
    with ConsoleSystem(boot.socket, dict(table, states=states)):
        with pytest.raises(GuestError, match=r"steps\[%d\] \(log in\)\.login: the " % login):
            boot.run(options)
