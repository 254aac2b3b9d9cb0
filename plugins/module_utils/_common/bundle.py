# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The collection's rooms, unpacked on the hypervisor once, with their compiled code, for a module that is called often.

What Ansible packs into a module is read, packed, sent and compiled anew with each run. A module that imports nothing but this
room is small; the controller tells it by a mark which rooms it needs, and sends them when they are not there yet.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import stat
import tempfile
import time
import zipfile

_PACKAGE = "ansible_collections.vlab.qemu.plugins.module_utils"
_MOST, _DAY = 4, 86400  # bundles that are kept though nobody has used them for so many seconds


def load(mark, archive=None):
    """Make the rooms of the bundle called mark importable; False when it is not here and no archive (a path) came with it.

    Raises OSError when it cannot be unpacked, PermissionError when somebody else could have written to it.
    """
    folder = os.path.join(_cache_folder(), "bundle-" + os.path.basename(mark))
    if not os.path.isdir(folder):
        if not archive:
            return False
        _unpack(archive, folder)
    for place in (os.path.dirname(folder), folder):
        state = os.lstat(place)
        if state.st_uid != os.geteuid() or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError("%s can be written to by others" % place)
    os.utime(folder)
    for name, path in (
        (_PACKAGE, folder),
        (_PACKAGE + "._common", os.path.join(folder, "_common")),
    ):
        importlib.import_module(name).__path__.append(path)
    return True


def _cache_folder():
    if os.geteuid() == 0:
        return "/var/cache/vlab"
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vlab")


def _unused(base):
    """The bundles that nobody has used for a day, the last used first: others may be at work with any of the rest."""
    found = []
    for entry in os.scandir(base):
        with contextlib.suppress(FileNotFoundError):  # another run removes them, too
            if entry.name.startswith("bundle-") and entry.stat().st_mtime < time.time() - _DAY:
                found.append((entry.stat().st_mtime, entry.path))
    return [path for _time, path in sorted(found, reverse=True)]


def _unpack(archive, folder):
    import compileall  # only the first run needs it

    base = os.path.dirname(folder)
    os.makedirs(base, mode=0o700, exist_ok=True)
    for path in _unused(base)[_MOST:]:
        shutil.rmtree(path, ignore_errors=True)
    temporary = tempfile.mkdtemp(prefix=".", dir=base)
    try:
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(temporary)
        compileall.compile_dir(temporary, quiet=2)
        os.rename(temporary, folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        # Another run may have been faster.
        if not os.path.isdir(folder):
            raise
