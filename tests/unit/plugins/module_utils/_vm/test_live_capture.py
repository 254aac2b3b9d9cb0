# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Live captures: the QEMU is this process, with a QMP server that writes what QEMU would."""

from __future__ import annotations

import io
import os
import signal

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import process_start_time
from ansible_collections.vlab.qemu.plugins.module_utils._remote import protocol
from ansible_collections.vlab.qemu.plugins.module_utils._vm import guest_service, live_capture
from ansible_collections.vlab.qemu.tests.unit.capturing_qemu import Qemu, running_vm
from ansible_collections.vlab.qemu.tests.unit.fake_qmp import Refusal

PARAMETERS = {"lab": "default", "vm": "r1", "name": "e"}


@pytest.fixture
def client(monkeypatch):
    """The client: closing this descriptor ends it."""
    reader, writer = os.pipe()
    monkeypatch.setattr(live_capture, "_STDIN", reader)
    yield writer
    os.close(reader)


@pytest.fixture
def folder(tmp_path):
    return running_vm(tmp_path)


def request_for(folder, **more):
    parameters = dict(PARAMETERS, root=folder.root, lab=folder.lab, vm=folder.name, **more)
    return live_capture.request_of(parameters)


@pytest.mark.parametrize("version", [(5, 2, 0), (7, 2, 0), (10, 0, 0)])
def test_the_frames_come_while_they_are_captured(folder, client, version):
    with Qemu(folder.qmp, version=version) as qemu:
        stream = live_capture.stream(request_for(folder, snaplen=60))
        assert next(stream) == b"pcap"
        qemu.write(b"frame")
        assert next(stream) == b"frame"
        (added,) = qemu.added
        given = added["props"] if version < (6, 0) else added
        assert (given["netdev"], given["maxlen"]) == ("port0", 60)
        assert os.stat(given["file"]).st_mode & 0o777 == 0o600
        os.close(client)
        with pytest.raises(StopIteration) as end:
            next(stream)
    assert end.value.value == {"bytes": 9}
    assert not qemu.filters and not os.path.exists(folder.file("live_captures"))


def test_the_duration_ends_it_after_the_last_frame(folder, client):
    with Qemu(folder.qmp):
        assert b"".join(live_capture.stream(request_for(folder, duration=1))) == b"pcap"
    os.close(client)


def test_the_space_behind_the_reader_is_released(folder, client):
    with Qemu(folder.qmp) as qemu:
        stream = live_capture.stream(request_for(folder))
        data = next(stream)
        qemu.write(bytes(8 << 20))
        while len(data) < (8 << 20) + 4:
            data += next(stream)
        qemu.write(b"!")
        next(stream)
        path = next(iter(qemu.filters.values()))
        assert os.stat(path).st_size == len(data) + 1
        assert os.stat(path).st_blocks * 512 < 1 << 20
        stream.close()
        assert not qemu.filters and not os.path.exists(path)
    os.close(client)


def test_a_reader_that_stands_still_ends_it(folder, client, monkeypatch):
    monkeypatch.setattr(live_capture, "_MAX_SPACE", 1 << 20)
    with Qemu(folder.qmp) as qemu:
        stream = live_capture.stream(request_for(folder))
        next(stream)
        qemu.write(bytes(2 << 20))
        with pytest.raises(SystemExit, match="its reader is 1 MiB behind"):
            signal.pause()
        stream.close()
        assert not qemu.filters
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    os.close(client)


def test_the_next_one_removes_what_a_killed_one_left(folder, client):
    with Qemu(folder.qmp) as qemu:
        own = "live-%d-%d" % (os.getpid(), process_start_time(os.getpid()))
        dead = "live-%d-1" % os.getpid()
        running = "live-1-%d" % process_start_time(1)
        os.mkdir(folder.file("live_captures"))
        for name in (dead, running):
            path = os.path.join(folder.file("live_captures"), name)
            open(path, "w", encoding="ascii").close()
            qemu.filters[name] = path
        stream = live_capture.stream(request_for(folder))
        next(stream)
        assert set(qemu.filters) == {running, own}
        assert set(os.listdir(folder.file("live_captures"))) == {running, own}
        stream.close()
        assert set(os.listdir(folder.file("live_captures"))) == {running}
    os.close(client)


def test_a_filter_that_qemu_refuses_leaves_no_file(folder, client):
    with Qemu(folder.qmp) as qemu:
        qemu.answers["object-add"] = Refusal("no such netdev")
        with pytest.raises(Exception, match="no such netdev"):
            next(live_capture.stream(request_for(folder)))
    assert not os.listdir(folder.file("live_captures"))
    os.close(client)


@pytest.mark.parametrize(
    "more, message",
    [
        ({"name": "f"}, "name: the VM .* has no NIC f: it has e"),
        ({"snaplen": 0}, "snaplen: "),
        ({"duration": 0}, "duration: "),
    ],
)
def test_what_cannot_be_captured(folder, more, message):
    with Qemu(folder.qmp) as qemu, pytest.raises(OptionError, match=message):
        live_capture.check(request_for(folder, **more))
    assert not qemu.added


def test_a_vm_that_does_not_run(folder):
    os.unlink(folder.run)
    with pytest.raises(OptionError, match="vm: the VM .* is stopped: start it"):
        live_capture.check(request_for(folder))


def test_a_request(folder, client):
    """Data comes before the result."""
    os.close(client)
    replies = io.BytesIO()
    content = {
        "name": "capture",
        "parameters": dict(PARAMETERS, root=folder.root, lab=folder.lab, vm=folder.name),
    }
    with Qemu(folder.qmp):
        message = protocol.Message("vlab-1", protocol.REQUEST, content, [b""])
        protocol.handle_request(guest_service.HANDLERS, message, replies)
        replies.seek(0)
        assert protocol.read_message(replies).type == protocol.STARTED
        assert protocol.read_message(replies).content == {"result": {"bytes": 0}}
