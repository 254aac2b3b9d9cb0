# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This room is private to the vlab.qemu collection: it may change with any release.

"""Files written whole or not at all, and folders that only their owner can enter."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError


def write_whole(path, data, mode=0o600):
    """Replace the file at path by data (bytes or str) in one step: a reader sees the old or the new one."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    try:
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".new", dir=os.path.dirname(path))
    except OSError as error:
        raise HostError("cannot write %s: %s" % (path, error.strerror), path=path)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            os.fchmod(stream.fileno(), mode)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise HostError("cannot write %s: %s" % (path, error.strerror), path=path)


def write_json(path, data):
    """Write data as JSON that a person can read, whole."""
    write_whole(path, json.dumps(data, indent=2, sort_keys=True) + "\n")


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
        raise HostError("%s is damaged: %s. Restore it, or remove it to begin anew" % (path, error), path=path)


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
        raise HostError("%s belongs to user id %d, not to us (%d): become that user, or use another root"
                        % (path, state.st_uid, os.geteuid()), path=path)
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
