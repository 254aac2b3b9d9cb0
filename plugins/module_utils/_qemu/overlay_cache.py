# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Copies of new overlays: qemu-img makes the first of a run, equal ones are copied from it.

A new qcow2 overlay without options holds its size and the name of its base, and nothing unique
(QEMU, docs/interop/qcow2.txt). Starting qemu-img takes fifty times as long as writing the few
clusters of an overlay.
"""

from __future__ import annotations

import os
from typing import List, NamedTuple, Sequence, Tuple

_BLOCK = 4096
_MAX_SIZE = 1 << 20  # bytes of an overlay that is worth keeping

Key = Tuple[object, ...]


class Content(NamedTuple):
    """The bytes of an overlay, without its holes."""

    size: int
    blocks: List[Tuple[int, bytes]]  # offset and bytes


_contents: dict[Key, Content] = {}


def cache_key(words: Sequence[str], size: int | None, backing_file: str) -> Key | None:
    """Return what equal overlays have in common: the call of qemu-img and the state of the base.

    None for a base that cannot be read.
    """
    try:
        state = os.stat(backing_file)
    except OSError:
        return None
    return (*words, size, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)


def store(key: Key, path: str) -> None:
    """Keep the content of a new overlay, before a guest writes to it."""
    with open(path, "rb") as stream:
        data = stream.read(_MAX_SIZE + 1)
    if len(data) <= _MAX_SIZE:
        blocks = ((start, data[start : start + _BLOCK]) for start in range(0, len(data), _BLOCK))
        _contents[key] = Content(
            len(data),
            [(start, block) for start, block in blocks if block.count(0) != len(block)],
        )


def find(key: Key | None) -> Content | None:
    """Return the content kept for key, or None."""
    return None if key is None else _contents.get(key)


def write_copy(handle: int, content: Content) -> None:
    """Write content into an empty file, with the same holes."""
    os.ftruncate(handle, content.size)
    for start, block in content.blocks:
        os.pwrite(handle, block, start)
