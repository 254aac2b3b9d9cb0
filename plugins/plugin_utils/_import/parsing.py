# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Read files of other tools as plain data, however hostile they are.

All limits of size are here. Nothing in a file is executed, resolved or expanded.
"""

from __future__ import annotations

import datetime
import io
import json
import math
import re
from collections.abc import Callable
from typing import Any

import yaml

from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import (
    LabFileError,
    excerpt,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.yaml_file import load_yaml

MAX_BYTES = 32 << 20
_MAX_DEPTH = 60
_MAX_VALUES = 500000
_MAX_NUMBER_LENGTH = 30
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


def decoded(file: str, content: bytes) -> str:
    """Return the text of a file. Raise LabFileError if it is too large or not UTF-8."""
    check_size(file, len(content))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = "it is not UTF-8 text: %s at byte %d" % (error.reason, error.start)
        raise LabFileError(file, [("", reason)]) from None


def check_size(file: str, size: int) -> None:
    """Raise LabFileError for more bytes than a lab needs."""
    if size > MAX_BYTES:
        reason = "it has %d MiB; the maximum is %d MiB" % (size >> 20, MAX_BYTES >> 20)
        raise LabFileError(file, [("", reason)])


def parse_yaml(file: str, text: str) -> Any:
    """Return the data of a YAML file. Raise LabFileError for invalid YAML and duplicate keys."""
    return _parsed(file, "YAML", text, lambda given: load_yaml(io.StringIO(given)))


def parse_json(file: str, text: str, keep_last: bool = False) -> Any:
    """Return the data of a JSON file. Raise LabFileError for invalid JSON and duplicate keys.

    keep_last: whether the last of duplicate keys counts, as for most programs.
    """
    return _parsed(
        file,
        "JSON",
        text,
        lambda given: json.loads(
            given,
            object_pairs_hook=dict if keep_last else _unique_pairs,
            parse_int=_number,
            parse_constant=_no_constant,
        ),
    )


def _parsed(file: str, language: str, text: str, parse: Callable[[str], Any]) -> Any:
    try:
        data = parse(text)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        reason = "it is not %s: %s" % (language, " ".join(str(error).split()))
        raise LabFileError(file, [("", reason)]) from None
    except RecursionError:
        raise LabFileError(file, [("", "it is nested too deeply")]) from None
    return PlainData(file).copy(data)


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _value in pairs]
        duplicate = next(key for key in keys if keys.count(key) > 1)
        raise ValueError("found duplicate key %s" % excerpt(duplicate))
    return data


def _number(text: str) -> int:
    if len(text) > _MAX_NUMBER_LENGTH:
        raise ValueError("found a number of %d digits" % len(text))
    return int(text)


def _no_constant(text: str) -> Any:
    raise ValueError("found %s, which is no number" % text)


class PlainData:
    """Copies data as JSON knows it, with the limits of depth and size.

    YAML aliases make many values of a few lines, or a value that contains itself.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._count = 0

    def copy(self, value: Any, path: str = "", depth: int = 0) -> Any:
        """Return a copy of a value. Raise LabFileError if it is not plain data."""
        self._count += 1
        if self._count > _MAX_VALUES:
            self._fail("", "it has more than %d values" % _MAX_VALUES)
        if depth > _MAX_DEPTH:
            self._fail("", "it is nested more than %d levels deep" % _MAX_DEPTH)
        if isinstance(value, dict):
            return self._mapping(value, path, depth)
        if isinstance(value, (set, frozenset)):
            # netlab writes some: their values in one order.
            value = sorted(value, key=str)
        if isinstance(value, (list, tuple)):
            return [
                self.copy(item, "%s[%d]" % (path, number), depth + 1)
                for number, item in enumerate(value)
            ]
        return self._scalar(value, path)

    def _mapping(self, value: dict[Any, Any], path: str, depth: int) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        for key, item in value.items():
            name = self._scalar(key, path)
            if name is not None and not isinstance(name, str):
                name = str(name).lower() if isinstance(name, bool) else str(name)
            if not name:
                self._fail(path, "it has an empty key")
            if name in copied:
                self._fail(path, "found duplicate key %s" % excerpt(name))
            copied[name] = self.copy(item, joined(path, name), depth + 1)
        return copied

    def _scalar(self, value: Any, path: str) -> Any:
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, float):
            if not math.isfinite(value):
                self._fail(path, "found %s, which is no number" % value)
            return value
        if isinstance(value, str):
            if _CONTROL.search(value):
                self._fail(path, "%s has control characters" % excerpt(value))
            if not value.isascii():
                try:
                    value.encode("utf-8")
                except UnicodeEncodeError:
                    self._fail(path, "%s has invalid characters" % excerpt(value))
            # A copy, without what Ansible attaches to its texts.
            return "".join(value)
        if isinstance(value, (datetime.date, datetime.datetime)):
            return value.isoformat()
        self._fail(path, "a value of type %s is not supported" % type(value).__name__)

    def _fail(self, path: str, reason: str) -> Any:
        raise LabFileError(self._file, [(path, reason)])


def joined(path: str, key: str) -> str:
    """Return the path of a key below a path."""
    key = key if key.isprintable() and len(key) < 100 else excerpt(key)
    return "%s.%s" % (path, key) if path else key
