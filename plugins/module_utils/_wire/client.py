# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Requests to a program that passes on frames: see control."""

from __future__ import annotations

import json
import time
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.sockets import connect_unix

_ANSWER_TIMEOUT = 5  # seconds
_MAX_ANSWER = 4 << 20  # bytes


def ask(path: str, request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of the program that listens at path.

    Raises OSError, also for an error that the program answers.
    """
    try:
        answer = json.loads(_exchange(path, json.dumps(request).encode() + b"\n"))
    except (ValueError, RecursionError) as error:
        raise OSError("its answer is damaged: %s" % error)
    if not isinstance(answer, dict) or "error" in answer:
        raise OSError(str(answer.get("error") if isinstance(answer, dict) else answer))
    return answer


def _exchange(path: str, request: bytes) -> bytes:
    """Send a request and return the line of the answer. Raises OSError."""
    deadline, answer = time.monotonic() + _ANSWER_TIMEOUT, bytearray()
    with connect_unix(path, _ANSWER_TIMEOUT) as channel:
        channel.settimeout(_ANSWER_TIMEOUT)
        channel.sendall(request)
        while not answer.endswith(b"\n"):
            channel.settimeout(max(0.001, deadline - time.monotonic()))
            data = channel.recv(1 << 16)
            if not data or len(answer) > _MAX_ANSWER:
                raise OSError("its answer is not complete")
            answer += data
    return bytes(answer)
