# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Atomic writing of files, and folders that only their owner can enter."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
from typing import IO, Any, Iterator, overload

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.json_input import parse_json


def write_atomically(path: str, data: bytes | str, mode: int = 0o600) -> None:
    """Replace the file at path by data in one step: a reader sees the old file or the new one."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    temporary = _temporary_path(path)
    try:
        with _open_locked(temporary) as stream:
            stream.truncate()
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise HostError("cannot write %s: %s" % (path, error.strerror), path=path)


def _temporary_path(path: str) -> str:
    """Return where new content is written first.

    All runs use the same name, so that each overwrites what a killed run left.
    """
    folder, name = os.path.split(path)
    return os.path.join(folder, temporary_name(name))


def temporary_name(name: str) -> str:
    """Return the name of new content for a file of this name in the same folder."""
    return ".%s.new" % name


def remove_temporary(path: str) -> None:
    """Remove what a killed run left of new content for path.

    Only for files that are written under a lock, by the holder of that lock.
    """
    remove_file(_temporary_path(path))


@contextlib.contextmanager
def _open_locked(path: str) -> Iterator[IO[bytes]]:
    """Open the file at path for writing, once no other run has it open here."""
    while True:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as stream:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if is_same_file(handle, path):
                yield stream
                return


def size_and_time(path: str) -> tuple[int, int] | None:
    """Return what changes with the content of a file, None if it cannot be looked at."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def existing_folder(path: str) -> str:
    """Return a folder, or the next folder above it that exists."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def free_space(folder: str) -> int:
    """Return the bytes that a user who is not root can write to the file system of a folder.

    Raises OSError.
    """
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def is_same_file(handle: int, path: str) -> bool:
    """Return whether an open file is (still) the one at path."""
    try:
        return os.fstat(handle).st_ino == os.stat(path).st_ino
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def create_atomically(path: str, mode: int = 0o600) -> Iterator[tuple[int, str]]:
    """Create a file that appears at path, complete, when the block ends without an error.

    Yield its descriptor and a name for it, which works for programs that inherit the descriptor.
    A killed run leaves nothing. Raises FileExistsError if path exists by the end of the block.
    """
    folder = os.path.dirname(path)
    temporary = None
    try:
        handle = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        # Not every file system supports O_TMPFILE.
        import tempfile

        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".new", dir=folder)
    try:
        yield handle, temporary or "/proc/self/fd/%d" % handle
        os.chmod(temporary or handle, mode)
        if temporary:
            rename_new(temporary, path)
        else:
            # With a directory's descriptor Python follows the link in /proc: open(2), O_TMPFILE.
            os.link("/proc/self/fd/%d" % handle, path, src_dir_fd=handle, follow_symlinks=True)
    finally:
        os.close(handle)
        if temporary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


@contextlib.contextmanager
def replace_atomically(path: str) -> Iterator[tuple[int, str]]:
    """Create a file that replaces the one at path when the block ends without an error.

    It gets the mode and the owner of the old file. A symbolic link at path stays: the file that it
    points to is replaced. Yield as create_atomically does. Raises OSError.
    """
    target = os.path.realpath(path)
    state = os.stat(target)
    temporary = os.path.join(os.path.dirname(target), ".%s.new" % os.urandom(8).hex())
    with create_atomically(temporary, stat.S_IMODE(state.st_mode)) as (handle, name):
        created = os.fstat(handle)
        if (created.st_uid, created.st_gid) != (state.st_uid, state.st_gid):
            os.fchown(handle, state.st_uid, state.st_gid)
        yield handle, name
    try:
        os.replace(temporary, target)
    except OSError:
        os.unlink(temporary)
        raise


def rename_new(temporary: str, path: str) -> None:
    """Rename a file, but never replace another one.

    The kernel refuses a hard link if path exists. Not every file system has hard links.
    """
    no_links = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in no_links or os.path.lexists(path):
            raise
        os.rename(temporary, path)


def write_json(path: str, data: Any) -> None:
    """Write data as readable JSON, atomically; do not touch a file that has this content."""
    text = json_text(data)
    if read_text(path) != text:
        write_atomically(path, text)


def json_text(data: Any) -> str:
    """Return data as readable JSON, as write_json writes it."""
    return json.dumps(data, indent=2, sort_keys=True) + "\n"


def read_json(path: str) -> Any:
    """Return the data in a JSON file, or None if the file does not exist.

    Raises HostError for a file that cannot be read or is not JSON.
    """
    try:
        with open(path, "rb") as stream:
            return parse_json(stream.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError("cannot read %s: %s" % (path, error.strerror), path=path)
    except (ValueError, RecursionError) as error:
        raise HostError(
            "%s is damaged: %s. Restore it, or remove it to start afresh" % (path, error), path=path
        )


@overload
def read_text(path: str) -> str | None: ...


@overload
def read_text(path: str, default: str) -> str: ...


def read_text(path: str, default: str | None = None) -> str | None:
    """Return the text of a small file, or default if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return default


def tail(path: str, lines: int = 20, limit: int = 8192, head: bytes = b"") -> str:
    """Return the last lines of a log, limit bytes at most; empty if it cannot be read.

    head: what is left out if the log begins with it.
    """
    try:
        with open(path, "rb") as stream:
            start = len(head) if head and stream.read(len(head)) == head else 0
            stream.seek(max(start, os.fstat(stream.fileno()).st_size - limit))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def make_folder(path: str) -> None:
    """Make a folder with mode 0700, and its parents; do not touch one that exists.

    Raises HostError for a symbolic link of another user than root, in a folder that users share.
    """
    try:
        if not os.path.isdir(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
    except OSError as error:
        raise HostError("cannot make the folder %s: %s" % (path, error.strerror), path=path)
    try:
        state = os.lstat(path)
    except FileNotFoundError:
        return  # another run has removed it, and the caller makes it again, see file_lock
    except OSError as error:
        raise HostError("cannot make the folder %s: %s" % (path, error.strerror), path=path)
    if stat.S_ISLNK(state.st_mode) and state.st_uid not in (0, os.geteuid()):
        raise HostError(
            "%s is a symbolic link of user id %d, which is not followed: remove it, or use another "
            "root" % (path, state.st_uid),
            path=path,
        )


def make_private_folder(path: str) -> None:
    """Make a folder that only the current user can enter, or make an existing one private."""
    make_folder(path)
    try:
        state = os.lstat(path)
        if state.st_uid == os.geteuid() and stat.S_ISDIR(state.st_mode) and state.st_mode & 0o077:
            os.chmod(path, 0o700)
    except OSError as error:
        raise HostError("cannot make %s private: %s" % (path, error.strerror), path=path)
    if not stat.S_ISDIR(state.st_mode):
        raise HostError("%s exists but is not a directory" % path, path=path)
    if state.st_uid != os.geteuid():
        raise HostError(
            "%s belongs to user id %d, not to the current user (%d): become that user, "
            "or use another root" % (path, state.st_uid, os.geteuid()),
            path=path,
        )


def remove_file(path: str) -> bool:
    """Remove a file; return whether it existed."""
    try:
        os.unlink(path)
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HostError("cannot remove %s: %s" % (path, error.strerror), path=path)
