# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Locks between runs: a file lock that the kernel drops when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, LockTimeout
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import is_same_file, read_text


@contextlib.contextmanager
def file_lock(path, timeout=300, remake=None, create=True):
    """Hold the lock file at path; wait for timeout seconds at most, then raise LockTimeout naming the holder.

    When the file was removed while we waited, with the folder it is in, remake is called and the wait begins anew; without
    remake there is nothing left to lock. create False: without the file there is nothing to lock either.
    """
    while True:
        if remake:
            remake()
        handle = _open(path, os.O_CREAT if create else 0)
        if handle is None:
            if remake:
                continue
            yield
            return
        try:
            _acquire(handle, path, timeout)
            if remake and not is_same_file(handle, path):
                continue
            # Always as long: to cut a file short takes the file system milliseconds.
            os.pwrite(handle, b"%-20d\n" % os.getpid(), 0)
            yield
            return
        finally:
            os.close(handle)


def _open(path, create):
    try:
        return os.open(path, os.O_RDWR | create | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError("cannot open the lock %s: %s" % (path, error.strerror), path=path)


def _acquire(handle, path, timeout):
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        pass
    # flock has no time-out: a helper thread waits in the kernel, so that we wake as soon as the lock is free.
    waiter = os.dup(handle)
    done = threading.Event()

    def wait():
        with contextlib.suppress(OSError):
            fcntl.flock(waiter, fcntl.LOCK_EX)
        done.set()
        os.close(waiter)  # the lock lives on in handle, unless we have given up meanwhile

    threading.Thread(target=wait, daemon=True).start()
    if not done.wait(timeout):
        holder = (read_text(path) or "").strip()
        raise LockTimeout(
            "another run%s has held %s for %d seconds"
            % (" (pid %s)" % holder if holder else "", path, timeout),
            path=path,
            holder=holder,
        )
