# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The event stream of an open page: the latest state of the lab, and the output of its consoles."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections import deque
from typing import Any

_MAX_PENDING = 1 << 20  # bytes of output; a console waits until the browser has taken them


class Stream:
    """What is to be sent to one page. identity: names it in the requests of the page."""

    def __init__(self) -> None:
        self.identity = secrets.token_urlsafe(16)
        self.is_closed = False
        self._changed = threading.Condition()
        self._state: str | None = None
        self._events: deque[tuple[str, Any]] = deque()
        self._pending = 0

    def put_state(self, state: str) -> None:
        """Send a state, instead of one that was not sent yet."""
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def put_output(self, console: str, output: bytes) -> bool:
        """Send output of a console; wait for space. Return whether the page is still open."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_closed or self._pending < _MAX_PENDING)
            if not self.is_closed:
                self._pending += len(output)
                self._events.append(("output", (console, output)))
                self._changed.notify_all()
            return not self.is_closed

    def put_end(self, console: str) -> None:
        """Report that a console has ended."""
        with self._changed:
            self._events.append(("end", console))
            self._changed.notify_all()

    def close(self) -> None:
        """End the stream: the page is closed, or the playbook ends."""
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()

    def next(self, timeout: float) -> bytes | None:
        """Return the next events in the format of event streams; None at the end of the stream.

        Without one within timeout seconds, it is a comment, with which a closed connection is
        noticed.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self.is_closed or self._state is not None or self._events, timeout
            )
            if self.is_closed:
                return None
            state, self._state = self._state, None
            events, self._pending = list(self._events), 0
            self._events.clear()
            self._changed.notify_all()
        texts = [] if state is None else [_event("state", state)]
        texts += [_encoded(name, content) for name, content in events]
        return "".join(texts or [":\n\n"]).encode("utf-8")


def first_event(stream: Stream) -> bytes:
    """Return the event with which the page learns the identity of its stream."""
    return _event("stream", json.dumps(stream.identity)).encode("utf-8")


def _encoded(name: str, content: Any) -> str:
    if name == "output":
        console, output = content
        content = {"console": console, "data": base64.b64encode(output).decode("ascii")}
    return _event(name, json.dumps(content))


def _event(name: str, data: str) -> str:
    return "event: %s\ndata: %s\n\n" % (name, data)
