# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Importing this room makes the others load faster.

Ansible ships a module and its rooms as an archive, and Python compiles what it imports from an archive anew on every run: for
this collection that takes longer than its work on a VM that needs none. So the compiled code is kept on the hypervisor, as
Python itself does for files, and found again by the checksums in the archive. Anything unusual, and Python's own way is taken.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.machinery
import marshal
import os
import stat
import sys
import tempfile
import zipfile
import zipimport

_PREFIXES = ("ansible.module_utils", "ansible_collections.vlab.qemu.plugins.module_utils")
_MOST = 24  # files: one for each module and version in use


class Finder:
    """Finds modules in kept code, and keeps that of those it has to compile.

    kept: {name: (what the code depends on, code)}. path: of the file that keeps it.
    """

    def __init__(self, path):
        self.path, self.kept, self.is_new = path, load(path), False

    def keep(self, name, condition, code):
        """Remember the code of a module."""
        self.kept[name] = condition, code
        self.is_new = True

    @staticmethod
    def create_module(spec):
        """None: Python's usual module object will do."""

    def exec_module(self, module):
        """Run the code of a module."""
        exec(self.kept[module.__name__][1], module.__dict__)  # pylint: disable=exec-used

    def save(self):
        """Keep what this run had to compile. Where that cannot be, the next run compiles again."""
        if not self.is_new:
            return
        self.is_new = False
        folder = os.path.dirname(self.path)
        with contextlib.suppress(OSError, ValueError):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            old = sorted(
                (entry.stat().st_mtime, entry.path)
                for entry in os.scandir(folder)
                if entry.name.startswith("code-")
            )
            for _age, path in old[: max(0, len(old) - _MOST)]:
                os.unlink(path)
            handle, temporary = tempfile.mkstemp(prefix=".", dir=folder)
            with os.fdopen(handle, "wb") as stream:
                stream.write(marshal.dumps(self.kept))
            os.replace(temporary, self.path)


class _ArchiveFinder(Finder):
    """Finds Ansible's and our modules in an archive: it is kept whether each is a package."""

    def __init__(self, archive):
        with zipfile.ZipFile(archive) as opened:
            words = sorted("%s %x" % (entry.filename, entry.CRC) for entry in opened.infolist())
        super().__init__(file_for(words))
        self.archive = archive

    def find_spec(self, name, path=None, target=None):
        """A spec for one of Ansible's and our modules; for any other None, so that the next finder is asked."""
        if (
            not name.startswith(_PREFIXES)
            or name not in self.kept
            and not self._compile(name, path)
        ):
            return None
        is_package = self.kept[name][0]
        spec = importlib.machinery.ModuleSpec(name, self, is_package=is_package)
        if is_package:
            spec.submodule_search_locations = [os.path.join(self.archive, *name.split("."))]
        return spec

    def _compile(self, name, path):
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if (
            spec is None
            or not isinstance(spec.loader, zipimport.zipimporter)
            or spec.loader.archive != self.archive
        ):
            return False
        self.keep(name, spec.submodule_search_locations is not None, spec.loader.get_code(name))
        return True


def file_for(words):
    """Where code is kept: named by what tells it from other code, and by the Python that compiles it."""
    mark = hashlib.sha256("\n".join(words + [sys.version]).encode("utf-8")).hexdigest()[:20]
    folder = (
        "/var/cache/vlab"
        if os.geteuid() == 0
        else os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vlab"
        )
    )
    return os.path.join(folder, "code-%s" % mark)


def load(path):
    """What is kept at path; nothing when somebody else could have written it."""
    for place in (os.path.dirname(path), path):
        try:
            state = os.lstat(place)
        except FileNotFoundError:
            return {}
        if (
            state.st_uid != os.geteuid()
            or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            or stat.S_ISLNK(state.st_mode)
        ):
            raise PermissionError(place)
    with open(path, "rb") as stream:
        return marshal.loads(stream.read())


def install(make):
    """Ask the finder that make returns first from now on."""
    with contextlib.suppress(OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile):
        finder = make()
        sys.meta_path.insert(0, finder)
        atexit.register(finder.save)


_ARCHIVE = getattr(__spec__.loader, "archive", None)
if _ARCHIVE:
    install(lambda: _ArchiveFinder(_ARCHIVE))
