# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._vm import guest_service
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.tests.unit.fake_console import FakeConsole


def asked(root, data=b"", **request):
    """What the relay answers: its dict and the pieces."""
    request = dict({"mark": "the-mark", "lab": "lab", "vm": "r1", "root": str(root)}, **request)
    answer = io.BytesIO()
    guest_service.serve(io.BytesIO(json.dumps(request).encode() + b"\n" + data), answer)
    mark, head, rest = answer.getvalue().split(b"\n", 2)
    assert mark == b"the-mark"
    told, pieces = json.loads(head), []
    for size in told.pop("sizes"):
        pieces.append(rest[:size])
        rest = rest[size:]
    assert rest == b""
    return told, pieces


@pytest.fixture
def defined(tmp_path):
    """A VM with a console, and a shell on it."""
    folder = Folder(str(tmp_path), "lab", "r1")
    folder.make()
    with open(folder.definition, "w", encoding="utf-8") as stream:
        json.dump(
            {
                "format": 1,
                "consoles": [{"name": "console", "type": "unix", "log": True}],
                "ports": {},
            },
            stream,
        )
    with FakeConsole(folder.socket("console.sock"), ["/bin/sh", "-i"]):
        yield tmp_path


def test_commands_and_files_on_a_console(defined):
    assert asked(
        defined, b"in", errand="exec", channel="serial", command="cat; echo no >&2; exit 4"
    ) == ({"rc": 4}, [b"in", b"no\n"])
    path = str(defined / "file")
    assert asked(defined, b"a\x00\n", errand="write", channel="serial", path=path) == ({}, [])
    assert asked(defined, b"b", errand="write", channel="serial", path=path, append=True) == (
        {},
        [],
    )
    assert asked(defined, errand="read", channel="serial", path=path) == ({}, [b"a\x00\nb"])
    assert asked(defined, errand="read", channel="serial", path=path, offset=1, size=2) == (
        {},
        [b"\x00\n"],
    )


@pytest.mark.parametrize(
    "channel, request_, kind, message",
    [
        ("serial", {"vm": "r2"}, "error", "the lab lab has no VM r2 under"),
        ("agent", {"vm": "r2"}, "error", "the lab lab has no VM r2 under"),
        ("serial", {"console": "other"}, "error", "the VM r1 has no console other; it has console"),
        ("serial", {"vm": "../r1"}, "error", "cannot be a name"),
    ],
)
def test_what_cannot_be_reached(defined, channel, request_, kind, message):
    told, pieces = asked(defined, errand="exec", channel=channel, command="true", **request_)
    assert (told["kind"], pieces) == (kind, [])
    assert message in told["error"]


def test_no_vms(tmp_path):
    assert asked(tmp_path, errand="vms") == ({"vms": [], "about": {}, "warnings": []}, [])
