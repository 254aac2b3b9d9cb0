# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Locks between runs: file locks, which the kernel releases when their holder dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from typing import Callable, Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, LockTimeout
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import is_same_file, read_text


@contextlib.contextmanager
def file_lock(
    path: str,
    timeout: float = 300,
    remake: Callable[[], object] | None = None,
    create: bool = True,
    is_check: bool = False,
) -> Iterator[bool]:
    """Hold the lock file at path during the block; yield whether there was one to hold.

    timeout: seconds to wait; then LockTimeout is raised, naming the holder.
    remake: makes the folder of the lock. It is called before each try, also after another run has
    removed the folder meanwhile. Without it, a missing folder needs no lock.
    create: make a missing file; if False, a missing file needs no lock.
    is_check: nothing is changed under the lock, so a read-only file system is no error.
    """
    while True:
        if remake:
            remake()
        handle = _open(path, os.O_CREAT if create else 0, is_check)
        if handle is None:
            if remake:
                continue
            yield False
            return
        try:
            _acquire(handle, path, timeout)
            if remake and not is_same_file(handle, path):
                continue
            _write_holder(handle, path)
            yield True
            return
        finally:
            os.close(handle)


@contextlib.contextmanager
def try_lock(path: str, is_shared: bool) -> Iterator[bool]:
    """Hold the lock file at path during the block, if that needs no wait; yield whether it is held.

    is_shared: together with others that share it. Raises HostError.
    """
    handle = _open(path, os.O_CREAT, False)
    if handle is None:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            is_held = True
        except BlockingIOError:
            is_held = False
        yield is_held
    finally:
        # A program that another thread is starting may have the descriptor for a moment.
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _open(path: str, create: int, is_check: bool) -> int | None:
    try:
        return os.open(path, os.O_RDWR | create | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    except OSError as error:
        if is_check and error.errno == errno.EROFS:
            with contextlib.suppress(FileNotFoundError):
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            return None
        raise HostError("cannot open the lock %s: %s" % (path, error.strerror), path=path)


def _write_holder(handle: int, path: str) -> None:
    if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        return
    try:
        # Fixed width: truncating costs milliseconds.
        os.pwrite(handle, b"%-20d\n" % os.getpid(), 0)
    except OSError as error:
        raise HostError("cannot write the lock %s: %s" % (path, error.strerror), path=path)


def _acquire(handle: int, path: str, timeout: float) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        pass
    except OSError as error:
        raise HostError("cannot lock %s: %s" % (path, error.strerror), path=path)
    # flock has no timeout, and polling would wake late: a helper thread waits in the kernel.
    waiter = os.dup(handle)
    done = threading.Event()

    def wait() -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(waiter, fcntl.LOCK_EX)
        done.set()
        os.close(waiter)  # handle keeps the lock, unless it was closed after a timeout

    threading.Thread(target=wait, daemon=True).start()
    if not done.wait(timeout):
        holder = (read_text(path) or "").strip()
        raise LockTimeout(
            "another run%s has held %s for %d seconds"
            % (" (pid %s)" % holder if holder else "", path, timeout),
            path=path,
            holder=holder,
        )
