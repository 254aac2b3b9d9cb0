# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Read and write files of a guest, through its agent.

Source: QEMU, docs/interop/qemu-ga-ref, guest-file-open.
"""

from __future__ import annotations

import base64
import contextlib
import time
from typing import Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import GuestError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.guest_agent import (
    GuestAgent,
    base64_field,
    field,
    invalid_answer,
)

MAX_PIECE = 1 << 20  # bytes in one message, all of which the agent holds in memory
MAX_FILE = 64 << 20  # bytes of a file that is read without a size
REPLY_TIMEOUT = 60  # seconds for a piece: an emulated guest is slow


def write_file(agent: GuestAgent, path: str, data: bytes, append: bool = False) -> None:
    """Write bytes to a file of the guest, or append them. Raises GuestError."""
    deadline = _deadline(len(data))
    with _open_file(agent, path, "ab" if append else "wb") as handle:
        for start in range(0, len(data), MAX_PIECE):
            piece = data[start : start + MAX_PIECE]
            while piece:
                result = agent.execute(
                    "guest-file-write",
                    {"handle": handle, "buf-b64": base64.b64encode(piece).decode("ascii")},
                    timeout=_timeout(deadline),
                )
                count = field(result, "count", int)
                if not 0 < count <= len(piece):
                    raise invalid_answer("its 'count' is not valid")
                piece = piece[count:]


def read_file(agent: GuestAgent, path: str, offset: int = 0, size: int | None = None) -> bytes:
    """Return the bytes of a guest's file from offset on, at most size of them.

    Raises GuestError, also for a file of more than MAX_FILE bytes if no size is given.
    """
    left = MAX_FILE + 1 if size is None else size
    deadline = _deadline(left)
    pieces = []
    with _open_file(agent, path, "rb") as handle:
        if offset:
            agent.execute(
                "guest-file-seek",
                {"handle": handle, "offset": offset, "whence": 0},
                timeout=REPLY_TIMEOUT,
            )
        while left > 0:
            count = min(MAX_PIECE, left)
            result = agent.execute(
                "guest-file-read", {"handle": handle, "count": count}, timeout=_timeout(deadline)
            )
            piece = base64_field(result, "buf-b64")
            if len(piece) > count:
                raise invalid_answer("it has more bytes than requested")
            pieces.append(piece)
            left -= len(piece)
            if field(result, "eof", bool) or not piece:
                break
    if size is None and left <= 0:
        raise GuestError("%s in the guest is larger than %d MiB" % (path, MAX_FILE >> 20))
    return b"".join(pieces)


@contextlib.contextmanager
def _open_file(agent: GuestAgent, path: str, mode: str) -> Iterator[int]:
    """Yield the agent's handle of an open file, and close it at the end."""
    handle = agent.execute("guest-file-open", {"path": path, "mode": mode}, timeout=REPLY_TIMEOUT)
    if not isinstance(handle, int):
        raise invalid_answer("it is not the handle of a file")
    try:
        yield handle
    except BaseException:
        with contextlib.suppress(GuestError):
            agent.execute("guest-file-close", {"handle": handle})
        raise
    agent.execute("guest-file-close", {"handle": handle}, timeout=REPLY_TIMEOUT)


def _deadline(size: int) -> float:
    """Return the deadline for a transfer: a guest may not take for ever in tiny pieces."""
    return time.monotonic() + REPLY_TIMEOUT * (1 + -(-size // MAX_PIECE))


def _timeout(deadline: float) -> float:
    return max(min(REPLY_TIMEOUT, deadline - time.monotonic()), 0.001)
