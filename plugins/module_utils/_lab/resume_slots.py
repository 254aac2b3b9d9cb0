# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Let emulated guests continue from their templates a few at a time.

All at once, they slow each other down: 16 routers on two processors take a third more processor
time each than two of them.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from typing import Iterator

# A guest may be ready only when another one runs, which waits for a slot.
_MAX_SECONDS = 1.0


class ResumeSlots:
    """Slots for guests that configure themselves.

    count: how many guests have one at a time, each for at most a second.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._condition = threading.Condition()
        self._numbers = itertools.count()
        self._waiting: list[tuple[int, int]] = []
        self._ends: list[float] = []

    @contextlib.contextmanager
    def slot(self, size: int) -> Iterator[None]:
        """Hold a slot during the block, which starts when there is one.

        size: the work of the guest, such as its number of NICs; the largest one comes first.
        """
        end = self._take(size)
        try:
            yield
        finally:
            with self._condition:
                if end in self._ends:
                    self._ends.remove(end)
                self._condition.notify_all()

    def _take(self, size: int) -> float:
        """Wait for a slot; return the time at which it ends."""
        with self._condition:
            entry = (-size, next(self._numbers))
            heapq.heappush(self._waiting, entry)
            while True:
                now = time.monotonic()
                self._ends = [end for end in self._ends if end > now]
                if self._waiting[0] == entry and len(self._ends) < self.count:
                    heapq.heappop(self._waiting)
                    self._ends.append(now + _MAX_SECONDS)
                    self._condition.notify_all()  # the next one may have a slot, too
                    return now + _MAX_SECONDS
                self._condition.wait(min(self._ends) - now if self._ends else None)
