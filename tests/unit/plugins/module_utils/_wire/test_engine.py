# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an impaired link does to frames, with a clock of its own and seeds."""

from __future__ import annotations

import collections

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._wire.engine import Direction, check

COUNT = 20000


def run(parameters, count=COUNT, gap=0.001, size=1000, seed=7):
    """Send numbered frames; return the direction and [(number, copy, delay)] as they leave."""
    direction = Direction(check(dict(parameters, seed=seed)), 0.0)
    sent = []
    for number in range(count):
        now = number * gap
        frame = number.to_bytes(4, "big") + bytes(size - 4)
        for due, copy in direction.admit(frame, now):
            sent.append((due, len(sent), number, copy, due - now))
            direction.left(len(copy), now, due)
    return direction, [(number, copy, delay) for _due, _n, number, copy, delay in sorted(sent)]


def sigmas(found, count, probability):
    """Return by how many standard deviations of the binomial distribution a number is off."""
    return abs(found - count * probability) / (count * probability * (1 - probability)) ** 0.5


def median(values):
    return sorted(values)[len(values) // 2]


def numbers(sent):
    return [number for number, _copy, _delay in sent]


def test_nothing_to_do():
    direction, sent = run({})
    assert numbers(sent) == list(range(COUNT))
    assert {delay for _number, _copy, delay in sent} == {0}
    assert direction.waiting == 0


@pytest.mark.parametrize("loss", [0.5, 10, 50])
@pytest.mark.parametrize("correlation", [0, 25, 60])
def test_random_loss(loss, correlation):
    direction, sent = run({"loss": loss, "loss_correlation": correlation})
    assert direction.counters.lost == COUNT - len(sent)
    # Frames that depend on each other count for less.
    worth = (1 - correlation / 100) / (1 + correlation / 100)
    assert sigmas(direction.counters.lost, COUNT, loss / 100) * worth**0.5 < 4


def test_correlation_of_losses():
    _direction, sent = run({"loss": 10, "loss_correlation": 50})
    arrived = set(numbers(sent))
    after_loss = [number + 1 in arrived for number in range(COUNT - 1) if number not in arrived]
    # 10 % + 50 % of 90 %
    assert sigmas(after_loss.count(False), len(after_loss), 0.55) < 4


def test_bursts():
    burst = {"begin": 1, "end": 20, "loss": 100, "loss_between": 0}
    direction, sent = run({"burst_loss": burst})
    arrived, lengths, length = set(numbers(sent)), [], 0
    for number in range(COUNT):
        if number not in arrived:
            length += 1
        elif length:
            lengths.append(length)
            length = 0
    assert 4.2 < sum(lengths) / len(lengths) < 5.8  # 1 / 20 %
    assert 0.035 < direction.counters.lost / COUNT < 0.062  # 1 / 21


@pytest.mark.parametrize(
    ("name", "counter"), [("duplicate", "duplicated"), ("corrupt", "corrupted")]
)
def test_copies(name, counter):
    direction, sent = run({name: 5})
    assert sigmas(getattr(direction.counters, counter), COUNT, 0.05) < 4
    copies = collections.Counter(numbers(sent))
    changed = [
        copy for number, copy, _delay in sent if copy != number.to_bytes(4, "big") + bytes(996)
    ]
    if name == "duplicate":
        assert not changed
        assert sum(copies.values()) == COUNT + direction.counters.duplicated
        assert set(copies.values()) == {1, 2}
    else:
        assert len(changed) == direction.counters.corrupted
        assert set(copies.values()) == {1}


def test_one_bit_is_corrupted():
    direction = Direction({"corrupt": 100, "seed": 1}, 0)
    for size in (1, 60, 1514):
        ((_due, copy),) = direction.admit(bytes(size), 0)
        assert len(copy) == size
        assert bin(int.from_bytes(copy, "big")).count("1") == 1
    assert direction.admit(b"", 0) == [(0, b"")]


def test_delay():
    _direction, sent = run({"delay": 10})
    assert {round(delay, 9) for _number, _copy, delay in sent} == {0.01}


@pytest.mark.parametrize(
    ("distribution", "deviation", "least"),
    [("uniform", 3**-0.5, 15), ("normal", 1, 0), ("pareto", 1, 17), ("paretonormal", 0.79, 0)],
)
def test_jitter(distribution, deviation, least):
    parameters = {"delay": 20, "jitter": 5, "distribution": distribution}
    # So far apart that no frame waits for the one before it.
    _direction, sent = run(parameters, gap=1)
    delays = [delay * 1000 for _number, _copy, delay in sent]
    mean = sum(delays) / COUNT
    assert abs(mean - 20) < 0.3
    measured = (sum((delay - mean) ** 2 for delay in delays) / COUNT) ** 0.5
    assert measured == pytest.approx(5 * deviation, rel=0.25)
    assert min(delays) >= least


def test_jitter_does_not_reorder():
    _direction, sent = run({"delay": 20, "jitter": 10})
    assert numbers(sent) == list(range(COUNT))


def test_reorder():
    direction, sent = run({"delay": 20, "reorder": 2})
    assert sigmas(direction.counters.reordered, COUNT, 0.02) < 4
    early = [delay for _number, _copy, delay in sent if delay == 0]
    assert len(early) == direction.counters.reordered
    assert numbers(sent) != list(range(COUNT))
    assert sorted(numbers(sent)) == list(range(COUNT))


def test_rate_and_queue():
    # 1000 bytes at 4 Mbit/s take 2 ms, and one comes each ms.
    direction, sent = run({"rate": 4000, "limit": 50})
    assert direction.counters.dropped == COUNT - len(sent)
    last_number, _copy, last_delay = sent[-1]
    assert len(sent) * 1000 * 8 / (last_number * 0.001 + last_delay) == pytest.approx(
        4000000, rel=0.02
    )
    assert max(delay for _number, _copy, delay in sent) == pytest.approx(0.1, rel=0.03)
    report = direction.counters.report(20)
    assert report["rate"] == pytest.approx(4000, rel=0.02)
    assert report["peak_rate"] == pytest.approx(4000, rel=0.02)
    assert report["delay_p50"] == pytest.approx(100, rel=0.03)


def test_rate_without_a_queue_is_only_the_time_of_the_frame():
    _direction, sent = run({"rate": 8000, "delay": 5}, gap=0.01)
    assert {round(delay, 9) for _number, _copy, delay in sent} == {0.006}


def test_frames_on_their_way_are_bounded():
    direction = Direction({"delay": 60000}, 0)
    for _number in range(1000):
        direction.admit(bytes(60000), 0)
    assert direction.waiting <= 32 << 20
    assert direction.counters.dropped == 1000 - (32 << 20) // 60000


def test_a_seed_makes_the_same_losses_whatever_the_jitter():
    first = numbers(run({"loss": 5, "delay": 1})[1])
    assert first == numbers(run({"loss": 5, "delay": 90, "jitter": 20, "duplicate": 1e-9})[1])
    assert first != numbers(run({"loss": 5, "delay": 1}, seed=8)[1])


def test_no_seed_is_another_one_each_time():
    found = set()
    for _run in range(3):
        direction = Direction({"loss": 50}, 0)
        found.add(tuple(bool(direction.admit(b"frame", 0)) for _frame in range(128)))
    assert len(found) == 3


def test_a_change_keeps_the_order():
    before = Direction({"delay": 100}, 0)
    ((due, _frame),) = before.admit(b"first", 0)
    after = Direction({"delay": 1}, 0)
    after.follow(before)
    ((later, _frame),) = after.admit(b"second", 0.01)
    assert later >= due
    assert after.waiting == len(b"firstsecond")


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        None,
        {"delay": "1"},
        {"delay": -1},
        {"delay": float("nan")},
        {"delay": float("inf")},
        {"delay": 10**400},
        {"delay": True},
        {"loss": 100.1},
        {"limit": 1.5},
        {"limit": 0},
        {"seed": -1},
        {"distribution": "flat"},
        {"distribution": []},
        {"burst_loss": {}},
        {"burst_loss": {"begin": 1, "end": 1, "loss": 1, "loss_between": "0"}},
        {"unknown": 1},
    ],
)
def test_wrong_parameters(wrong):
    with pytest.raises(ValueError):
        check(wrong)
