# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Read and write files of a guest, through its agent.

Source: QEMU, docs/interop/qemu-ga-ref, guest-file-open.
"""

from __future__ import annotations

import base64

from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import GuestAgent

MAX_PIECE = 1 << 20  # bytes in one message, all of which the agent holds in memory
REPLY_TIMEOUT = 60  # seconds for a piece: an emulated guest is slow


def write_file(agent: GuestAgent, path: str, data: bytes, append: bool = False) -> None:
    """Write bytes to a file of the guest, or append them. Raises GuestError."""
    handle = agent.execute(
        "guest-file-open", {"path": path, "mode": "ab" if append else "wb"}, timeout=REPLY_TIMEOUT
    )
    try:
        for start in range(0, len(data), MAX_PIECE):
            piece = data[start : start + MAX_PIECE]
            while piece:
                result = agent.execute(
                    "guest-file-write",
                    {"handle": handle, "buf-b64": base64.b64encode(piece).decode("ascii")},
                    timeout=REPLY_TIMEOUT,
                )
                piece = piece[result["count"] :]
    finally:
        agent.execute("guest-file-close", {"handle": handle}, timeout=REPLY_TIMEOUT)


def read_file(agent: GuestAgent, path: str, offset: int = 0, size: int | None = None) -> bytes:
    """Return the bytes of a guest's file from offset on, at most size of them.

    Raises GuestError.
    """
    handle = agent.execute("guest-file-open", {"path": path, "mode": "rb"}, timeout=REPLY_TIMEOUT)
    pieces, left = [], size
    try:
        if offset:
            agent.execute(
                "guest-file-seek",
                {"handle": handle, "offset": offset, "whence": 0},
                timeout=REPLY_TIMEOUT,
            )
        while left is None or left > 0:
            result = agent.execute(
                "guest-file-read",
                {"handle": handle, "count": min(MAX_PIECE, left or MAX_PIECE)},
                timeout=REPLY_TIMEOUT,
            )
            pieces.append(base64.b64decode(result["buf-b64"]))
            left = None if left is None else left - result["count"]
            if result["eof"] or not result["count"]:
                break
    finally:
        agent.execute("guest-file-close", {"handle": handle}, timeout=REPLY_TIMEOUT)
    return b"".join(pieces)
