# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hostile and odd definitions: they are data, or are refused by the name of the option.

VLAB_FUZZ=20000 tries as many as that; VLAB_FUZZ_SEED begins elsewhere.
"""

from __future__ import annotations

import os
import random

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._vm import command_line, converge, cpu_limit
from ansible_collections.vlab.qemu.plugins.module_utils._vm import host as host_module
from ansible_collections.vlab.qemu.plugins.module_utils._vm.qmp_session import parse_steps
from ansible_collections.vlab.qemu.plugins.module_utils._vm.run import VmRun
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts import firmware, machine
from ansible_collections.vlab.qemu.tests.unit.vm_world import VERSIONS, capabilities, granted

TEXTS = [
    "",
    " ",
    "a",
    "r1",
    "a,b=c",
    ",",
    "=",
    "a b",
    "'",
    '"',
    "\\",
    "a\nb",
    "..",
    "../x",
    "/",
    "/etc/passwd",
    "./x",
    "-S",
    "--x",
    "-",
    ".hidden",
    "é日本",
    "\U0001f600",
    "%s",
    "%(x)d",
    "{{ x }}",
    "{% raw %}",
    "$(touch x)",
    "`x`",
    "a\0b",
    "\0",
    "x" * 300,
    "é" * 150,
    "\udcff",
    "\ud800",
    "\x7f",
    "\x1b[31m",
    "\u202e",
    "²",
    "٣",
    "auto",
    "none",
    "true",
    "1",
    "0",
    "-1",
    "1e9",
    "nan",
    "9" * 5000,
    "1.5",
    "json:{}",
    "nbd:x",
    "file:x",
    "~",
    "~nobody",
    "~\0",
    "$HOME",
    "r2:eth0",
    ":",
    "a:",
    "127.0.0.1",
    "::1",
    "fe80::1%e,x=y",
    "localhost",
    "0x10",
    "52:54:00:00:00:01",
    "01:00:00:00:00:00",
    "tcp::22-:22",
    "sha256:" + "0" * 64,
    "20G",
    "512",
    "/nowhere/x,y",
    "/dev/null",
    "pvpanic",
    "virtio-net-pci",
    "e1000",
    "q35",
    "microvm",
    "node-name=x",
    "x\r",
    "\t",
    "CON",
    "a/b",
    "a//b",
    "/a/../../b",
    "/a/" * 2000,
]
NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    255,
    256,
    4096,
    65535,
    65536,
    1 << 31,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 62,
    1 << 63,
    1 << 64,
    10**30,
]
ANYTHING = [
    None,
    "",
    [],
    {},
    0,
    5,
    -1,
    1.5,
    float("inf"),
    float("nan"),
    True,
    False,
    "x",
    ["x"],
    [None],
    [[]],
    [{}],
    {"a": 1},
    {"": ""},
    {"a,b": "c"},
    {"a": {"b": "c,d"}},
    {"x": None},
    10**30,
    "\0",
    "\ud800",
]
KEYS = [
    "driver",
    "id",
    "type",
    "x",
    "addr",
    "bus",
    "a,b",
    "a=b",
    "",
    "é",
    "\0",
    "\ud800",
    "serial",
    "value",
    "file",
    "user-data",
    "../x",
    "a/b",
    "A",
    "netdev",
    "-x",
    "k" * 300,
    "accel",
    "PATH",
]


def value_for(spec, chance, depth=0):
    """Something for an option: of the type it has more often than not."""
    if chance.random() < 0.05:
        return chance.choice(ANYTHING)
    kind = spec.get("type", "str")
    if "choices" in spec:
        return chance.choice(spec["choices"])
    if kind in ("str", "path"):
        return chance.choice(TEXTS)
    if kind == "int":
        return chance.choice(NUMBERS)
    if kind == "bool":
        return chance.choice([True, False])
    if kind == "dict":
        if "options" in spec:
            names = [
                name
                for name in spec["options"]
                if spec["options"][name].get("required") or chance.random() < 0.3
            ]
            return {name: value_for(spec["options"][name], chance, depth + 1) for name in names}
        return {
            chance.choice(KEYS): chance.choice(ANYTHING + TEXTS)
            for _count in range(chance.randint(0, 3))
        }
    if kind == "list":
        inner = dict(spec, type=spec.get("elements", "str"))
        return [
            value_for(inner, chance, depth + 1)
            for _count in range(chance.choice([0, 1, 1, 2, 3, 6]))
        ]
    return chance.choice(ANYTHING + TEXTS)


@pytest.fixture(name="hypervisor")
def fixture_hypervisor(monkeypatch, tmp_path):
    """A host with each QEMU, by the binary's name: /q/5.2 and so on; 7.2 where none is named."""
    known = {version: capabilities(version) for version in VERSIONS}
    monkeypatch.setattr(
        host_module,
        "find_qemu",
        lambda arch, binary: ("/q/%s" % binary if binary in known else "/q/7.2", "x86_64"),
    )
    monkeypatch.setattr(host_module, "_capabilities", lambda path: known[path[3:]])
    monkeypatch.setattr(
        machine.accelerators, "choose_accelerator", lambda *arguments, **more: ("tcg", "asked for")
    )
    monkeypatch.setattr(cpu_limit, "find_means", lambda: ("cpulimit", "/x"))
    monkeypatch.setenv("HOME", str(tmp_path))
    result = VmRun.result

    def with_command_line(run, check_mode):
        """What passes must become a command line, too."""
        if run.desired:
            run.host.accel = run.host.accel or "tcg"
            words = command_line.build(granted(run.desired), run.host)
            assert all(
                isinstance(word, str) and "\0" not in word for word in words
            ) and os.fsencode(" ".join(words))
        return result(run, check_mode)

    monkeypatch.setattr(VmRun, "result", with_command_line)
    monkeypatch.setattr(
        firmware, "find_uefi", lambda arch, machine: ("/code", "raw", "/variables", "raw")
    )
    return tmp_path / "lab"


def tried(params, root):
    """Return the error of converge_vm in check mode, or None, for what Ansible lets through."""
    try:
        checked = ArgumentSpecValidator(converge.vm_argument_spec()).validate(
            dict({"root": str(root), "name": "r1"}, **params)
        )
    except (TypeError, ValueError, OverflowError) as error:
        return "Ansible itself: %s" % error  # a number in place of a dict, or an infinite one
    if checked.error_messages:
        return str(checked.error_messages)
    before = sorted(os.listdir(root.parent))
    try:
        made = converge.converge_vm(checked.validated_parameters, True)
        assert made["changed"] == bool(made["changes"])
        return None
    except VlabError as error:
        assert error.message and len(error.message) < 20000
        return error.message
    finally:
        assert sorted(os.listdir(root.parent)) == before, "check mode leaves nothing"


def attempts(seed, count):
    chance = random.Random(seed)
    spec = {
        name: option
        for name, option in converge.vm_argument_spec().items()
        if name not in ("root", "state")
    }
    for _number in range(count):
        names = chance.sample(sorted(spec), chance.choice([1, 1, 2, 3, 5]))
        params = {name: value_for(spec[name], chance) for name in names}
        params["state"] = chance.choice(
            ["started", "present", "stopped", "absent", "restarted", "paused"]
        )
        params.setdefault("qemu_binary", chance.choice(VERSIONS))
        yield params


SEED = int(os.environ.get("VLAB_FUZZ_SEED", "0"))


@pytest.mark.parametrize("seed", range(SEED, SEED + 8))
def test_random_definitions(hypervisor, seed):
    passed = 0
    for params in attempts(seed, int(os.environ.get("VLAB_FUZZ", "800")) // 8):
        try:
            passed += tried(params, hypervisor) is None
        except Exception:  # noqa: B902
            print("definition: %r" % params)
            raise
    assert passed > 5


def text_options(spec, path=()):
    """The paths of all options that take any text."""
    for name, option in sorted(spec.items()):
        kind, here = option.get("type", "str"), path + ((name, option),)
        if (
            kind in ("str", "path")
            and "choices" not in option
            or kind == "raw"
            or kind in ("list", "dict")
            and "options" not in option
        ):
            yield here
        elif "options" in option:
            yield from text_options(option["options"], here)


NEEDED = {"devices": {"driver": "pvpanic"}, "smbios": {"type": 1}}
# Other suboptions that one is given with, by one of them.
BESIDE = {
    "name": {"name": "n"},
    "guest_port": {"guest_port": 22},
    "set": {"set": 1, "path": "/f"},
    "snapshot": {"vm": "r1", "snapshot": "s"},
    "nic": {"nic": "n"},
}
FREE = ("user_data", "meta_data", "network_config", "vendor_data", "files")
OPTIONS = list(text_options(converge.vm_argument_spec()))


def nested(path, text):
    """A definition with text at the path of an option, and what it needs beside it."""
    value = text
    for depth, (name, option) in reversed(list(enumerate(path))):
        if option.get("type") == "dict" and "options" not in option:
            value = {"k": value}
        elif (
            option.get("type") == "list"
            and option.get("elements") == "dict"
            and "options" not in option
        ):
            value = [dict(NEEDED[name], k=value)]
        elif option.get("type") == "list":
            value = [value]
        beside = path[depth - 1][1].get("options", ()) if depth else ()
        needed = {key: BESIDE[key] for key in BESIDE if key in beside}
        value = dict(next(iter(needed.values()), {}), **{name: value})
    return value


@pytest.mark.parametrize(
    "path", OPTIONS, ids=[".".join(name for name, option in path) for path in OPTIONS]
)
def test_texts_that_nothing_can_carry(hypervisor, path):
    """They are refused by the option's name; only the content of a file may be anything."""
    for text in ("a\0b", "a\ud800b"):
        params = nested(path, text)
        params.setdefault("disks", [])
        if path[0][0] == "tftp_files":
            params["nics"] = [{"name": "n", "link": {"type": "user"}}]
        message = tried(params, hypervisor)
        if any(name in FREE for name, option in path) and text == "a\0b":
            assert message is None
        elif path[-1][0] == "root":
            assert message
        else:
            assert message is not None and path[-1][0] in message, message


@pytest.mark.parametrize(
    "commands",
    [
        [5],
        [None],
        [[]],
        [{}],
        [""],
        [{"execute": 5}],
        [{"execute": ["a"]}],
        [{"execute": {}, "human": "x"}],
        [{"human": 5}],
        [{"event": 5}],
        [{"event": [5]}],
        [{"execute": "a", "arguments": 5}],
        [{"execute": "a", "arguments": "x"}],
        [{"event": "A", "match": 5}],
        [{"execute": "a", "timeout": "x"}],
        [{"execute": "a", "timeout": float("nan")}],
        [{"execute": "a", "timeout": -1}],
        [{"execute": "a", "timeout": float("inf")}],
        [{"execute": "a", "timeout": [1]}],
        [{"execute": "a", "fds": 5}],
        [{"execute": "a", "fds": "x"}],
        [{"execute": "a", "fds": [5]}],
        [{"execute": "a", "fds": [{"path": 5}]}],
        [{"execute": "a", "fds": [{"path": "x", "mode": []}]}],
        [{"execute": "a", "fds": [{"path": "x\0"}]}],
        [{"execute": "a\ud800"}],
        [{"execute": "a", "x": 1}],
        [{"human": "x", "arguments": {}}],
        [{"event": "A", "fds": []}],
        [{"execute": "a", "event": "b"}],
    ],
)
def test_qmp_commands_that_are_none(commands):
    with pytest.raises(VlabError, match=r"^commands\[0\]"):
        parse_steps(commands)
