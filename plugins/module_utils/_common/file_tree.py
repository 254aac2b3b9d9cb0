# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Turn named contents, {"a/b.txt": bytes}, into a tree of folders, for images of file systems."""

from __future__ import annotations

from typing import Dict, Union

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError

FileTree = Dict[str, Union[bytes, "FileTree"]]  # names of files and folders -> their content


def file_tree(option: str, files: dict[str, bytes], longest: int, forbidden: str) -> FileTree:
    """Return nested dicts of name -> bytes (a file) or dict (a folder).

    longest: characters in one name. forbidden: characters that no name may have, besides control
    characters and those that need two UTF-16 units. Names that differ only in case are refused:
    readers, also Linux, mistake one for the other.
    Raises OptionError, naming option and file.
    """
    root: FileTree = {}
    for path in sorted(files):
        folder = root
        *parents, name = path.split("/")
        for part in parents + [name]:
            _check_name(option, path, part, longest, forbidden)
        for part in parents:
            _check_case(option, path, part, folder)
            inner = folder.setdefault(part, {})
            if isinstance(inner, bytes):
                raise OptionError(option, "%r: %s is a file and a folder" % (path, part))
            folder = inner
        _check_case(option, path, name, folder)
        folder[name] = files[path]
    return root


def _check_case(option: str, path: str, name: str, folder: FileTree) -> None:
    for other in folder:
        if other != name and other.lower() == name.lower():
            raise OptionError(
                option,
                "%r: %s and %s differ only in case: this file system ignores case"
                % (path, name, other),
            )


def _check_name(option: str, path: str, name: str, longest: int, forbidden: str) -> None:
    if name in ("", ".", ".."):
        raise OptionError(
            option, "%r is not a name for a file: give a relative path such as folder/file" % path
        )
    if len(name) > longest:
        raise OptionError(
            option,
            "%r: %s is longer than the %d characters that this file system can hold"
            % (path, name, longest),
        )
    wrong = [
        character
        for character in name
        if character in forbidden
        or not " " <= character <= "\uffff"
        or "\ud800" <= character < "\ue000"
    ]
    if wrong or name.endswith((".", " ")):
        raise OptionError(
            option,
            "%r: this file system cannot hold %r in a name"
            % (path, wrong[0] if wrong else name[-1] + " at the end"),
        )
