# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Read YAML files of plain data: topologies and kinds."""

from __future__ import annotations

import re
from typing import IO, Any

import yaml


_MAX_DIGITS = 66  # 64 bits in binary, with 0b


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # dynamic base
    """The safe loader, libyaml's if available, which also rejects duplicate keys and huge numbers.

    YAML itself would silently use the last value of a key. Python refuses to convert a number of
    thousands of digits to text or back, which would fail somewhere else.
    """

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return the number of a scalar node. Raise ConstructorError for one of over 64 bits."""
        if len(node.value) > _MAX_DIGITS:
            raise yaml.constructor.ConstructorError(
                None, None, "found a number of %d digits" % len(node.value), node.start_mark
            )
        number: int = super().construct_yaml_int(node)
        return number

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the dict of a mapping node. Raise ConstructorError for a duplicate key."""
        keys = set()
        for key, _value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in keys:
                    raise yaml.constructor.ConstructorError(
                        "while constructing a mapping",
                        node.start_mark,
                        "found duplicate key %s" % key.value,
                        key.start_mark,
                    )
                keys.add((key.tag, key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def load_yaml(stream: IO[str]) -> Any:
    """Read one document.

    Raise yaml.YAMLError if it is invalid, has a duplicate key or a huge number, or is not UTF-8.
    """
    try:
        return yaml.load(stream, Loader=_Loader)
    except UnicodeDecodeError:
        raise yaml.YAMLError("its text is not UTF-8") from None


def mapping_in(text: str) -> dict[str, Any] | None:
    """Return the mapping that a text is in YAML, None for other text, such as a path.

    Raises yaml.YAMLError for text of several lines or in braces that is not YAML.
    """
    if not re.search(r"\n|^\s*{|:\s|:$", text):
        return None
    try:
        found = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        if "\n" in text.strip() or text.lstrip().startswith("{"):
            raise
        return None
    return found if isinstance(found, dict) else None
