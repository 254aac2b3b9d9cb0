# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""New overlays that are alike: qemu-img makes the first of a run, the others are its copies.

A new qcow2 overlay without options holds its size and the name of its base, and nothing that tells it from another one
(QEMU, docs/interop/qcow2.txt). To start qemu-img takes fifty times as long as to write the few clusters that it holds.
"""

from __future__ import annotations

import os

_BLOCK = 4096
_MOST = 1 << 20  # bytes of an image that is worth keeping
_made = {}


def cache_key(words, size, backing_file):
    """What makes two new overlays alike: how qemu-img is called, and the base as it is now. None for a base that cannot be looked at."""
    try:
        state = os.stat(backing_file)
    except OSError:
        return None
    return (*words, size, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)


def store(key, path):
    """Remember a new overlay that nobody has written to yet."""
    with open(path, "rb") as stream:
        data = stream.read(_MOST + 1)
    if len(data) <= _MOST:
        blocks = ((start, data[start : start + _BLOCK]) for start in range(0, len(data), _BLOCK))
        _made[key] = (
            len(data),
            [(start, block) for start, block in blocks if block.count(0) != len(block)],
        )


def find(key):
    """What is remembered, or None."""
    return _made.get(key)


def write_copy(handle, content):
    """Write a copy into an empty file, with the holes that the original has."""
    size, blocks = content
    os.ftruncate(handle, size)
    for start, block in blocks:
        os.pwrite(handle, block, start)
