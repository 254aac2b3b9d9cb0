# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The program of a user link with DHCP options: it adds them to what QEMU's DHCP server answers.

It is copied into the folder of a VM and runs there by itself, so it imports only the standard
library and detached_program. Its argument is a file of JSON:
  record: the file for {pid, start, boot_id}, by which it is recognised.
  pid, start: of QEMU; the program ends with it.
  source: the socket on which QEMU gives the frames for the guest.
  target: the socket on which QEMU takes them back.
  options: {code: value in hexadecimal digits}.
It writes "ready" or an error to its standard output.

On both sockets a frame is preceded by its length, 4 bytes, as QEMU's filter-redirector has it.
"""

from __future__ import annotations

import select
import socket

from ansible_collections.vlab.qemu.plugins.module_utils._common.detached_program import (
    PROCESS_INTERVAL,
    Process,
    log,
    report,
    start,
)

# Of typing, see the engine.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping

MAX_FRAME = 1 << 17  # bytes; QEMU has less
MAX_WAITING = 8 << 20  # bytes of frames that QEMU does not take; further ones are lost
_CHUNK = 1 << 18  # bytes of a read or write

_SMALLEST_FRAME = 42  # bytes of the headers of Ethernet, IPv4 and UDP
_IPV4, _UDP, _PORTS = b"\x08\x00", 17, b"\x00\x43\x00\x44"  # from a DHCP server to a client
_BOOTP_REPLY, _BOOTP_SIZE, _SMALLEST_BOOTP = 2, 236, 300
_COOKIE = b"\x63\x82\x53\x63"
_PAD, _OVERLOAD, _MESSAGE_TYPE, _END = 0, 52, 53, 255
_OFFER_AND_ACK = (b"\x02", b"\x05")


def with_options(frame: bytes, added: Mapping[int, bytes]) -> bytes:
    """Return a frame; a DHCP offer or acknowledgement has the added options: {code: value}."""
    header = 14 + (frame[14] & 15) * 4 if len(frame) >= _SMALLEST_FRAME else 0
    if (
        header < 34
        or frame[12:14] != _IPV4
        or frame[14] >> 4 != 4
        or frame[23] != _UDP
        or int.from_bytes(frame[20:22], "big") & 0x3FFF  # a fragment
        or frame[header : header + 4] != _PORTS
    ):
        return frame
    end = 14 + int.from_bytes(frame[16:18], "big")
    size = int.from_bytes(frame[header + 4 : header + 6], "big")
    if end > len(frame) or header + size != end:
        return frame
    answer = _with_options(frame[header + 8 : end], added)
    if answer is None:
        return frame
    return frame[:14] + _packet(frame[14:header], frame[header : header + 4], answer)


def _with_options(bootp: bytes, added: Mapping[int, bytes]) -> bytes | None:
    """Return the message with the options, None for another message or a damaged one."""
    begin = _BOOTP_SIZE + len(_COOKIE)
    if bootp[:1] != bytes([_BOOTP_REPLY]) or bootp[_BOOTP_SIZE:begin] != _COOKIE:
        return None
    found = _options(bootp[begin:])
    if found is None:
        return None
    codes = dict(found)
    if codes.get(_MESSAGE_TYPE) not in _OFFER_AND_ACK or _OVERLOAD in codes:
        return None
    options = [pair for pair in found if pair[0] not in added] + sorted(added.items())
    area = b"".join(bytes([code, len(value)]) + value for code, value in options)
    return (bootp[:begin] + area + bytes([_END])).ljust(_SMALLEST_BOOTP, b"\0")


def _options(area: bytes) -> list[tuple[int, bytes]] | None:
    """Return the options in a message, None if they are damaged."""
    found, position = [], 0
    while position < len(area) and area[position] != _END:
        code = area[position]
        position += 1
        if code == _PAD:
            continue
        size = area[position] if position < len(area) else len(area)
        value = area[position + 1 : position + 1 + size]
        if len(value) != size:
            return None
        found.append((code, value))
        position += 1 + size
    return found if position < len(area) else None


def _packet(ip_header: bytes, ports: bytes, content: bytes) -> bytes:
    """Return an IP packet with UDP, with its lengths and checksums."""
    size = (8 + len(content)).to_bytes(2, "big")
    pseudo_header = ip_header[12:20] + bytes([0, _UDP]) + size
    checksum = _checksum(pseudo_header + ports + size + b"\0\0" + content) or 0xFFFF
    total = (len(ip_header) + 8 + len(content)).to_bytes(2, "big")
    ip_header = ip_header[:2] + total + ip_header[4:10] + b"\0\0" + ip_header[12:]
    ip_checksum = _checksum(ip_header).to_bytes(2, "big")
    ip_header = ip_header[:10] + ip_checksum + ip_header[12:]
    return ip_header + ports + size + checksum.to_bytes(2, "big") + content


def _checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


class Program:
    """The frames of one link, from QEMU and back to it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Connect to QEMU. Raises OSError, ValueError, KeyError or TypeError."""
        self._qemu = Process(settings["pid"], settings["start"])
        self._options = {
            int(code): bytes.fromhex(value) for code, value in settings["options"].items()
        }
        self._source = _connected(settings["source"])
        self._target = _connected(settings["target"])
        self._read, self._waiting = bytearray(), bytearray()
        self.lost = 0

    def run(self) -> None:
        """Pass frames on until QEMU ends, or ends the link."""
        readers: list[Any] = [self._source, *self._qemu.handles]
        while self._qemu.runs():
            writers = [self._target] if self._waiting else []
            ready, _writable, _errors = select.select(readers, writers, [], PROCESS_INTERVAL)
            if self._source in ready and not self._receive():
                return
            if self._waiting and not self._send():
                return

    def close(self) -> None:
        """End the connections to QEMU."""
        self._source.close()
        self._target.close()

    def _receive(self) -> bool:
        """Take the frames that have arrived; return whether QEMU may send more."""
        try:
            data = self._source.recv(_CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._read += data
        return bool(data) and self._take()

    def _take(self) -> bool:
        """Let the frames that are complete wait for QEMU; return False for what is no frame."""
        position, available = 0, self._read
        while len(available) - position >= 4:
            size = int.from_bytes(available[position : position + 4], "big")
            if size > MAX_FRAME:
                log("a frame of %d bytes: the link ends" % size)
                return False
            end = position + 4 + size
            if end > len(available):
                break
            if len(self._waiting) > MAX_WAITING:
                self.lost += 1
            else:
                frame = with_options(bytes(available[position + 4 : end]), self._options)
                self._waiting += len(frame).to_bytes(4, "big") + frame
            position = end
        del available[:position]
        return True

    def _send(self) -> bool:
        """Give QEMU what it takes; return whether it may take more."""
        try:
            sent = self._target.send(self._waiting[:_CHUNK])
        except BlockingIOError:
            return True
        except OSError:
            return False
        del self._waiting[:sent]
        return True


def _connected(path: str) -> socket.socket:
    """Return a connection to a socket of QEMU, which is not waited for."""
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(path)
        client.setblocking(False)
    except OSError:
        client.close()
        raise
    return client


def main() -> int:
    """Run the program to its end; return its exit code."""
    program = start(Program)
    if program is None:
        return 1
    report("ready")
    log("started")
    program.run()
    program.close()
    log("ended; frames lost: %d" % program.lost)
    return 0
