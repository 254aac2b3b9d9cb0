# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The syntax of QEMU's options. All option strings are made here.

They are key=value lists in which a comma is doubled (QEMU documentation, "Invocation"). JSON is
used where every version has it (-blockdev). A device or backend is a dict with real booleans and
numbers: device_add and netdev_add refuse strings instead since QEMU 9.2 and 5.2.
"""

from __future__ import annotations

import json
import re
from typing import Any, Collection, Iterator, Mapping

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import shown

# Properties of devices, machines, SMBIOS tables and image formats: no character ends the key.
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\[\]-]*")


def keyval(head: str | None, properties: Mapping[str, Any]) -> str:
    """Return one option string: head, then key=value.

    None is left out, a list repeats its key, the keys of a dict are joined by dots.
    """
    words = [escape(head)] if head else []
    for key, value in properties.items():
        words.extend("%s=%s" % (name, escape(text)) for name, text in _flatten(key, value))
    return ",".join(words)


def _flatten(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if isinstance(value, dict):
        for inner, content in value.items():
            # QMP wraps items of a list of strings in {"str": ...}; option strings repeat the key.
            yield from _flatten(key if inner == "str" else "%s.%s" % (key, inner), content)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _flatten(key, item)
    elif isinstance(value, bool):
        yield key, "on" if value else "off"
    else:
        yield key, str(value)


def parse_keyval(text: str, head: str) -> dict[str, str]:
    """Return the properties of an option string; head: the key of a first word without one.

    A later word without a value has the value on, as a switch.
    """
    properties: dict[str, str] = {}
    for number, word in enumerate(re.findall(r"(?:[^,]|,,)+", text)):
        key, equals, value = word.partition("=")
        if not equals and not number:
            key, value = head, word
        properties[key] = value.replace(",,", ",") if equals or not number else "on"
    return properties


def escape(text: object) -> str:
    """Return text as a value within an option string."""
    return str(text).replace(",", ",,")


def endpoint(address: str, port: int) -> str:
    """Return an IP address and a port as one value."""
    return "%s:%d" % ("[%s]" % address if ":" in address else address, port)


def check_properties(
    path: str, properties: Mapping[str, Any], reserved: Collection[str] = (), nested: bool = True
) -> None:
    """Check the keys and values of a dict from the user that goes into an option string.

    reserved: keys that the module sets itself. nested: values may also be lists and dicts.
    Raises OptionError.
    """
    for key, value in properties.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise OptionError(path, "%s cannot be the name of a property" % shown(key))
        if key in reserved:
            raise OptionError("%s.%s" % (path, key), "it is set by the module itself")
        items = value if nested and isinstance(value, list) else [value]
        if nested and isinstance(value, dict):
            check_properties("%s.%s" % (path, key), value)
        elif not all(item is None or isinstance(item, (str, bool, int, float)) for item in items):
            raise OptionError(
                "%s.%s" % (path, key), "%s cannot be the value of a property" % shown(value)
            )


def device(properties: Mapping[str, Any]) -> list[str]:
    """Return the -device words of a dict as device_add takes it: {"driver": ..., ...}."""
    return ["-device", _with_head("driver", properties)]


def netdev(properties: Mapping[str, Any]) -> list[str]:
    """Return the -netdev words of a dict as netdev_add takes it."""
    return ["-netdev", _with_head("type", properties)]


def qom_object(properties: Mapping[str, Any]) -> list[str]:
    """Return the -object words of a dict as object-add takes it since QEMU 6.0.

    Such as {"qom-type": ..., "id": ..., ...}.
    """
    return ["-object", _with_head("qom-type", properties)]


def _with_head(head: str, properties: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in properties.items() if key != head}
    return keyval(properties[head], rest)


def object_add(properties: dict[str, Any], flat: bool) -> dict[str, Any]:
    """Return the arguments of object-add.

    flat: for QEMU 6.0 and later; before that, the properties are in props.
    """
    if flat:
        return properties
    rest = {key: value for key, value in properties.items() if key not in ("qom-type", "id")}
    return {"qom-type": properties["qom-type"], "id": properties["id"], "props": rest}


def blockdev(properties: Mapping[str, Any]) -> list[str]:
    """Return the -blockdev words of a block node, in JSON."""
    return ["-blockdev", json.dumps(properties, sort_keys=True)]
