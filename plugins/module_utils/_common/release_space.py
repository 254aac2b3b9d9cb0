# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Give the space of a part of a file back: fallocate(2). Detached programs use it as well."""

from __future__ import annotations

_PUNCH_HOLE = 1 | 2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE


def release_space(handle: int, offset: int, size: int) -> None:
    """Make a hole in a file, where the file system can do that."""
    import ctypes  # when it is needed: it costs memory

    libc = ctypes.CDLL(None)
    fallocate = getattr(libc, "fallocate64", None) or libc.fallocate
    fallocate(handle, _PUNCH_HOLE, ctypes.c_int64(offset), ctypes.c_int64(size))
