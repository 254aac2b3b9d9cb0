# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Check the data of a topology against the schema and explain what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import (
    shown,
    suggestion,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.fast_validation import (
    is_surely_valid,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.libraries import jsonschema
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.schema import (
    NAME_RULES,
    Schema,
    topology_schema,
)

if TYPE_CHECKING:
    from jsonschema import ValidationError

# The keys and indexes that lead to a value. Keys are strings unless the data is wrong.
_Path = tuple[Any, ...]

# Stands for a removed item of a list whose indexes appear in messages.
REMOVED = object()
_LISTS_WITH_INDEXES = ("links", "endpoints", "members")
_MAX_MESSAGE = 200
_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "empty",
}


def valid_part(
    data: dict[str, Any], problems: Problems, schema: Schema | None = None
) -> dict[str, Any]:
    """Record what is wrong with data, and return a copy without it for further checks.

    schema: of a topology by default.
    """
    invalid: set[_Path] = set()
    schema = schema or topology_schema()
    if not is_surely_valid(data, schema):
        errors = jsonschema.Draft202012Validator(schema).iter_errors(data)
        # jsonschema keeps names in sets: without this, each run has another order.
        for error in sorted(errors, key=lambda found: _position(data, found.absolute_path)):
            _report(error, problems, invalid)
    part: dict[str, Any] = _without(data, (), invalid)
    return part


def _position(data: Any, path: Iterable[Any]) -> list[int]:
    """Return where in data a value is: the number of the item on each level."""
    position = []
    for key in path:
        position.append(list(data).index(key) if isinstance(data, dict) else key)
        data = data[key]
    return position


def _without(data: Any, path: _Path, invalid: set[_Path]) -> Any:
    """Return a copy of data without the values at invalid paths."""
    if isinstance(data, dict):
        kept: dict[Any, Any] = {}
        for key, value in data.items():
            inner = path + (key,)
            if inner not in invalid:
                kept[key] = _without(value, inner, invalid)
            elif path == ("nodes",) and isinstance(key, str) and key:
                # An invalid node still exists: links to it are valid.
                kept[key] = None
        return kept
    if isinstance(data, list):
        items = [
            REMOVED if path + (number,) in invalid else _without(value, path + (number,), invalid)
            for number, value in enumerate(data)
        ]
        if path and path[-1] in _LISTS_WITH_INDEXES:
            return items
        return [item for item in items if item is not REMOVED]
    return data


def _report(error: ValidationError, problems: Problems, invalid: set[_Path]) -> None:
    """Record an error of jsonschema as problems and as paths of invalid values."""
    path = tuple(error.absolute_path)
    if error.validator == "oneOf" and error.context:
        # Of several forms, the one with the type of the value is meant.
        meant = [
            inner
            for inner in error.context
            if inner.validator != "type" or len(inner.absolute_path) > len(path)
        ]
        for inner in meant:
            _report(inner, problems, invalid)
        if meant:
            return
    if error.validator == "additionalProperties" and "properties" in error.schema:
        for name in sorted(set(error.instance) - set(error.schema["properties"]), key=str):
            hint = suggestion(name, error.schema["properties"])
            problems.add(option_path(path + (name,)), "there is no such setting%s", hint)
            invalid.add(path + (name,))
        return
    if "propertyNames" in list(error.relative_schema_path)[-2:]:
        path += (error.instance,)
    problems.add(option_path(path) or "the topology", "%s", _message(error))
    invalid.add(path)


def _message(error: ValidationError) -> str:
    """Return what is wrong with a value, in one line."""
    value = _shown(error.instance)
    if error.validator == "oneOf" and error.context:
        types = [inner.validator_value for inner in error.context if inner.validator == "type"]
        return "%s is not valid here: it must be %s" % (value, _type_names(types))
    if error.validator == "type":
        if "propertyNames" in list(error.relative_schema_path)[-2:]:
            return "%s is not a valid name: put it in quotes" % value
        types = error.validator_value
        return "%s is not %s" % (value, _type_names([types] if isinstance(types, str) else types))
    if error.validator in ("pattern", "maxLength"):
        return "%s is not a valid name: %s" % (value, NAME_RULES[error.schema["pattern"]])
    if error.validator == "enum":
        choices = error.validator_value
        hint = suggestion(error.instance, filter(_is_string, choices))
        return "%s is not one of %s%s" % (value, ", ".join(map(str, choices)), hint)
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        return "%s %s missing" % (" and ".join(missing), "is" if len(missing) == 1 else "are")
    if error.validator in ("minItems", "maxItems"):
        most = "least" if error.validator == "minItems" else "most"
        return "%s is not a list of at %s %d entries" % (value, most, error.validator_value)
    message: str = error.message
    if len(message) < _MAX_MESSAGE:
        return message
    return message[:120] + " ... " + message[-70:]


def _type_names(types: Iterable[str]) -> str:
    return " or ".join(_TYPES.get(name, str(name)) for name in types)


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _shown(value: Any) -> str:
    """Return a value for a message, in at most a line."""
    if not isinstance(value, str):
        return shown(value)
    text = repr(value) if value.isprintable() else ascii(value)
    return text if len(text) < 80 else text[:60] + " ... " + text[-10:]


def option_path(path: _Path) -> str:
    """Return a path of keys and indexes as text, such as links[2].endpoints[0]."""
    text = ""
    for part in path:
        if isinstance(part, int) and not isinstance(part, bool):
            text += "[%d]" % part
        else:
            text += ("." if text else "") + (
                part if isinstance(part, str) and part and part.isprintable() else ascii(part)
            )
    return text
