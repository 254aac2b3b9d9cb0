# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Requests about images that are copied between hypervisors: find, read, write, fetch, finish.

A copy grows in a partial file beside its path, whose name has the checksum of the content. The next
run continues it. It gets its name when it is complete and has the checksum.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import stat
import subprocess
from typing import IO, Any, Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    ImageError,
    VlabError,
    report_os_errors,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    existing_folder,
    free_space,
    make_folder,
    remove_file,
    rename_new,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.paths import absolute_path
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import start_program
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.images import checksum
from ansible_collections.vlab.qemu.plugins.module_utils._remote.protocol import (
    Handler,
    RequestError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import root_folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.hangup import end_with_client
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image_folder import image_folder

ALGORITHM = "sha256"
_FETCH_TIMEOUT = 3600  # seconds for one part
_MAX_MESSAGE = 2000  # characters of the output of ssh


def _handler(handle: Handler) -> Handler:
    """Turn the errors of the collection and of the host into those of a request."""

    @functools.wraps(handle)
    def wrapped(parameters: dict[str, Any], data: bytes) -> Any:
        try:
            with report_os_errors("cannot copy the image %s" % parameters.get("path", "")):
                return handle(parameters, data)
        except VlabError as error:
            raise RequestError("error", error.message)

    return wrapped


@_handler
def _find(parameters: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Return for each image its path, its size (None without it), and the space beside it."""
    root = root_folder(parameters.get("root"))
    folder = image_folder(root, parameters.get("image_dir"))
    found = {}
    for name in parameters["images"]:
        path = absolute_path("images", name, folder)
        size = None
        with contextlib.suppress(FileNotFoundError):
            state = os.stat(path)
            if not stat.S_ISREG(state.st_mode) and not stat.S_ISBLK(state.st_mode):
                raise ImageError("%s is neither a file nor a block device" % path, path=path)
            # A block device is there, but is not copied.
            size = state.st_size if stat.S_ISREG(state.st_mode) else -1
        device, free = _space(os.path.dirname(path))
        found[name] = {"path": path, "size": size, "device": device, "free": free}
    return {"images": found}, []


def _space(folder: str) -> tuple[int, int]:
    """Return the device of a folder, or of where it will be, and the free bytes there."""
    folder = existing_folder(folder)
    return os.stat(folder).st_dev, free_space(folder)


@_handler
def _checksum(parameters: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    end_with_client()
    return {"checksum": checksum(parameters["path"], ALGORITHM)}, []


@_handler
def _partial_size(parameters: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    try:
        return {"size": os.lstat(_partial(parameters)).st_size}, []
    except FileNotFoundError:
        return {"size": 0}, []


@_handler
def _read(parameters: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    with open(parameters["path"], "rb") as stream:
        stream.seek(parameters["offset"])
        return {}, [stream.read(parameters["size"])]


@_handler
def _write(parameters: dict[str, Any], data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Append data to the partial file, if it ends at the offset; return the size of the file."""
    with _opened(parameters) as stream:
        size = stream.seek(0, os.SEEK_END)
        if size == parameters["offset"]:
            size += stream.write(data)
            stream.flush()
        return {"size": size}, []


@_handler
def _fetch(parameters: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Append the next part from another host; return the size of the file.

    argv: a program that prints the content of the source from offset on.
    """
    end_with_client()
    with _opened(parameters) as stream:
        if stream.seek(0, os.SEEK_END) == parameters["offset"]:
            # The program inherits the lock: a run that is cut off leaves no second writer.
            try:
                process = start_program(
                    parameters["argv"],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.PIPE,
                )
            except OSError as error:
                raise HostError("cannot run %s: %s" % (parameters["argv"][0], error.strerror))
            try:
                _out, message = process.communicate(timeout=_FETCH_TIMEOUT)
            except subprocess.TimeoutExpired:
                message = b"no end within %d s" % _FETCH_TIMEOUT
            finally:
                process.kill()
                process.wait()
            if process.returncode:
                text = message.decode("utf-8", "replace").strip()[-_MAX_MESSAGE:]
                raise HostError(text or "exit code %d" % process.returncode)
        return {"size": stream.seek(0, os.SEEK_END)}, []


@_handler
def _finish(parameters: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Check the content of the partial file, and give it its name."""
    end_with_client()
    partial, path = _partial(parameters), parameters["path"]
    with _opened(parameters) as stream:
        found = checksum(partial, ALGORITHM)
        if found != parameters["checksum"]:
            remove_file(partial)
            raise ImageError(
                "the copy of %s has the checksum %s:%s, not %s:%s: the source changed meanwhile, "
                "or the transfer is damaged; the copy was removed"
                % (path, ALGORITHM, found, ALGORITHM, parameters["checksum"]),
                path=path,
            )
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())
        rename_new(partial, path)
        remove_file(partial)
    return {}, []


def _partial(parameters: dict[str, Any]) -> str:
    folder, name = os.path.split(parameters["path"])
    return os.path.join(folder, ".%s.%s.partial" % (name[:200], parameters["checksum"][:12]))


@contextlib.contextmanager
def _opened(parameters: dict[str, Any]) -> Iterator[IO[bytes]]:
    """Open and lock the partial file."""
    path = _partial(parameters)
    make_folder(os.path.dirname(path))
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "r+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostError("another run copies %s: wait for its end" % parameters["path"])
        try:
            yield stream
        finally:
            # A program that another thread is starting may have the descriptor for a moment.
            fcntl.flock(stream, fcntl.LOCK_UN)


HANDLERS = {
    "find": _find,
    "checksum": _checksum,
    "partial_size": _partial_size,
    "read": _read,
    "write": _write,
    "fetch": _fetch,
    "finish": _finish,
}
