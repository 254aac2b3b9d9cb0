# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program that adds options to DHCP replies: frames are built and read here on their own."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import time

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import process_start_time
from ansible_collections.vlab.qemu.plugins.module_utils._wire import dhcp_program
from ansible_collections.vlab.qemu.plugins.module_utils._wire.dhcp_program import with_options

ADDED = {67: b"first.cfg", 150: b"\x0a\x00\x02\x02"}
OFFER = [(53, b"\x02"), (54, b"\x0a\x00\x02\x02"), (1, b"\xff\xff\xff\x00"), (67, b"other")]


def ones_sum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return total


def area(options, end=b"\xff"):
    return b"".join(bytes([code, len(value)]) + value for code, value in options) + end


def reply(options=None, operation=2, cookie=b"\x63\x82\x53\x63", raw=None, pad=60):
    raw = area(options or OFFER) + b"\0" * pad if raw is None else raw
    return bytes([operation, 1, 6, 0]) + bytes(range(232)) + cookie + raw


def frame(
    content, ports=(67, 68), version=4, ihl=5, protocol=17, fragment=0, ether=0x0800, trailer=b""
):
    udp = struct.pack("!HHHH", *ports, 8 + len(content), 0) + content
    head = struct.pack(
        "!BBHHHBBH4s4s",
        version << 4 | ihl,
        0x10,
        ihl * 4 + len(udp),
        7,
        fragment,
        64,
        protocol,
        0,
        bytes([10, 0, 2, 2]),
        bytes([255] * 4),
    )
    head += b"\x01" * (ihl * 4 - 20)
    return b"\xff" * 6 + b"\x52\x55\0\0\0\x02" + struct.pack("!H", ether) + head + udp + trailer


def read(data):
    """Return the content of a frame after checking all its lengths and checksums."""
    head_size = (data[14] & 15) * 4
    head, udp = data[14 : 14 + head_size], data[14 + head_size :]
    assert ones_sum(head) == 0xFFFF
    (total,) = struct.unpack("!H", head[2:4])
    size, checksum = struct.unpack("!HH", udp[4:8])
    assert total == head_size + size == len(data) - 14 and size == len(udp) and checksum
    assert ones_sum(head[12:20] + bytes([0, 17]) + udp[4:6] + udp) == 0xFFFF
    return udp[8:]


@pytest.mark.parametrize("ihl", [5, 6, 15])
@pytest.mark.parametrize("trailer", [b"", b"\0" * 9])
@pytest.mark.parametrize("kind", [b"\x02", b"\x05"])
def test_options_are_added_and_replaced(ihl, trailer, kind):
    options = [(53, kind), *OFFER[1:]]
    given = frame(reply(options), ihl=ihl, trailer=trailer)
    content = read(with_options(given, ADDED))
    assert content[:240] == reply()[:240]
    expected = area([*options[:-1], (67, b"first.cfg"), (150, b"\x0a\x00\x02\x02")])
    assert content[240:].rstrip(b"\0") == expected
    assert len(content) >= 300
    assert with_options(given, ADDED)[:14] == given[:14]
    header = with_options(given, ADDED)[14 : 14 + ihl * 4]
    assert header[4:10] + header[12:] == given[18:24] + given[26 : 14 + ihl * 4]


def test_paddings_between_options():
    raw = b"\0\0" + area([(53, b"\x05")], b"") + b"\0" + area([(3, b"\1\2\3\4")])
    content = read(with_options(frame(reply(raw=raw)), {239: b"u" * 255}))
    expected = area([(53, b"\x05"), (3, b"\1\2\3\4"), (239, b"u" * 255)])
    assert content[240 : 240 + len(expected)] == expected


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"\0" * 14,
        frame(b""),
        frame(reply(), ports=(68, 67)),
        frame(reply(), ports=(53, 4000)),
        frame(reply(), version=6),
        frame(reply(), protocol=6),
        frame(reply(), ether=0x86DD),
        frame(reply(), ihl=4),
        frame(reply(), fragment=0x2000),
        frame(reply(), fragment=100),
        frame(reply(operation=1)),
        frame(reply(cookie=b"none")),
        frame(reply(options=[(53, b"\x06")])),
        frame(reply(options=[(53, b"\x02\x02")])),
        frame(reply(options=[(3, b"\1\2\3\4")])),
        frame(reply(options=[*OFFER, (52, b"\1")])),
        frame(reply(raw=b"")),
        frame(reply(raw=area(OFFER, b""))),
        frame(reply(raw=area(OFFER, b"\x43"))),
        frame(reply(raw=area(OFFER, b"\x43\x09short"))),
        frame(reply())[:-61],
        frame(reply())[:200],
        frame(reply())[:41],
    ],
)
def test_others_pass_unchanged(given):
    assert with_options(given, ADDED) == given


def test_damaged_frames():
    """Whatever comes, no frame is lost, and what is changed can be read."""
    chance = random.Random(5)
    whole = frame(reply())
    changed = 0
    for _turn in range(20000):
        data = bytearray(whole[: chance.randrange(len(whole) + 1)])
        for _one in range(chance.randrange(3)):
            if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
        result = with_options(bytes(data), ADDED)
        if result != data:
            changed += 1
            read(result)
    assert changed > 10


class Qemu:
    """The two sockets of QEMU, and the program between them in a thread."""

    def __init__(self, folder, options):
        paths = [str(folder / name) for name in ("out", "in")]
        self.servers = [socket.socket(socket.AF_UNIX) for _path in paths]
        for server, path in zip(self.servers, paths):
            server.bind(path)
            server.listen(1)
        self.program = dhcp_program.Program(
            {
                "pid": os.getpid(),
                "start": process_start_time(os.getpid()),
                "source": paths[0],
                "target": paths[1],
                "options": {code: value.hex() for code, value in options.items()},
            }
        )
        self.output, self.input = (server.accept()[0] for server in self.servers)
        self.input.settimeout(10)
        self.thread = threading.Thread(target=self.program.run, daemon=True)
        self.thread.start()

    def send(self, *frames):
        self.output.sendall(b"".join(struct.pack("!I", len(one)) + one for one in frames))

    def receive(self):
        def exactly(size):
            data = b""
            while len(data) < size:
                more = self.input.recv(size - len(data))
                assert more
                data += more
            return data

        return exactly(struct.unpack("!I", exactly(4))[0])

    def close(self):
        for one in (self.output, self.input, *self.servers):
            one.close()
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.program.close()


@pytest.fixture
def qemu(tmp_path):
    made = Qemu(tmp_path, ADDED)
    yield made
    made.close()


def test_frames_pass_in_order(qemu):
    others = [os.urandom(size) for size in (1, 14, 1514, 65535)]
    offer = frame(reply())
    qemu.send(*others[:2], offer, *others[2:])
    assert [qemu.receive() for _one in range(2)] == others[:2]
    assert qemu.receive() == with_options(offer, ADDED) != offer
    assert [qemu.receive() for _one in range(2)] == others[2:]


def test_a_frame_in_pieces(qemu):
    data = struct.pack("!I", 600) + b"x" * 600
    for position in range(0, len(data), 150):
        qemu.output.sendall(data[position : position + 150])
        time.sleep(0.01)
    assert qemu.receive() == b"x" * 600


def test_an_empty_frame(qemu):
    qemu.send(b"", b"y")
    assert qemu.receive() == b"" and qemu.receive() == b"y"


def test_a_flood_that_is_not_taken(qemu, monkeypatch):
    """QEMU is never kept waiting: what it does not take is lost, in whole frames."""
    monkeypatch.setattr(dhcp_program, "MAX_WAITING", 1 << 18)
    qemu.output.settimeout(10)
    for _turn in range(200):
        qemu.send(*[b"f" * 1500] * 10)
    deadline = time.monotonic() + 10
    while not qemu.program.lost and time.monotonic() < deadline:
        time.sleep(0.01)
    qemu.send(b"f" * 1500)
    first = [qemu.receive() for _one in range(50)]
    assert set(first) == {b"f" * 1500}
    assert 0 < qemu.program.lost < 2000
    qemu.input.settimeout(0.5)
    with pytest.raises(OSError, match="timed out"):
        while qemu.receive() == b"f" * 1500:
            pass
    qemu.input.settimeout(10)
    qemu.send(b"last")
    assert qemu.receive() == b"last"


@pytest.mark.parametrize("end", ["output", "input"])
def test_it_ends_with_the_link(qemu, end):
    getattr(qemu, end).close()
    if end == "input":
        qemu.send(b"z" * 100)
    qemu.thread.join(10)
    assert not qemu.thread.is_alive()


def test_what_is_no_frame_ends_it(qemu):
    qemu.output.sendall(b"\xff\xff\xff\xff")
    qemu.thread.join(10)
    assert not qemu.thread.is_alive()
