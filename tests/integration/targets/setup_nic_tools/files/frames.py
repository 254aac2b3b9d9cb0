# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the contents of a pcap file as JSON: frames.py FILE. Fail if it is incomplete."""

import json
import socket
import struct
import sys
import zlib


def frame(data, length):
    reported = {
        "length": length,
        "kept": len(data),
        "sum": zlib.crc32(data),
        "type": "%04x" % struct.unpack(">H", data[12:14]),
        "to": data[0:6].hex(":"),
        "from": data[6:12].hex(":"),
    }
    if reported["type"] == "0800" and len(data) >= 34:
        reported.update(
            protocol=data[23],
            source=socket.inet_ntoa(data[26:30]),
            destination=socket.inet_ntoa(data[30:34]),
        )
        if reported["protocol"] == 1 and len(data) >= 35:
            reported["icmp"] = {8: "request", 0: "reply"}.get(data[34], "other")
    return reported


def main():
    with open(sys.argv[1], "rb") as file:
        data = file.read()
    magic, major, minor, _zone, _figures, snaplen, link = struct.unpack("<IHHiIII", data[:24])
    if (magic, major, minor, link) != (0xA1B2C3D4, 2, 4, 1):
        sys.exit("not a pcap file of Ethernet frames: %r" % data[:24])
    frames, answered, at = [], [], 24
    while at < len(data):
        seconds, micro, kept, length = struct.unpack("<IIII", data[at : at + 16])
        if at + 16 + kept > len(data):
            sys.exit("the last frame is cut off")
        frames.append(frame(data[at + 16 : at + 16 + kept], length))
        if frames[-1].get("icmp") == "reply":
            answered.append(seconds + micro / 1e6)
        at += 16 + kept
    json.dump(
        {
            "snaplen": snaplen,
            "frames": frames,
            "size": len(data),
            "requests": sum(f.get("icmp") == "request" for f in frames),
            "replies": sum(f.get("icmp") == "reply" for f in frames),
            # The longest time between two replies, in seconds.
            "silence": max([b - a for a, b in zip(answered, answered[1:])], default=None),
            "longest_kept": max([f["kept"] for f in frames], default=0),
        },
        sys.stdout,
    )


main()
