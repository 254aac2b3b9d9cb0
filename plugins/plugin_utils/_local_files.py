# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Files of the controller that become the content of a seed or config drive."""

from __future__ import annotations

import base64
import os
from typing import Any, Callable

from ansible.errors import AnsibleActionFail, AnsibleError

# Searches the folders of the play and the role: called with "files" and a path.
Find = Callable[[str, str], str]


def is_source(value: Any) -> bool:
    """Whether the content of a file is {src: path}."""
    return isinstance(value, dict) and set(value) == {"src"}


def encoded(option: str, source: Any, find: Find) -> dict[str, str]:
    """Return the content of a file of the controller as {base64: text}.

    Raises AnsibleActionFail if it cannot be read.
    """
    try:
        path = find("files", os.path.expanduser(source))
        with open(path, "rb") as stream:
            return {"base64": base64.b64encode(stream.read()).decode("ascii")}
    except (AnsibleError, OSError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "there is no such file on the controller"
        raise AnsibleActionFail("%s: cannot read %r: %s" % (option, source, reason))


def with_files(args: dict[str, Any], find: Find) -> dict[str, Any]:
    """Return the options of qemu_vm with the content of each file in place of its path."""
    args = dict(args)
    seed = args.get("cloud_init")
    if isinstance(seed, dict):
        args["cloud_init"] = _read(seed, "cloud_init.%s", find)
    for option in ("config_drive", "tftp_files"):
        given = args.get(option)
        if isinstance(given, dict) and isinstance(given.get("files"), dict):
            files = _read(given["files"], option + ".files[%s]", find)
            args[option] = dict(given, files=files)
    return args


def _read(values: dict[str, Any], path: str, find: Find) -> dict[str, Any]:
    return {
        name: encoded(path % name, value["src"], find) if is_source(value) else value
        for name, value in values.items()
    }
