# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The code bundle of this collection: its module_utils as one archive that a hypervisor caches."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from typing import Iterator

MODULE_UTILS = os.path.join(os.path.abspath(__file__).rsplit(os.sep, 3)[0], "module_utils")


def digest() -> str:
    """Return what identifies the current code.

    It comes from the names, sizes and times of the files: each run asks for it.
    """
    lines = []
    for path, name in _files():
        state = os.stat(path)
        lines.append("%s %d %d" % (name, state.st_size, state.st_mtime_ns))
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()[:20]


def pack() -> bytes:
    """Return the archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for path, name in _files():
            archive.write(path, name)
    return stream.getvalue()


def _files(folder: str = MODULE_UTILS, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the name in the archive of each file, always in the same order."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        if entry.name.endswith(".py"):
            yield entry.path, prefix + entry.name
        elif entry.name != "__pycache__" and entry.is_dir():
            yield from _files(entry.path, "%s%s/" % (prefix, entry.name))
