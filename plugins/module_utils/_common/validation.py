# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Checks of texts and numbers from outside, done once, before they are used."""

from __future__ import annotations

import ipaddress
import json
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError


def check_texts(path: str, value: object, content: Sequence[str] = ()) -> None:
    """Refuse text that no argument, file name or JSON can hold: a NUL character, invalid UTF-8.

    value: an option, or any nesting of dicts and lists of them.
    content: paths of options whose text is only ever written to a file, as bytes.
    Raises OptionError, naming the path but not the value, which may be a secret.
    """
    if isinstance(value, str):
        is_content = any(path == name or path.startswith(name + ".") for name in content)
        try:
            value.encode("utf-8", "surrogateescape" if is_content else "strict")
        except UnicodeEncodeError:
            raise OptionError(path, "its text is not valid UTF-8")
        if "\0" in value and not is_content:
            raise OptionError(
                path, "it has a NUL character, which no argument and no file name can hold"
            )
    elif isinstance(value, dict):
        for key, inner in value.items():
            check_texts(path, key)
            check_texts("%s.%s" % (path, key) if path else str(key), inner, content)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            check_texts("%s[%d]" % (path, number), inner, content)


def check_number(path: str, value: Any, least: int, most: int, what: str) -> Any:
    """Return value if it is a number from least to most; else raise OptionError.

    what: the noun for the message, such as "a port".
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise OptionError(path, "%s is not %s: %d to %d" % (shown(value), what, least, most))
    return value


def check_address(path: str, text: str, version: int | None = None) -> str:
    """Return text if it is an IP address, of the given version (4 or 6); else raise OptionError."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise OptionError(path, "%r is not an IP address" % text)
    if version and address.version != version:
        raise OptionError(path, "%s is not an IPv%d address" % (text, version))
    return text


def check_listen_address(path: str, text: str) -> str:
    """Return text if a server can listen on it: an IP address, or localhost.

    Other names are refused: resolving one may take minutes.
    """
    return text if text == "localhost" else check_address(path, text)


def shown(value: object) -> str:
    """Return a value for a message, as a user writes it, in at most 64 characters."""
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "the number"
    try:
        is_text = isinstance(value, str)
        text = repr(value) if is_text else json.dumps(value, skipkeys=True, default=str)
    except ValueError:
        return "the value"  # it has a number that is too long
    return text if len(text) <= 60 else text[:60] + "..."


def suggestion(name: object, choices: Iterable[str]) -> str:
    """Return the part of a message that names the choice most similar to name, if there is one."""
    import difflib  # an error is rare: the import would slow down each run

    found = difflib.get_close_matches(name, list(choices), 1) if isinstance(name, str) else []
    return "; did you mean %s?" % found[0] if found else ""


def names_hint(name: str, names: Sequence[str], limit: int | None = None) -> str:
    """Return the end of a message about a missing name: a similar one, or the existing names.

    limit: of the names that are listed.
    """
    similar = suggestion(name, names)
    if similar:
        return similar[2:]
    more = ["..."] if limit is not None and len(names) > limit else []
    return "it has %s" % (", ".join([*names[:limit], *more]) or "none")


def with_hint(
    message: str, unsupported: Iterable[str | tuple[str, ...]], spec: Mapping[str, Any]
) -> str:
    """Return Ansible's message about unsupported parameters, with the most similar options.

    unsupported: names, or paths of suboptions. spec: the argument spec.
    """
    similar = []
    for item in sorted(unsupported, key=str):
        *parents, name = (item,) if isinstance(item, str) else item
        options: Mapping[str, Any] = spec
        for parent in parents:
            options = (options.get(parent) or {}).get("options") or {}
        names = [*options, *(alias for one in options.values() for alias in one.get("aliases", ()))]
        found = suggestion(name, names)[len("; did you mean ") : -1]
        similar += [".".join([*parents, found])] if found else []
    if not similar:
        return message
    head, separator, tail = message.partition(". Supported parameters")
    return "%s (did you mean %s?)%s" % (head, ", ".join(similar), separator + tail)
