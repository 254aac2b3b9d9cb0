# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Files written whole or not at all, and folders that only their owner can enter."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError


def write_atomically(path, data, mode=0o600):
    """Replace the file at path by data (bytes or str) in one step: a reader sees the old or the new one."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    temporary = _beside(path)
    try:
        with _alone(temporary) as stream:
            stream.truncate()
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise HostError("cannot write %s: %s" % (path, error.strerror), path=path)


def _beside(path):
    """Where the new content of a file is written: one name for all runs, so that what a killed run left is written over."""
    folder, name = os.path.split(path)
    return os.path.join(folder, ".%s.new" % name)


def remove_temporary(path):
    """Remove what a killed run left of new content for a file that only its holder of a lock writes."""
    remove_file(_beside(path))


@contextlib.contextmanager
def _alone(path):
    """The file at path, open for writing, while no other run has it."""
    while True:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as stream:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if is_same_file(handle, path):
                yield stream
                return


def is_same_file(handle, path):
    """Whether an open file is (still) the one at path."""
    try:
        return os.fstat(handle).st_ino == os.stat(path).st_ino
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def create_atomically(path, mode=0o600):
    """A descriptor and a name of a file that appears at path when the block ends well, whole; a killed run leaves nothing of it.

    Programs that are handed the descriptor can use the name. Raises FileExistsError when something is at path by then.
    """
    folder = os.path.dirname(path)
    temporary = None
    try:
        handle = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        # Not every file system has files without a name.
        import tempfile

        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".new", dir=folder)
    try:
        yield handle, temporary or "/proc/self/fd/%d" % handle
        os.chmod(temporary or handle, mode)
        if temporary:
            _move(temporary, path)
        else:
            # A directory's descriptor makes Python follow the link in /proc: open(2), O_TMPFILE.
            os.link("/proc/self/fd/%d" % handle, path, src_dir_fd=handle, follow_symlinks=True)
    finally:
        os.close(handle)
        if temporary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def _move(temporary, path):
    """Rename that never replaces: a link is refused by the kernel when path exists. Not every file system has links."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (
            errno.EPERM,
            errno.EOPNOTSUPP,
            errno.ENOSYS,
            errno.EMLINK,
        ) or os.path.lexists(path):
            raise
        os.rename(temporary, path)


def write_json(path, data):
    """Write data as JSON that a person can read, whole; a file that holds just that is left as it is."""
    text = json.dumps(data, indent=2, sort_keys=True) + "\n"
    if read_text(path) != text:
        write_atomically(path, text)


def read_json(path):
    """The data in a JSON file, or None when there is no file. A file that is not JSON is an error."""
    try:
        with open(path, "rb") as stream:
            return json.loads(stream.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError("cannot read %s: %s" % (path, error.strerror), path=path)
    except ValueError as error:
        raise HostError(
            "%s is damaged: %s. Restore it, or remove it to begin anew" % (path, error), path=path
        )


def read_text(path, default=None):
    """The text of a small file, or default when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return default


def tail(path, lines=20, limit=8192):
    """The last lines of a log as text; empty when there is none."""
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - limit))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def make_folder(path):
    """Make a folder and its parents, 0700; one that exists is left as it is."""
    try:
        if not os.path.isdir(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
    except OSError as error:
        raise HostError("cannot make the folder %s: %s" % (path, error.strerror), path=path)


def make_private_folder(path):
    """Make a folder that only we can enter, or see to it that an existing one is so."""
    make_folder(path)
    state = os.lstat(path)
    if not stat.S_ISDIR(state.st_mode):
        raise HostError("%s is in the way: a folder belongs there" % path, path=path)
    if state.st_uid != os.geteuid():
        raise HostError(
            "%s belongs to user id %d, not to us (%d): become that user, or use another root"
            % (path, state.st_uid, os.geteuid()),
            path=path,
        )
    if state.st_mode & 0o077:
        os.chmod(path, 0o700)


def remove_file(path):
    """Remove a file; True when there was one."""
    try:
        os.unlink(path)
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HostError("cannot remove %s: %s" % (path, error.strerror), path=path)
