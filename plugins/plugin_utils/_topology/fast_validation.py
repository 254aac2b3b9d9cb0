# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Whether data surely fits a JSON schema: nearly always it does, and then nobody needs jsonschema, whose import takes longest of all."""

from __future__ import annotations

import numbers
import re


def is_surely_valid(data, schema):
    """True only when jsonschema would find no mistake. What is not known here, or may be a mistake, is left to jsonschema."""
    return all(
        key in _SAYS_NOTHING or key in _CHECKS and _CHECKS[key](data, asked, schema)
        for key, asked in schema.items()
    )


_SAYS_NOTHING = ("$schema", "title", "description")
_TYPES = {
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


def _type(data, asked, schema):
    return any(_TYPES[name](data) for name in ([asked] if isinstance(asked, str) else asked))


def _properties(data, asked, schema):
    return not isinstance(data, dict) or all(
        is_surely_valid(data[name], inner) for name, inner in asked.items() if name in data
    )


def _additional(data, asked, schema):
    if not isinstance(data, dict):
        return True
    more = [value for name, value in data.items() if name not in schema.get("properties", ())]
    return (
        not more
        if asked is False
        else isinstance(asked, dict) and all(is_surely_valid(value, asked) for value in more)
    )


def _names(data, asked, schema):
    return not isinstance(data, dict) or all(is_surely_valid(name, asked) for name in data)


def _one_of(data, asked, schema):
    # Exactly one must fit: the others do not when they are of another type.
    candidates = [
        inner for inner in asked if "type" not in inner or _type(data, inner["type"], inner)
    ]
    return len(candidates) == 1 and is_surely_valid(data, candidates[0])


_CHECKS = {
    "type": _type,
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": _names,
    "oneOf": _one_of,
    "required": lambda data, asked, schema: (
        not isinstance(data, dict) or all(name in data for name in asked)
    ),
    "items": lambda data, asked, schema: (
        not isinstance(data, list) or all(is_surely_valid(value, asked) for value in data)
    ),
    "enum": lambda data, asked, schema: any(
        value == data and isinstance(value, bool) == isinstance(data, bool) for value in asked
    ),
    "pattern": lambda data, asked, schema: (
        not isinstance(data, str) or re.search(asked, data) is not None
    ),
    "maxLength": lambda data, asked, schema: not isinstance(data, str) or len(data) <= asked,
    "minItems": lambda data, asked, schema: not isinstance(data, list) or len(data) >= asked,
    "maxItems": lambda data, asked, schema: not isinstance(data, list) or len(data) <= asked,
    "minProperties": lambda data, asked, schema: not isinstance(data, dict) or len(data) >= asked,
    "minimum": lambda data, asked, schema: not _TYPES["number"](data) or data >= asked,
    "maximum": lambda data, asked, schema: not _TYPES["number"](data) or data <= asked,
}
