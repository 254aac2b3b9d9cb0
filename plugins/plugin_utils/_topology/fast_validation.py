# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Check quickly whether data is surely valid against a JSON schema.

Nearly all data is, and jsonschema, whose import takes longer than the rest, is not needed then.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Mapping
from typing import Any


def is_surely_valid(data: Any, schema: Mapping[str, Any]) -> bool:
    """Return True only if jsonschema would find no error.

    False means that data may be invalid, or that the schema has a keyword not supported here.
    """
    return all(
        key in _ANNOTATIONS or key in _CHECKS and _CHECKS[key](data, value, schema)
        for key, value in schema.items()
    )


_ANNOTATIONS = ("$schema", "title", "description")
_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda data: isinstance(data, dict),
    "array": lambda data: isinstance(data, list),
    "string": lambda data: isinstance(data, str),
    "boolean": lambda data: isinstance(data, bool),
    "null": lambda data: data is None,
    "number": lambda data: isinstance(data, numbers.Number) and not isinstance(data, bool),
    "integer": lambda data: (
        isinstance(data, int)
        and not isinstance(data, bool)
        or isinstance(data, float)
        and data.is_integer()
    ),
}


# Each check takes the data, the value of its keyword, and the schema that has the keyword.


def _type(data: Any, value: Any, schema: Mapping[str, Any]) -> bool:
    return any(_TYPES[name](data) for name in ([value] if isinstance(value, str) else value))


def _properties(data: Any, value: Any, schema: Mapping[str, Any]) -> bool:
    return not isinstance(data, dict) or all(
        is_surely_valid(data[name], inner) for name, inner in value.items() if name in data
    )


def _additional_properties(data: Any, value: Any, schema: Mapping[str, Any]) -> bool:
    if not isinstance(data, dict):
        return True
    others = [inner for name, inner in data.items() if name not in schema.get("properties", ())]
    return (
        not others
        if value is False
        else isinstance(value, dict) and all(is_surely_valid(inner, value) for inner in others)
    )


def _property_names(data: Any, value: Any, schema: Mapping[str, Any]) -> bool:
    return not isinstance(data, dict) or all(is_surely_valid(name, value) for name in data)


def _one_of(data: Any, value: Any, schema: Mapping[str, Any]) -> bool:
    # Exactly one must match, which is sure if the others are of another type.
    candidates = [
        inner for inner in value if "type" not in inner or _type(data, inner["type"], inner)
    ]
    return len(candidates) == 1 and is_surely_valid(data, candidates[0])


_CHECKS: dict[str, Callable[[Any, Any, Mapping[str, Any]], bool]] = {
    "type": _type,
    "properties": _properties,
    "additionalProperties": _additional_properties,
    "propertyNames": _property_names,
    "oneOf": _one_of,
    "required": lambda data, value, schema: (
        not isinstance(data, dict) or all(name in data for name in value)
    ),
    "items": lambda data, value, schema: (
        not isinstance(data, list) or all(is_surely_valid(item, value) for item in data)
    ),
    "enum": lambda data, value, schema: any(
        choice == data and isinstance(choice, bool) == isinstance(data, bool) for choice in value
    ),
    "pattern": lambda data, value, schema: (
        not isinstance(data, str) or re.search(value, data) is not None
    ),
    "maxLength": lambda data, value, schema: not isinstance(data, str) or len(data) <= value,
    "minItems": lambda data, value, schema: not isinstance(data, list) or len(data) >= value,
    "maxItems": lambda data, value, schema: not isinstance(data, list) or len(data) <= value,
    "minProperties": lambda data, value, schema: not isinstance(data, dict) or len(data) >= value,
    "maxProperties": lambda data, value, schema: not isinstance(data, dict) or len(data) <= value,
    "minimum": lambda data, value, schema: not _TYPES["number"](data) or data >= value,
    "maximum": lambda data, value, schema: not _TYPES["number"](data) or data <= value,
}
