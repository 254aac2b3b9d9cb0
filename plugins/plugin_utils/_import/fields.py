# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Read the fields of one mapping, so that none is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import (
    LabFileError,
    excerpt,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.parsing import joined
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import Report


class Fields:
    """A mapping of a file. Each key must be mapped, kept or dropped; close() keeps the rest.

    path: its place in the file.
    """

    def __init__(self, report: Report, path: str, data: Any) -> None:
        self.report, self.path = report, path
        self.is_given = True
        if data is None:
            data = {}
        if not isinstance(data, Mapping):
            self.fail("", "%s is not a mapping" % excerpt(data))
        self.data: Mapping[str, Any] = data
        self._open = dict.fromkeys(data)
        self.kept_values: dict[str, Any] = {}

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def place(self, key: str) -> str:
        """Return the place of a key in the file."""
        return joined(self.path, key)

    def fail(self, key: str, reason: str) -> Any:
        """Raise LabFileError for a key, or for the mapping itself if key is empty."""
        place = self.place(key) if key else self.path
        raise LabFileError(self.report.file, [(place, reason)])

    def mapped(self, key: str, note: str) -> Any:
        """Return a value, recorded as mapped. None if the key is absent."""
        if key in self._open:
            del self._open[key]
            self.report.mapped(self.place(key), note)
        return self.data.get(key)

    def opened(self, key: str) -> Any:
        """Return a value whose parts are recorded one by one."""
        self._open.pop(key, None)
        return self.data.get(key)

    def kept(self, key: str) -> None:
        """Keep a value in vars."""
        if key in self._open:
            del self._open[key]
            value = self.data[key]
            if value in (None, "", [], {}):
                self.report.dropped(self.place(key), "it is empty")
            else:
                self.report.kept(self.place(key))
                self.kept_values[key] = value

    def dropped(self, key: str, reason: str) -> None:
        """Leave a value out."""
        if key in self._open:
            del self._open[key]
            self.report.dropped(self.place(key), reason)

    def close(self, reasons: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Drop the keys in reasons, keep all others, and return what is kept."""
        for key in list(self._open):
            if reasons and key in reasons:
                self.dropped(key, reasons[key])
            else:
                self.kept(key)
        return self.kept_values

    def text(self, key: str, note: str) -> str:
        """Return a text, empty if the key is absent."""
        value = self.mapped(key, note)
        if value is None:
            return ""
        if isinstance(value, (dict, list, bool)):
            self.fail(key, "%s is not a text" % excerpt(value))
        return str(value)

    def integer(self, key: str, note: str, least: int = 0, most: int = 1 << 40) -> int | None:
        """Return an integer, None if the key is absent or empty."""
        value = self.mapped(key, note)
        return None if value in (None, "") else self.number(key, value, least, most)

    def number(self, key: str, value: Any, least: int = 0, most: int = 1 << 40) -> int:
        """Return a value of a key as an integer within limits."""
        number = whole_number(value)
        if number is None or not least <= number <= most:
            self.fail(key, "%s is not a number from %d to %d" % (excerpt(value), least, most))
        return number or 0

    def mappings(self, key: str) -> list[Fields]:
        """Return the items of a list of mappings, each to be read on its own."""
        return [
            Fields(self.report, "%s[%d]" % (self.place(key), number), item)
            for number, item in enumerate(self.items(key))
        ]

    def items(self, key: str) -> list[Any]:
        """Return a list whose items are recorded one by one; empty if the key is absent."""
        value = self.opened(key)
        if value is None:
            if key in self.data:
                self.report.dropped(self.place(key), "it is empty")
            return []
        if not isinstance(value, list):
            self.fail(key, "%s is not a list" % excerpt(value))
        if not value:
            self.report.dropped(self.place(key), "it is empty")
        return list(value)

    def fields(self, key: str) -> Fields:
        """Return a mapping below this one."""
        found = Fields(self.report, self.place(key), self.opened(key))
        found.is_given = key in self.data
        if found.is_given and not found.data:
            self.report.dropped(found.path, "it is empty")
        return found


def whole_number(value: Any) -> int | None:
    """Return a value as an integer, None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int):
        return value
    text = str(value).strip()
    is_number = text.isascii() and text.isdigit() and len(text) < 20
    return int(text) if is_number else None
