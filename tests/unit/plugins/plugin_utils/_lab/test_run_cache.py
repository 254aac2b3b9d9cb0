# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the workers of one run compute once."""

from __future__ import annotations

import multiprocessing
import os
import stat
import time

import pytest

from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.run_cache import RunCache


def _work(folder, key, results):
    results.put(RunCache(folder).get(key, os.getpid))


def test_one_worker_computes_a_value_for_all(tmp_path):
    results = multiprocessing.Queue()
    workers = [
        multiprocessing.Process(target=_work, args=(str(tmp_path), key, results))
        for key in ("a", "b") * 4
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=30) for _worker in workers]
    for worker in workers:
        worker.join(30)
    assert len(set(found)) == 2
    folder = tmp_path / "vlab-shared"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_what_cannot_be_saved_is_computed_by_each(tmp_path):
    cache = RunCache(str(tmp_path))
    values = [cache.get("a", lambda: lambda: 1) for _attempt in range(2)]
    assert values[0] is not values[1]


def test_what_is_nested_too_deeply_is_computed_by_each(tmp_path):
    def nested():
        value = []
        for _level in range(100000):
            value = [value]
        return value

    cache = RunCache(str(tmp_path))
    values = [cache.get("a", nested) for _attempt in range(2)]
    assert values[0] is not values[1]


def test_a_file_that_others_can_write_is_not_read(tmp_path):
    cache = RunCache(str(tmp_path))
    assert cache.get("a", lambda: 1) == cache.get("a", lambda: 2) == 1
    (tmp_path / "vlab-shared/a").chmod(0o666)
    assert cache.get("a", lambda: 2) == 2


def test_a_worker_that_is_stuck_is_not_waited_for_without_end(tmp_path):
    stuck, waiting = RunCache(str(tmp_path)), RunCache(str(tmp_path), timeout=0.05)
    start = time.monotonic()
    assert stuck.get("a", lambda: waiting.get("a", lambda: "second")) == "second"
    assert time.monotonic() - start < 10


def test_an_error_is_not_kept(tmp_path):
    cache = RunCache(str(tmp_path))
    with pytest.raises(KeyError):
        cache.get("a", {}.popitem)
    assert cache.get("a", lambda: 3) == 3
