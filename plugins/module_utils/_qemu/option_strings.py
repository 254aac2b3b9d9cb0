# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""How QEMU wants values spelled: the only place that knows.

Option strings are key=value lists in which a comma is written twice (QEMU documentation, "Invocation"). JSON is used where
every version has it (-blockdev). A device or backend is a dict with real booleans and numbers: device_add and netdev_add
refuse strings in their place since QEMU 9.2 and 5.2.
"""

from __future__ import annotations

import json
import re

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError

# Properties of devices, machines, SMBIOS tables and image formats: nothing that would end the key within an option string.
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\[\]-]*")


def keyval(head, properties):
    """One option string from a dict: head first, then key=value; None is left out, a list repeats its key, a dict gets dots."""
    words = [escape(head)] if head else []
    for key, value in properties.items():
        words.extend("%s=%s" % (name, escape(text)) for name, text in _flat(key, value))
    return ",".join(words)


def _flat(key, value):
    if value is None:
        return
    if isinstance(value, dict):
        for inner, content in value.items():
            # QMP wraps the items of a list of strings in {"str": ...}; an option string repeats the key.
            yield from _flat(key if inner == "str" else "%s.%s" % (key, inner), content)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _flat(key, item)
    elif isinstance(value, bool):
        yield key, "on" if value else "off"
    else:
        yield key, str(value)


def escape(text):
    """Text as a value within an option string."""
    return str(text).replace(",", ",,")


def check_properties(path, properties, ours=(), nested=True):
    """Check the keys and values of a dict that the user gives for an option string. Raises OptionError.

    ours: keys that we set ourselves. nested: values may be lists and dicts, too.
    """
    for key, value in properties.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise OptionError(path, "%r cannot be the name of a property" % (key,))
        if key in ours:
            raise OptionError("%s.%s" % (path, key), "it is set by the module itself")
        items = value if nested and isinstance(value, list) else [value]
        if nested and isinstance(value, dict):
            check_properties("%s.%s" % (path, key), value)
        elif not all(item is None or isinstance(item, (str, bool, int, float)) for item in items):
            raise OptionError(
                "%s.%s" % (path, key), "%r cannot be the value of a property" % (value,)
            )


def device(properties):
    """The -device words of a dict as device_add takes it: {"driver": ..., "id": ..., ...}."""
    rest = {key: value for key, value in properties.items() if key != "driver"}
    return ["-device", keyval(properties["driver"], rest)]


def netdev(properties):
    """The -netdev words of a dict as netdev_add takes it."""
    rest = {key: value for key, value in properties.items() if key != "type"}
    return ["-netdev", keyval(properties["type"], rest)]


def qom_object(properties):
    """The -object words of a dict as object-add takes it since QEMU 6.0: {"qom-type": ..., "id": ..., ...}."""
    rest = {key: value for key, value in properties.items() if key != "qom-type"}
    return ["-object", keyval(properties["qom-type"], rest)]


def object_add(properties, flat):
    """The arguments of object-add; flat: QEMU 6.0 and later, before that the properties sit in props."""
    if flat:
        return properties
    rest = {key: value for key, value in properties.items() if key not in ("qom-type", "id")}
    return {"qom-type": properties["qom-type"], "id": properties["id"], "props": rest}


def blockdev(properties):
    """The -blockdev words of a block node, in JSON."""
    return ["-blockdev", json.dumps(properties, sort_keys=True)]
