# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Makes our rooms load faster: Ansible compiles those of a collection anew in each process, here the code is kept."""

from __future__ import annotations

import importlib.util
import os
import sys

from ansible_collections.vlab.qemu.plugins.module_utils._common.compiled import (
    Finder,
    file_for,
    install,
)

_PACKAGE = "ansible_collections.vlab.qemu.plugins."
_PREFIXES = (_PACKAGE + "module_utils.", _PACKAGE + "plugin_utils.")
_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class _Finder(Finder):
    """Finds our rooms: of each file, its time and size are kept along, as Python itself does."""

    def find_spec(self, name, path=None, target=None):
        """A spec for one of our rooms; for any other, and for packages, None, so that Ansible's finder is asked."""
        if not name.startswith(_PREFIXES):
            return None
        source = os.path.join(_FOLDER, *name[len(_PACKAGE) :].split(".")) + ".py"
        try:
            state = os.stat(source)
            condition = state.st_mtime_ns, state.st_size
            if self.kept.get(name, (None,))[0] != condition:
                with open(source, "rb") as stream:
                    self.keep(
                        name, condition, compile(stream.read(), source, "exec", dont_inherit=True)
                    )
        except (OSError, SyntaxError):
            return None
        spec = importlib.util.spec_from_loader(name, self, origin=source)
        spec.has_location = True
        return spec


def use():
    """Load our rooms from kept code from now on, in this process."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        install(lambda: _Finder(file_for([_FOLDER])))
