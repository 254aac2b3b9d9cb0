# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._remote import protocol
from ansible_collections.vlab.qemu.plugins.module_utils._vm import guest_service
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.tests.unit.fake_console import FakeConsole


def reply_to(root, name, data=b"", **parameters):
    """Return what the guest service replies: the result or the error, and the data."""
    parameters = dict({"lab": "lab", "vm": "r1", "root": str(root)}, **parameters)
    content = {"name": name, "parameters": parameters}
    request = protocol.Message("vlab-1", protocol.REQUEST, content, [data])
    replies = io.BytesIO()
    protocol.handle_request(guest_service.HANDLERS, request, replies)
    replies.seek(0)
    assert protocol.read_message(replies).type == protocol.STARTED
    reply = protocol.read_message(replies)
    assert protocol.read_message(replies) is None
    assert reply.token == "vlab-1"
    return reply.content.get("result", reply.content), reply.pieces


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
    assert reply_to(
        defined, "exec", b"in", channel="serial", command="cat; echo no >&2; exit 4"
    ) == ({"rc": 4}, [b"in", b"no\n"])
    path = str(defined / "file")
    assert reply_to(defined, "write", b"a\x00\n", channel="serial", path=path) == ({}, [])
    assert reply_to(defined, "write", b"b", channel="serial", path=path, append=True) == (
        {},
        [],
    )
    assert reply_to(defined, "read", channel="serial", path=path) == ({}, [b"a\x00\nb"])
    assert reply_to(defined, "read", channel="serial", path=path, offset=1, size=2) == (
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
    result, pieces = reply_to(defined, "exec", channel=channel, command="true", **request_)
    assert (result["kind"], pieces) == (kind, [])
    assert message in result["message"]


def test_no_vms(tmp_path):
    assert reply_to(tmp_path, "vms") == ({"vms": [], "node_facts": {}, "warnings": []}, [])
