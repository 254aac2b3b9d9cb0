# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Files of a guest, through its agent. Source: QEMU, docs/interop/qemu-ga-ref, guest-file-open."""

from __future__ import annotations

import base64

_PIECE = 1 << 20  # bytes in one message, which the agent has to hold whole
_PATIENCE = 60  # seconds for a piece: an emulated guest is slow


def write_file(agent, path, data, append=False):
    """Write bytes into a file of the guest, or add them to its end. Raises GuestError."""
    handle = agent.execute(
        "guest-file-open", {"path": path, "mode": "ab" if append else "wb"}, timeout=_PATIENCE
    )
    try:
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            while piece:
                done = agent.execute(
                    "guest-file-write",
                    {"handle": handle, "buf-b64": base64.b64encode(piece).decode("ascii")},
                    timeout=_PATIENCE,
                )
                piece = piece[done["count"] :]
    finally:
        agent.execute("guest-file-close", {"handle": handle}, timeout=_PATIENCE)


def read_file(agent, path, offset=0, size=None):
    """Bytes of a file of the guest from offset on, at most size of them. Raises GuestError."""
    handle = agent.execute("guest-file-open", {"path": path, "mode": "rb"}, timeout=_PATIENCE)
    pieces, left = [], size
    try:
        if offset:
            agent.execute(
                "guest-file-seek",
                {"handle": handle, "offset": offset, "whence": 0},
                timeout=_PATIENCE,
            )
        while left is None or left > 0:
            told = agent.execute(
                "guest-file-read",
                {"handle": handle, "count": min(_PIECE, left or _PIECE)},
                timeout=_PATIENCE,
            )
            pieces.append(base64.b64decode(told["buf-b64"]))
            left = None if left is None else left - told["count"]
            if told["eof"] or not told["count"]:
                break
    finally:
        agent.execute("guest-file-close", {"handle": handle}, timeout=_PATIENCE)
    return b"".join(pieces)
