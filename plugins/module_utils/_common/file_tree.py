# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Named contents, {"a/b.txt": bytes}, as a tree of folders, for the makers of file systems."""

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError


def file_tree(option, files, longest, forbidden):
    """Nested dicts of name -> dict (a folder) or bytes.

    longest: UTF-16 characters in one name. forbidden: characters that no name may have, besides control characters and
    those beyond the first 65536. Names that differ only in case are refused: readers, Linux too, find one for the other.
    Raises OptionError naming option and file.
    """
    root = {}
    for path in sorted(files):
        folder = root
        *parents, name = path.split("/")
        for part in parents + [name]:
            _check(option, path, part, longest, forbidden)
        for part in parents:
            _unlike_others(option, path, part, folder)
            folder = folder.setdefault(part, {})
            if not isinstance(folder, dict):
                raise OptionError(option, "%r: %s is a file and a folder" % (path, part))
        _unlike_others(option, path, name, folder)
        folder[name] = files[path]
    return root


def _unlike_others(option, path, name, folder):
    for known in folder:
        if known != name and known.lower() == name.lower():
            raise OptionError(
                option,
                "%r: %s and %s differ only in case: this file system cannot tell them apart"
                % (path, name, known),
            )


def _check(option, path, name, longest, forbidden):
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
