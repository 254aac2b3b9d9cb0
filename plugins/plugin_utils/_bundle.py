# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The rooms of the target, as one archive that a hypervisor keeps."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile

_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "module_utils")


def mark():
    """What the rooms are now, as a word: by their names, sizes and times, because it is asked for with each run."""
    words = []
    for path, name in _files():
        state = os.stat(path)
        words.append("%s %d %d" % (name, state.st_size, state.st_mtime_ns))
    return hashlib.sha256("\n".join(words).encode("utf-8")).hexdigest()[:20]


def pack(path):
    """Write the rooms into an archive: a path, or a binary stream."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for source, name in _files():
            archive.write(source, name)


def packed():
    """The archive, as bytes."""
    archive = io.BytesIO()
    pack(archive)
    return archive.getvalue()


def _files():
    for folder, folders, names in sorted(os.walk(_FOLDER)):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                yield path, os.path.relpath(path, _FOLDER)
