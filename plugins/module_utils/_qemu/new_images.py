# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Files that qemu-img writes: they appear or are replaced when they are complete."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Callable, ContextManager, Iterator, Tuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import ImageError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    create_atomically,
    replace_atomically,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import format_size

# Opens a new file: its descriptor and a name of it.
NewFile = Callable[[], ContextManager[Tuple[int, str]]]


def space_text(path: str, needed: int | None) -> str:
    """Return what to say of a full disk or quota at path."""
    folder = os.path.dirname(os.path.abspath(path))
    try:
        state = os.statvfs(folder)
        free = "%s free" % format_size(state.f_bavail * state.f_frsize)
        if state.f_files and not state.f_favail:
            free += ", and no inodes"
    except OSError:
        free = "its file system cannot be examined"
    return "the disk or the quota of %s is full (%s%s): make space, or use another folder" % (
        folder,
        free,
        ", about %s needed" % format_size(needed) if needed else "",
    )


def error_of(path: str, error: OSError) -> ImageError:
    """Return the error of an image that could not be made at path."""
    reason = error.strerror
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = space_text(path, None)
    return ImageError("cannot make the image %s: %s" % (path, reason), path=str(path))


@contextlib.contextmanager
def new_image(path: str, mode: int) -> Iterator[tuple[int, str]]:
    """Yield a descriptor and a name of an image that appears at path, complete.

    Raises ImageError, also if path exists.
    """
    target = os.path.abspath(path)
    try:
        if os.path.lexists(target):
            raise FileExistsError
        with create_atomically(target, mode) as opened:
            yield opened
    except FileExistsError:
        raise ImageError(
            "%s exists already and is not overwritten: remove it, or choose another path" % path,
            path=str(path),
        )
    except OSError as error:
        raise error_of(path, error)


@contextlib.contextmanager
def replaced_image(path: str) -> Iterator[tuple[int, str]]:
    """Yield a descriptor and a name of an image that replaces the one at path, complete."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ImageError(
                "%s is a block device, which cannot be replaced: copy it to a file with source"
                % path,
                path=str(path),
            )
        with contextlib.ExitStack() as stack:
            yield stack.enter_context(replace_atomically(path))
    except PermissionError as error:
        raise ImageError(
            "cannot replace %s and keep its owner and mode: %s. Become its owner or root"
            % (path, error.strerror),
            path=str(path),
        )
    except OSError as error:
        raise error_of(path, error)
