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
        self._sizes: dict[int, int] = {}

    def copy(self, value: Any) -> Any:
        """Return a copy of a value. Raise LabFileError if it is not plain data."""
        # Before anything is copied: aliases can make this many values in no time.
        if self._size(value, 0) > _MAX_VALUES:
            raise self._too_large()
        try:
            return self._copied(value, 0)
        except _InvalidValue as error:
            raise LabFileError(self._file, [(error.place(), error.reason)]) from None

    def _size(self, value: Any, depth: int) -> int:
        """Return the number of values in a value, or fewer where it is nested too deeply."""
        if not isinstance(value, (dict, list, tuple, set, frozenset)):
            return 1
        size = self._sizes.get(id(value))
        if size is None:
            self._sizes[id(value)] = 1  # for a value that contains itself
            size = 1
            if depth <= _MAX_DEPTH:
                for item in value.values() if isinstance(value, dict) else value:
                    size += self._size(item, depth + 1)
            self._sizes[id(value)] = size
        return size

    def _copied(self, value: Any, depth: int) -> Any:
        self._count += 1
        if self._count > _MAX_VALUES:
            raise self._too_large()
        if depth > _MAX_DEPTH:
            reason = "it is nested more than %d levels deep" % _MAX_DEPTH
            raise LabFileError(self._file, [("", reason)])
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, dict):
            return self._mapping(value, depth)
        if isinstance(value, (set, frozenset)):
            # netlab writes some: their values in one order.
            value = sorted(value, key=str)
        if isinstance(value, (list, tuple)):
            copied: list[Any] = []
            try:
                for item in value:
                    copied.append(self._copied(item, depth + 1))
            except _InvalidValue as error:
                error.steps.append(len(copied))
                raise
            return copied
        return _scalar(value)

    def _mapping(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        for key, item in value.items():
            name = _scalar(key)
            if name is not None and not isinstance(name, str):
                name = str(name).lower() if isinstance(name, bool) else str(name)
            if not name:
                raise _InvalidValue("it has an empty key")
            if name in copied:
                raise _InvalidValue("found duplicate key %s" % excerpt(name))
            try:
                copied[name] = self._copied(item, depth + 1)
            except _InvalidValue as error:
                error.steps.append(name)
                raise
        return copied

    def _too_large(self) -> LabFileError:
        return LabFileError(self._file, [("", "it has more than %d values" % _MAX_VALUES)])


class _InvalidValue(Exception):
    """A value that is not plain data. steps: the keys and indexes to it, the last one first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str | int] = []

    def place(self) -> str:
        """Return the place of the value."""
        path = ""
        for step in reversed(self.steps):
            path = joined(path, step) if isinstance(step, str) else "%s[%d]" % (path, step)
        return path


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _InvalidValue("found %s, which is no number" % value)
        return value
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    raise _InvalidValue("a value of type %s is not supported" % type(value).__name__)


def _text(value: str) -> str:
    if _CONTROL.search(value):
        raise _InvalidValue("%s has control characters" % excerpt(value))
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise _InvalidValue("%s has invalid characters" % excerpt(value)) from None
    # A copy, without what Ansible attaches to its texts.
    return str.__str__(value)


def joined(path: str, key: str) -> str:
    """Return the path of a key below a path."""
    key = key if key.isprintable() and len(key) < 100 else excerpt(key)
    return "%s.%s" % (path, key) if path else key
