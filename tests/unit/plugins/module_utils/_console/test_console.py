# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import socket
import threading
import time

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import GuestGone
from ansible_collections.vlab.qemu.plugins.module_utils._console.console import Console

# What QEMU sends to a client of a telnet console: WILL ECHO, WILL SGA, WILL BINARY, DO BINARY.
NEGOTIATION = b"\xff\xfb\x01\xff\xfb\x03\xff\xfb\x00\xff\xfd\x00"


class Server:
    """A console that sends pieces to its first client, and keeps what it gets."""

    def __init__(self, path, pieces):
        self.path, self.pieces, self.received = str(path), pieces, b""
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen(1)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._thread.join(5)
        self._server.close()

    def _serve(self):
        with self._server.accept()[0] as client:
            for piece in self.pieces:
                client.sendall(piece)
                time.sleep(0.002)
            while True:
                data = client.recv(4096)
                if not data:
                    return
                self.received += data


def shown(tmp_path, pieces, end, **options):
    with Server(tmp_path / "c", pieces) as server:
        with Console(server.path, **options) as console:
            _number, match = console.expect([re.compile(end)], time.monotonic() + 5)
            assert match is not None, console.printed
            return match.string[: match.end()]


@pytest.mark.parametrize("cut", range(1, len(NEGOTIATION) + 8))
def test_negotiation_of_telnet_is_not_output(tmp_path, cut):
    data = NEGOTIATION + b"\xff\xfa\x18\x00\xff\xf0login: \xff\xff \xff\xf1end"
    assert shown(tmp_path, [data[:cut], data[cut:]], b"end", telnet=True) == b"login: \xff end"


def test_other_consoles_are_not_changed(tmp_path):
    assert shown(tmp_path, [b"\xff\xfb\x01 \xff\xff end"], b"end") == b"\xff\xfb\x01 \xff\xff end"


@pytest.mark.parametrize("telnet, typed", [(True, b"a\xff\xffb"), (False, b"a\xffb")])
def test_input_is_escaped_for_telnet(tmp_path, telnet, typed):
    with Server(tmp_path / "c", []) as server:
        with Console(server.path, telnet=telnet) as console:
            console.send(b"a\xffb", time.monotonic() + 5)
            assert console.drain(time.monotonic() + 5)
    assert server.received == typed


@pytest.mark.parametrize(
    "line",
    [
        b"[    0.000000] Linux version 6.1.0 (gcc) #1 SMP",
        b"[    0.000000] Booting Linux on physical CPU 0x0",
        b"Linux version 5.10.0",
        b"[  123.456789] reboot: Restarting system",
        b"reboot: Power down",
        b"[   12.345678] Kernel panic - not syncing: sysrq triggered crash",
        b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.2-debian-1.16.2-1)",
        b"iPXE (http://ipxe.org) 00:03.0",
        b'BdsDxe: loading Boot0001 "UEFI QEMU HARDDISK"',
        b"UEFI Interactive Shell v2.2",
        b"Booting from Hard Disk...",
        b"GRUB loading.",
        b"Welcome to GRUB!",
        b"U-Boot 2023.01",
        b"---<<BOOT>>---",
    ],
)
def test_signs_of_an_end_and_of_a_new_boot(tmp_path, line):
    with Server(tmp_path / "c", [b"some output\r\n" + line + b"\r\nmore"]) as server:
        with Console(server.path) as console:
            with pytest.raises(GuestGone, match="has ended or is restarting: its console .* shows"):
                console.expect_alive([re.compile(b"never")], time.monotonic() + 5)


@pytest.mark.parametrize(
    "line",
    [
        b"VLAB-X: a text about Linux version 6.1",
        b"[  123.456789] eth0: link up",
        b"the command reboot: Restarting is not here",
        b"see GNU GRUB",
    ],
)
def test_what_is_no_sign(tmp_path, line):
    with Server(tmp_path / "c", [line + b"\r\nend"]) as server:
        with Console(server.path) as console:
            assert console.expect_alive([re.compile(b"end")], time.monotonic() + 5)[0] == 0


def test_the_vm_ends(tmp_path):
    with Server(tmp_path / "c", []) as server:
        with Console(server.path) as console:
            console._channel.shutdown(socket.SHUT_WR)
            with pytest.raises(GuestGone, match="was closed: the VM has ended"):
                console.expect([re.compile(b"never")], time.monotonic() + 5)
