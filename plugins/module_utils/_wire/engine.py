# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What an impaired link does to the frames of one direction: a pure function of time and seed.

The program of the wire runs by itself on the hypervisor, so this module imports only the standard
library.
"""

from __future__ import annotations

import collections
import math
import os
import random

# Of typing, which is not imported: it would take 10 % of the memory of the program.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping

    # Parameters of one direction: times in ms, probabilities in %, rates in kbit/s.
    Parameters = dict[str, Any]

# The least and the most of each number, and whether it is a whole number.
LIMITS: dict[str, tuple[float, float, bool]] = {
    "delay": (0, 60000, False),
    "jitter": (0, 60000, False),
    "loss": (0, 100, False),
    "loss_correlation": (0, 99, False),
    "duplicate": (0, 100, False),
    "corrupt": (0, 100, False),
    "reorder": (0, 100, False),
    "rate": (0, 100000000, False),
    "limit": (1, 1000000, True),
    "seed": (0, (1 << 63) - 1, True),
}
# Loss in bursts (Gilbert-Elliott). In the words of netem: begin is p, end is r, loss is 1-h,
# loss_between is 1-k.
BURST_DEFAULTS = {"begin": None, "end": None, "loss": 100, "loss_between": 0}
DEFAULT_LIMIT = 1000  # frames that wait for the rate
_MAX_WAITING = 32 << 20  # bytes of a direction that are on their way


_PARETO_DEVIATION = math.sqrt(0.75)


def _pareto(source: random.Random) -> float:
    # Of shape 3, with its mean 3/2 taken away and divided by its standard deviation.
    return (source.paretovariate(3) - 1.5) / _PARETO_DEVIATION


def _normal(source: random.Random) -> float:
    return source.gauss(0, 1)


DISTRIBUTIONS: dict[str, Callable[[random.Random], float]] = {
    "uniform": lambda source: 2 * source.random() - 1,
    "normal": _normal,
    "pareto": _pareto,
    "paretonormal": lambda source: 0.25 * _normal(source) + 0.75 * _pareto(source),
}


def check(parameters: Any) -> Parameters:
    """Return parameters that a direction can work with. Raises ValueError for any other."""
    if not isinstance(parameters, dict):
        raise ValueError("parameters are a dictionary")
    for name, value in parameters.items():
        if name == "distribution":
            if not isinstance(value, str) or value not in DISTRIBUTIONS:
                raise ValueError("distribution is one of %s" % ", ".join(DISTRIBUTIONS))
        elif name == "burst_loss":
            _check_burst(value)
        elif name in LIMITS:
            _check_number(name, value, *LIMITS[name])
        else:
            raise ValueError("there is no parameter %.40r" % (name,))
    return parameters


def _check_burst(value: Any) -> None:
    if not isinstance(value, dict) or set(value) != set(BURST_DEFAULTS):
        raise ValueError("burst_loss has %s" % ", ".join(BURST_DEFAULTS))
    for name, probability in value.items():
        _check_number("burst_loss.%s" % name, probability, 0, 100, False)


def _check_number(name: str, value: Any, least: float, most: float, whole: bool) -> None:
    allowed = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not least <= value <= most:
        raise ValueError("%s is a number from %d to %d" % (name, least, most))


class Counters:
    """What became of the frames of a direction since its last change.

    dropped: frames for which the queue had no space.
    """

    _SAMPLES = 2048  # delays of the latest frames, for the percentiles

    def __init__(self, now: float) -> None:
        self.since = now
        self.frames_in = self.bytes_in = self.frames_out = self.bytes_out = 0
        self.lost = self.duplicated = self.corrupted = self.reordered = self.dropped = 0
        self._delays: collections.deque[float] = collections.deque(maxlen=self._SAMPLES)
        self._second, self._bytes_before = now, 0  # where the current second began
        self.rate = self.peak_rate = 0.0  # bytes per second, of whole seconds with frames

    def sent(self, size: int, arrival: float, now: float) -> None:
        """Count a frame that leaves."""
        if now - self._second >= 1:
            self._end_second(now)
        self.frames_out += 1
        self.bytes_out += size
        self._delays.append(now - arrival)

    def _end_second(self, now: float) -> None:
        elapsed = now - self._second
        if elapsed < 2:  # longer ones have a pause
            self.rate = (self.bytes_out - self._bytes_before) / elapsed
            self.peak_rate = max(self.peak_rate, self.rate)
        self._second, self._bytes_before = now, self.bytes_out

    def report(self, now: float) -> dict[str, Any]:
        """Return the counters: delays in ms, rates in kbit/s."""
        delays = sorted(self._delays)
        last = len(delays) - 1
        return {
            "seconds": round(now - self.since, 3),
            "frames_in": self.frames_in,
            "bytes_in": self.bytes_in,
            "frames_out": self.frames_out,
            "bytes_out": self.bytes_out,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "corrupted": self.corrupted,
            "reordered": self.reordered,
            "dropped": self.dropped,
            "delay_p50": round(delays[last // 2] * 1000, 3) if delays else None,
            "delay_p99": round(delays[last * 99 // 100] * 1000, 3) if delays else None,
            "rate": round(self.rate / 125, 1) if self.rate else None,
            "peak_rate": round(self.peak_rate / 125, 1) if self.peak_rate else None,
        }


class Direction:
    """The impairment of one direction: for each frame, when copies of it leave.

    parameters: of check. A seed makes the same decisions for the same frames; each kind of decision
    has random numbers of its own, so that the losses of a seed do not depend on the jitter.
    """

    def __init__(self, parameters: Parameters, now: float) -> None:
        self.parameters = parameters
        self.counters = Counters(now)
        self.waiting = 0  # bytes that are on their way
        seed = parameters.get("seed")
        text = os.urandom(16).hex() if seed is None else str(seed)
        self._loss_source, self._copy_source, self._delay_source = (
            random.Random("%s/%s" % (name, text)) for name in ("loss", "copy", "delay")
        )
        self._is_lost = self._loss_model(parameters)
        self._copies = self._probabilities("duplicate", "corrupt")
        self._delay, self._jitter = (parameters.get(name, 0) / 1000 for name in ("delay", "jitter"))
        self._draw = DISTRIBUTIONS[parameters.get("distribution", "uniform")]
        rate = parameters.get("rate", 0)
        self._reorder = parameters.get("reorder", 0) / 100
        self._seconds_per_byte = 8 / (rate * 1000) if rate else 0.0
        self._limit = parameters.get("limit", DEFAULT_LIMIT)
        self._departures: collections.deque[float] = collections.deque()  # from the queue
        self._last_due = 0.0

    def _probabilities(self, *names: str) -> tuple[float, ...] | None:
        """Return probabilities, None if all are 0."""
        found = tuple(self.parameters.get(name, 0) / 100 for name in names)
        return found if any(found) else None

    def follow(self, earlier: Direction) -> None:
        """Take over the frames that are on their way, so that no later frame overtakes them."""
        self.waiting, self._last_due = earlier.waiting, earlier._last_due

    # Loss.

    def _loss_model(self, parameters: Parameters) -> Callable[[], bool] | None:
        if "burst_loss" in parameters:
            return self._bursts(parameters["burst_loss"])
        loss, correlation = (parameters.get(name, 0) / 100 for name in ("loss", "loss_correlation"))
        return self._losses(loss, correlation) if loss else None

    def _losses(self, loss: float, correlation: float) -> Callable[[], bool]:
        """Return random losses whose rate does not depend on their correlation."""
        draw = self._loss_source.random
        # After a frame that arrived, and after one that was lost.
        chances = (loss * (1 - correlation), loss + correlation * (1 - loss))
        before = draw() < loss

        def is_lost() -> bool:
            nonlocal before
            before = draw() < chances[before]
            return before

        return is_lost

    def _bursts(self, given: Mapping[str, float]) -> Callable[[], bool]:
        draw = self._loss_source.random
        changes = (given["begin"] / 100, given["end"] / 100)
        chances = (given["loss_between"] / 100, given["loss"] / 100)
        in_burst = False

        def is_lost() -> bool:
            nonlocal in_burst
            if draw() < changes[in_burst]:
                in_burst = not in_burst
            return draw() < chances[in_burst]

        return is_lost

    # One frame.

    def admit(self, frame: bytes, now: float) -> list[tuple[float, bytes]]:
        """Return when each copy of a frame leaves: [(time, frame)], empty if it is lost."""
        counters = self.counters
        counters.frames_in += 1
        counters.bytes_in += len(frame)
        if self._is_lost is not None and self._is_lost():
            counters.lost += 1
            return []
        if self._copies is None:
            due = self._due(len(frame), now)
            return [] if due is None else [(due, frame)]
        return [
            (due, copy)
            for copy in self._copied(frame, *self._copies)
            for due in (self._due(len(copy), now),)
            if due is not None
        ]

    def left(self, size: int, arrival: float, now: float) -> None:
        """Count a frame that leaves now."""
        self.waiting -= size
        self.counters.sent(size, arrival, now)

    def _copied(self, frame: bytes, duplicate: float, corrupt: float) -> list[bytes]:
        draw, copies = self._copy_source.random, [frame]
        # The same number of draws for each frame, so that the two do not depend on each other.
        is_duplicated, is_corrupted = draw() < duplicate, draw() < corrupt
        bit = int(draw() * len(frame) * 8)
        if is_duplicated:
            self.counters.duplicated += 1
            copies.append(frame)
        if is_corrupted and frame:
            self.counters.corrupted += 1
            changed = bytearray(frame)
            changed[bit // 8] ^= 1 << bit % 8
            copies[0] = bytes(changed)
        return copies

    def _due(self, size: int, now: float) -> float | None:
        """Return when a frame leaves, None if there is no space for it."""
        if self.waiting + size > _MAX_WAITING:
            self.counters.dropped += 1
            return None
        due = now
        if self._seconds_per_byte:
            departures = self._departures
            while departures and departures[0] <= now:
                departures.popleft()
            if len(departures) >= self._limit:
                self.counters.dropped += 1
                return None
            due = (departures[-1] if departures else now) + size * self._seconds_per_byte
            departures.append(due)
        self.waiting += size
        return self._delayed(due)

    def _delayed(self, due: float) -> float:
        if self._reorder:
            # It overtakes the frames that wait for the delay.
            if self._delay_source.random() < self._reorder:
                self.counters.reordered += 1
                return due
        delay = self._delay
        if self._jitter:
            delay = max(0.0, delay + self._jitter * self._draw(self._delay_source))
        due += delay
        if not self._reorder:
            due = self._last_due = max(due, self._last_due)
        return due
