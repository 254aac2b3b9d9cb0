# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The one rule for paths that a user gives: absolute, or relative to a folder that is known.

The current folder of a module depends on the connection, so that a path relative to it would be
another one with each.
"""

from __future__ import annotations

import os
import re

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import shown

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def absolute_path(option: str, value: str, folder: str | None = None) -> str:
    """Return a path of this host as an absolute one. Raises OptionError for what is no path.

    folder: what a relative path is relative to; None if the option must be absolute. ~ and ~USER
    are home folders of this host.
    """
    if "\0" in value:
        raise OptionError(option, "%s has a NUL character" % shown(value))
    if not value.strip():
        raise OptionError(option, "%s is no path: it is empty" % shown(value))
    if value.strip("\r\n") != value:
        raise OptionError(option, "%s begins or ends with a line break" % shown(value))
    if _URL.match(value):
        raise OptionError(
            option,
            "%s is a URL, not a path of the hypervisor: download it first, for example with "
            "ansible.builtin.get_url" % shown(value),
        )
    expanded = os.path.expanduser(value)
    if expanded.startswith("~"):
        raise OptionError(
            option,
            "%s is the home folder of a user that this host does not have; for a name that begins"
            " with ~, give an absolute path" % shown(value),
        )
    if not os.path.isabs(expanded):
        if folder is None:
            raise OptionError(option, "%s is a relative path: give an absolute one" % shown(value))
        expanded = os.path.join(folder, expanded)
    return os.path.abspath(expanded)
