# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The cache folder of the collection on a host, and the check that its content can be trusted."""

from __future__ import annotations

import contextlib
import os
import stat
import time

_DAY = 86400
_EARLIER = "code-"  # the names of code bundles in earlier versions


def cache_folder() -> str:
    """Return /var/cache/vlab for root, $XDG_CACHE_HOME/vlab or ~/.cache/vlab for other users."""
    if os.geteuid() == 0:
        return "/var/cache/vlab"
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vlab")


def remove_strays(folder: str) -> None:
    """Remove from the cache folder what killed runs and earlier versions of the collection left.

    New content has a name that begins with a dot until it is complete: none takes a day.
    """
    import shutil  # rarely needed

    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            with contextlib.suppress(FileNotFoundError):  # another run removes them, too
                state = entry.stat(follow_symlinks=False)
                is_old = state.st_mtime < time.time() - _DAY
                if is_old and entry.name.startswith((".", _EARLIER)):
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path, ignore_errors=True)
                    else:
                        os.unlink(entry.path)


def check_owner(path: str) -> None:
    """Check that no other user can have written to a path in the cache folder.

    Raises PermissionError, or FileNotFoundError if the path does not exist.
    """
    for part in (os.path.dirname(path), path):
        state = os.lstat(part)
        writable = state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if state.st_uid != os.geteuid() or writable or stat.S_ISLNK(state.st_mode):
            raise PermissionError("%s can be written to by other users" % part)
