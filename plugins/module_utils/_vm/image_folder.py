# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The folder in which relative paths of images are looked up."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Collection, Mapping

from ansible_collections.vlab.qemu.plugins.module_utils._common.paths import absolute_path
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params

_NAME = "images"
# {option: the suboptions of its items that are paths of images; none if the option itself is one}
_OPTIONS: dict[str, list[str]] = {}
for _entry in (entry for part in PARTS for entry in part.image_options):
    _option, _dot, _suboption = _entry.partition(".")
    _OPTIONS.setdefault(_option, []).extend([_suboption] if _dot else [])


def image_folder(root: str, given: str | None) -> str:
    """Return the folder of images. root: the folder of all labs. given: the option image_dir."""
    return absolute_path("image_dir", given) if given else os.path.join(root, _NAME)


def with_image_paths(params: Mapping[str, Any], folder: str) -> Params:
    """Return options of qemu_vm with the absolute paths of images. Raises OptionError.

    Values of another type than a path are left to the checks of their parts.
    """
    absolute = dict(params)
    for option, suboptions in _OPTIONS.items():
        value = params.get(option)
        if isinstance(value, list):
            absolute[option] = [
                _item("%s[%s]" % (option, item.get("name", number)), item, suboptions, folder)
                if isinstance(item, dict)
                else item
                for number, item in enumerate(value)
            ]
        elif not suboptions:
            absolute[option] = _path(option, value, folder)
    return {key: value for key, value in absolute.items() if key in params}


def with_absolute(item: Mapping[str, Any], names: Collection[str], folder: str) -> Params:
    """Return options with the absolute paths of the named ones, which are images."""
    return _item("", item, names, folder)


def _item(path: str, item: Mapping[str, Any], names: Collection[str], folder: str) -> Params:
    prefix = path + "." if path else ""
    return {
        key: _path(prefix + key, value, folder) if key in names else value
        for key, value in item.items()
    }


def _path(option: str, value: Any, folder: str) -> Any:
    """Return the path of an image; an empty text restores the default."""
    is_path = isinstance(value, str) and value != ""
    return absolute_path(option, value, folder) if is_path else value
