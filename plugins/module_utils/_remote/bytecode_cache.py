# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A cache of the bytecode of Ansible modules. Importing this module activates it.

Ansible ships a module and its module_utils as a zip archive. Python compiles what it imports from
an archive again in each process, which takes longer than a run that changes nothing. This cache
keeps the bytecode on the host, as Python does for files, under a digest of the archive's checksums.
On any error, Python imports as usual.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import importlib.machinery
import marshal
import os
import sys
import tempfile
import zipfile
import zipimport
from types import CodeType, ModuleType
from typing import Any, Callable, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._remote.cache_folder import (
    cache_folder,
    check_owner,
    remove_strays,
)

_PREFIXES = ("ansible.module_utils", "ansible_collections.vlab.qemu.plugins.module_utils")
_MAX_FILES = 24  # one file for each module and version in use


class CachingFinder:
    """Finds modules in the cache, and adds the bytecode of those that it has to compile.

    path: the cache file. entries: {module name: (what the bytecode depends on, bytecode)}.
    """

    def __init__(self, path: str) -> None:
        self.path, self.changed = path, False
        self.entries: dict[str, tuple[Any, CodeType]] = _read(path)

    def add(self, name: str, condition: object, code: CodeType) -> None:
        """Add the bytecode of a module."""
        self.entries[name] = condition, code
        self.changed = True

    @staticmethod
    def create_module(spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Return None, which makes Python create the module object."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the bytecode of a module."""
        exec(self.entries[module.__name__][1], module.__dict__)  # pylint: disable=exec-used

    def save(self) -> None:
        """Write the cache file if bytecode was added. If it fails, the next run compiles again."""
        if not self.changed:
            return
        self.changed = False
        folder = os.path.dirname(self.path)
        with contextlib.suppress(OSError, ValueError):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            old = sorted(
                (entry.stat().st_mtime, entry.path)
                for entry in os.scandir(folder)
                if entry.name.startswith("bytecode-")
            )
            for _time, path in old[: max(0, len(old) - _MAX_FILES)]:
                os.unlink(path)
            remove_strays(folder)
            handle, temporary = tempfile.mkstemp(prefix=".", dir=folder)
            with os.fdopen(handle, "wb") as stream:
                stream.write(marshal.dumps(self.entries))
            os.replace(temporary, self.path)


class _ArchiveFinder(CachingFinder):
    """Finds modules of Ansible and of this collection in an archive.

    The condition of an entry is whether the module is a package.
    """

    def __init__(self, archive: str) -> None:
        with zipfile.ZipFile(archive) as opened:
            # Without sitecustomize.py: it contains the path of the archive, which is always new.
            checksums = sorted(
                "%s %x" % (entry.filename, entry.CRC)
                for entry in opened.infolist()
                if entry.filename.replace("/", ".").startswith(_PREFIXES)
            )
        super().__init__(cache_file(checksums))
        self.archive = archive

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module of the archive; None for others, left to the next finder."""
        if not name.startswith(_PREFIXES):
            return None
        if name not in self.entries and not self._compile(name, path):
            return None
        is_package = self.entries[name][0]
        # A finder of this class has the methods of a loader that Python calls.
        loader: Any = self
        spec = importlib.machinery.ModuleSpec(name, loader, is_package=is_package)
        if is_package:
            spec.submodule_search_locations = [os.path.join(self.archive, *name.split("."))]
        return spec

    def get_source(self, name: str) -> str | None:
        """Return the text of a module, as loaders do that support it."""
        with zipfile.ZipFile(self.archive) as opened:
            return opened.read(name.replace(".", "/") + ".py").decode("utf-8")

    def _compile(self, name: str, path: Sequence[str] | None) -> bool:
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or not isinstance(spec.loader, zipimport.zipimporter):
            return False
        if spec.loader.archive != self.archive:
            return False
        code = spec.loader.get_code(name)
        self.add(name, spec.submodule_search_locations is not None, code)
        return True


def cache_file(parts: Sequence[str]) -> str:
    """Return the path of a cache file. parts: what identifies the code, besides the Python."""
    digest = hashlib.sha256("\n".join([*parts, sys.version]).encode("utf-8")).hexdigest()[:20]
    return os.path.join(cache_folder(), "bytecode-" + digest)


def _read(path: str) -> dict[str, tuple[Any, CodeType]]:
    """Return the entries of a cache file, none of one with another content.

    Raises PermissionError if another user could write it.
    """
    try:
        check_owner(path)
    except FileNotFoundError:
        return {}
    with open(path, "rb") as stream:
        entries = marshal.loads(stream.read())
    return entries if _is_valid(entries) else {}


def _is_valid(entries: Any) -> bool:
    """Return whether what marshal has read are entries of a cache file."""
    return isinstance(entries, dict) and all(
        isinstance(name, str)
        and isinstance(entry, tuple)
        and len(entry) == 2
        and isinstance(entry[1], CodeType)
        for name, entry in entries.items()
    )


def install(make_finder: Callable[[], Any], index: int = 0) -> None:
    """Make Python ask a CachingFinder before the finder at an index of sys.meta_path."""
    with contextlib.suppress(OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile):
        finder = make_finder()
        sys.meta_path.insert(index, finder)
        atexit.register(finder.save)


_loader = __spec__.loader if __spec__ else None
if isinstance(_loader, zipimport.zipimporter):
    install(functools.partial(_ArchiveFinder, _loader.archive))
