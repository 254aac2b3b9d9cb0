# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A copy of the running code on this host, for programs that start without Ansible.

The code comes from wherever this process has it: Ansible's archive of a module, a code bundle, or
the collection itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import zipimport

PACKAGE = "ansible_collections.vlab.qemu.plugins.module_utils"
_PREFIX = PACKAGE.replace(".", "/") + "/"


def keep(folder: str) -> None:
    """Make folder a copy of the code, so that `import ansible_collections...` works below it.

    It stays as it is if it has the same code, and more. Raises OSError.
    """
    files = _sources()
    if all(_has(os.path.join(folder, name), content) for name, content in files.items()):
        return
    base = os.path.dirname(folder)
    os.makedirs(base, mode=0o700, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=".new-", dir=base)
    try:
        for name, content in files.items():
            path = os.path.join(temporary, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as stream:
                stream.write(content)
        if os.path.isdir(folder):
            # Between the two renames, a start would fail: the host boots in this moment.
            os.rename(folder, temporary + ".old")
        os.rename(temporary, folder)
    finally:
        for path in (temporary, temporary + ".old"):
            shutil.rmtree(path, ignore_errors=True)


def _has(path: str, content: bytes) -> bool:
    with contextlib.suppress(OSError), open(path, "rb") as stream:
        return stream.read() == content
    return False


def _sources() -> dict[str, bytes]:
    """Return the modules of the collection: {path below the import folder: text}."""
    import zipfile  # most runs keep no code

    found: dict[str, bytes] = {}
    for archive in _archives():
        with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(archive) as opened:
            found.update(
                (name, opened.read(name))
                for name in opened.namelist()
                if name.startswith(_PREFIX) and name.endswith(".py")
            )
    for root in sys.modules[PACKAGE].__path__:
        for path, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in names:
                if name.endswith(".py"):
                    full = os.path.join(path, name)
                    with open(full, "rb") as stream:
                        found[_PREFIX + os.path.relpath(full, root)] = stream.read()
    return found


def _archives() -> set[str]:
    """Return the archives that this process imports from, such as the one that Ansible made."""
    finders = sys.path_importer_cache.values()
    return {finder.archive for finder in finders if isinstance(finder, zipimport.zipimporter)}
