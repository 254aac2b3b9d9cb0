# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The options of each network backend of a QEMU binary, with their types."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import shown, suggestion
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binary_session import ask_binary
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import (
    binary_identity,
    cache_file,
    read_cached,
    write_cached,
)

# {backend: {option: string, int, boolean, array or object}}
NetdevOptions = Dict[str, Dict[str, str]]

_BOOLEANS = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}


def get_netdev_options(path: str, timeout: float = 30) -> NetdevOptions:
    """Return the options of the backends of the QEMU binary at path. Raises HostError.

    They are cached until the binary changes.
    """
    identity, file = binary_identity(path), cache_file(path, "netdev")
    found: NetdevOptions | None = read_cached(file, identity)
    if not isinstance(found, dict):
        found = ask_binary(path, lambda ask, _version: of_schema(ask("query-qmp-schema")), timeout)
        write_cached(file, identity, found)
    return found


def of_schema(schema: list[dict[str, Any]]) -> NetdevOptions:
    """Return the options that an answer to query-qmp-schema has."""
    types = {entry["name"]: entry for entry in schema}
    argument = types[types["netdev_add"]["arg-type"]]
    return {
        variant["case"]: {
            member["name"]: _kind(types[member["type"]])
            for member in types[variant["type"]].get("members", ())
        }
        for variant in argument.get("variants", ())
    }


def _kind(entry: dict[str, Any]) -> str:
    kind: str = entry.get("json-type") or entry["meta-type"]
    return "string" if kind == "enum" else kind


def typed(
    path: str, given: Mapping[str, Any], supported: Mapping[str, str], what: str
) -> dict[str, Any]:
    """Return options of a backend with the types that QEMU needs. Raises OptionError.

    path: of the options. supported: those of the backend. what: the backend, for messages.
    """
    result = {}
    for name, value in given.items():
        option = "%s.%s" % (path, name)
        if name not in supported:
            raise OptionError(
                option,
                "the backend %s of this QEMU has no such option%s"
                % (what, suggestion(name, supported) or "; it has " + ", ".join(sorted(supported))),
            )
        result[name] = _CONVERSIONS.get(supported[name], _same)(option, value)
    return result


def _string(option: str, value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (dict, list)):
        raise OptionError(option, "%s is not a text" % shown(value))
    return str(value)


def _int(option: str, value: Any) -> int:
    try:
        if isinstance(value, (int, str)) and not isinstance(value, bool):
            return int(value)
    except ValueError:
        pass
    raise OptionError(option, "%s is not a whole number" % shown(value))


def _boolean(option: str, value: Any) -> bool:
    found = value if isinstance(value, bool) else _BOOLEANS.get(str(value).lower())
    if found is None:
        raise OptionError(option, "%s is neither true nor false" % shown(value))
    return found


def _array(option: str, value: Any) -> list[Any]:
    """Return a list of texts as QMP has it."""
    items = value if isinstance(value, list) else [value]
    return [item if isinstance(item, dict) else {"str": _string(option, item)} for item in items]


def _same(option: str, value: Any) -> Any:
    return value


_CONVERSIONS: dict[str, Callable[[str, Any], Any]] = {
    "string": _string,
    "int": _int,
    "boolean": _boolean,
    "array": _array,
}
