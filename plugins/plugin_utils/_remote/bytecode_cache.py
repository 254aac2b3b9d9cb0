# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The bytecode cache of the controller: Ansible compiles a collection again in each process."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._remote.bytecode_cache import (
    CachingFinder,
    cache_file,
    install,
)

_PACKAGE = "ansible_collections.vlab.qemu.plugins."
_PREFIXES = (_PACKAGE + "module_utils.", _PACKAGE + "plugin_utils.")
_ANSIBLE = "_AnsibleCollectionFinder"
_PLUGINS = os.path.abspath(__file__).rsplit(os.sep, 3)[0]


class _FileFinder(CachingFinder):
    """Finds modules of this collection.

    The condition of an entry is the time and size of the file, as in Python's own cache.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module of this collection.

        Return None for packages and everything else: Ansible's finder takes those.
        """
        if not name.startswith(_PREFIXES):
            return None
        source = _path(name)
        try:
            state = os.stat(source)
            condition = state.st_mtime_ns, state.st_size
            if name not in self.entries or self.entries[name][0] != condition:
                with open(source, "rb") as stream:
                    code = compile(stream.read(), source, "exec", dont_inherit=True)
                self.add(name, condition, code)
        except (OSError, SyntaxError):
            return None
        # A finder of this class has the methods of a loader that Python calls.
        loader: Any = self
        spec = importlib.util.spec_from_loader(name, loader, origin=source)
        if spec is not None:
            spec.has_location = True
        return spec

    @staticmethod
    def get_source(name: str) -> str:
        """Return the text of a module, as loaders do that support it."""
        with open(_path(name), encoding="utf-8") as stream:
            return stream.read()


def _path(name: str) -> str:
    return os.path.join(_PLUGINS, *name[len(_PACKAGE) :].split(".")) + ".py"


def activate() -> None:
    """Use the cache in this process from now on, before Ansible's own finder of collections."""
    if not any(isinstance(finder, _FileFinder) for finder in sys.meta_path):
        names = [type(finder).__name__ for finder in sys.meta_path]
        index = names.index(_ANSIBLE) if _ANSIBLE in names else 0
        install(lambda: _FileFinder(cache_file([_PLUGINS])), index)
