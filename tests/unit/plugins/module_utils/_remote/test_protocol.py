# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Messages on a stream, and the handling of a request."""

from __future__ import annotations

import io

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._remote import protocol
from ansible_collections.vlab.qemu.plugins.module_utils._remote.protocol import Message

REQUEST = Message(
    "vlab-12ab", protocol.REQUEST, {"name": "add", "parameters": {"to": "é"}}, [b"\n\0", b""]
)


def written(*messages):
    stream = io.BytesIO()
    for message in messages:
        protocol.write_message(stream, message)
    return stream.getvalue()


def test_a_message_is_read_as_it_was_written():
    stream = io.BytesIO(written(REQUEST, REQUEST._replace(pieces=[])))
    assert protocol.read_message(stream) == REQUEST
    assert protocol.read_message(stream) == REQUEST._replace(pieces=[])
    assert protocol.read_message(stream) is None


@pytest.mark.parametrize("before", [b"", b"Welcome!\n", b"no newline ", b"vlab-99 result\n{}\n"])
def test_other_output_before_a_message_is_skipped(before):
    stream = io.BytesIO(before + written(REQUEST))
    assert protocol.read_message(stream, "vlab-12ab") == REQUEST


def test_a_message_must_be_complete():
    data = written(REQUEST)
    for end in range(data.index(b"\n") + 1, len(data)):
        with pytest.raises(EOFError):
            protocol.read_message(io.BytesIO(data[:end]))


def add(parameters, data):
    return {"to": parameters["to"]}, [data, b"more"]


def refuse(parameters, data):
    raise protocol.RequestError("login", "no such user")


@pytest.mark.parametrize(
    "handler, reply",
    [
        (add, Message("vlab-12ab", "result", {"result": {"to": "é"}}, [b"\n\0", b"more"])),
        (refuse, Message("vlab-12ab", "error", {"kind": "login", "message": "no such user"}, [])),
    ],
)
def test_handling_a_request(handler, reply):
    stream = io.BytesIO()
    protocol.handle_request({"add": handler}, REQUEST, stream)
    stream.seek(0)
    assert protocol.read_message(stream) == Message("vlab-12ab", "started", {}, [])
    assert protocol.read_message(stream) == reply
