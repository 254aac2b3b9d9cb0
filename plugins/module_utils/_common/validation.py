# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Texts and numbers from outside, checked once, before anything is made of them."""

from __future__ import annotations

import ipaddress

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError


def check_texts(path, value, content=()):
    """Refuse a text that no argument, file name or JSON can carry: one with a NUL character, or that is not valid UTF-8.

    value: an option, or any nesting of dicts and lists of them. content: paths of options whose texts become bytes in a file and
    nothing else. Raises OptionError naming the path; the value is not repeated, it may be a secret.
    """
    if isinstance(value, str):
        free = any(path == name or path.startswith(name + ".") for name in content)
        try:
            value.encode("utf-8", "surrogateescape" if free else "strict")
        except UnicodeEncodeError:
            raise OptionError(path, "its text is not valid UTF-8")
        if "\0" in value and not free:
            raise OptionError(
                path, "it has a NUL character, which no argument and no file name can carry"
            )
    elif isinstance(value, dict):
        for key, inner in value.items():
            check_texts(path, key)
            check_texts("%s.%s" % (path, key) if path else str(key), inner, content)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            check_texts("%s[%d]" % (path, number), inner, content)


def check_number(path, value, least, most, what):
    """Return value, a number, when it is from least to most. Raises OptionError; what: a word for it, such as "a port"."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise OptionError(path, "%s is not %s: %d to %d" % (_short(value), what, least, most))
    return value


def check_address(path, text, version=None):
    """Return text when it is an IP address, of version 4 or 6 where that is asked for. Raises OptionError."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise OptionError(path, "%r is not an IP address" % text)
    if version and address.version != version:
        raise OptionError(path, "%s is not an IPv%d address" % (text, version))
    return text


def check_listen_address(path, text):
    """Return text when one can listen on it: an IP address, or localhost. No name: looking one up may take minutes."""
    return text if text == "localhost" else check_address(path, text)


def _short(value):
    text = repr(value) if not isinstance(value, int) or abs(value) < 1 << 64 else "the number"
    return text if len(text) <= 60 else text[:60] + "..."
