# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The code bundle: the collection's module_utils, unpacked and compiled once on a hypervisor.

Ansible packs, sends and compiles a module's code again for each task. A process that is started
often loads the code bundle instead. The controller names it by its digest, and sends its archive
only if the hypervisor does not have it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import IO

from ansible_collections.vlab.qemu.plugins.module_utils._remote.cache_folder import (
    cache_folder,
    check_owner,
    remove_strays,
)

PACKAGE = "ansible_collections.vlab.qemu.plugins.module_utils"
_MAX_UNUSED = 4  # code bundles that stay in the cache though no run has used them for a day
_DAY = 86400


def load(digest: str, archive: str | IO[bytes] | None = None) -> bool:
    """Make the modules of a code bundle importable. Return whether this host has the code bundle.

    archive: the code bundle as a path or a stream, unpacked if the host does not have it.
    Raises OSError if it cannot be unpacked, PermissionError if another user could have changed it.
    """
    folder = os.path.join(cache_folder(), "bundle-" + os.path.basename(digest))
    if not os.path.isdir(folder):
        if archive is None:
            return False
        _unpack(archive, folder)
    check_owner(folder)
    os.utime(folder)
    for name, module in list(sys.modules.items()):
        if (name + ".").startswith(PACKAGE + ".") and hasattr(module, "__path__"):
            module.__path__.append(os.path.join(folder, *name[len(PACKAGE) + 1 :].split(".")))
    return True


def cache_failure(error: OSError) -> str:
    """Return the message for an error of load."""
    reason = "%s: %s" % (error.filename, error.strerror) if error.filename else str(error)
    return "cannot cache the collection's code on this host: %s" % reason


def _unused(base: str) -> list[str]:
    """Return the code bundles that no run has used for a day, the last used first.

    Other runs may be using any of the rest.
    """
    found = []
    for entry in os.scandir(base):
        with contextlib.suppress(FileNotFoundError):  # another run removes them, too
            if entry.name.startswith("bundle-") and entry.stat().st_mtime < time.time() - _DAY:
                found.append((entry.stat().st_mtime, entry.path))
    return [path for _time, path in sorted(found, reverse=True)]


def _unpack(archive: str | IO[bytes], folder: str) -> None:
    """Unpack and compile an archive into a folder that appears only when it is complete."""
    # Only the first run of a version needs these modules.
    import compileall
    import shutil
    import tempfile
    import zipfile

    base = os.path.dirname(folder)
    os.makedirs(base, mode=0o700, exist_ok=True)
    remove_strays(base)
    for path in _unused(base)[_MAX_UNUSED:]:
        shutil.rmtree(path, ignore_errors=True)
    temporary = tempfile.mkdtemp(prefix=".", dir=base)
    try:
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(temporary)
        compileall.compile_dir(temporary, quiet=2)
        os.rename(temporary, folder)
    except (OSError, zipfile.BadZipFile):
        shutil.rmtree(temporary, ignore_errors=True)
        # Another run may have been faster.
        if not os.path.isdir(folder):
            raise
