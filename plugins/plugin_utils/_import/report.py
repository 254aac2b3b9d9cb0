# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What became of every field of an imported file."""

from __future__ import annotations

import re
from typing import Any

MAPPED, KEPT, DROPPED = "mapped", "kept", "dropped"
_STATES = (
    (MAPPED, "Mapped: part of the topology"),
    (KEPT, "Kept: in vars, for your templates and notes"),
    (DROPPED, "Dropped: not in the topology"),
)
_MAX_PLACES = 3


class Report:
    """The fate of each field, warnings, and names that changed.

    entries: {place in the file: (state, note)}; an entry covers everything below its place.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.format = ""
        self.entries: dict[str, tuple[str, str]] = {}
        self.renamed: list[tuple[str, str]] = []
        self._warnings: dict[str, None] = {}
        self.images: dict[str, dict[str, Any]] = {}
        self._whole: set[str] = set()

    def mapped(self, place: str, note: str) -> None:
        """Record that a field became part of the topology. note: which one."""
        self.entries[place] = (MAPPED, note)

    def kept(self, place: str, note: str = "vars.imported") -> None:
        """Record that a field is kept as data. note: where."""
        self.entries[place] = (KEPT, note)

    def dropped(self, place: str, reason: str) -> None:
        """Record that a field is not in the topology."""
        self.entries[place] = (DROPPED, reason)

    def whole(self, place: str, state: str, note: str) -> None:
        """Record what became of everything below a place, whatever was recorded before."""
        self.entries[place] = (state, note)
        self._whole.add(place)

    def warn(self, message: str) -> None:
        """Record something that the user is to check."""
        self._warnings[message] = None

    def rename(self, old: str, new: str) -> None:
        """Record that a name is another one in the topology."""
        self.renamed.append((old, new))

    def fields(self) -> dict[str, tuple[str, str]]:
        """Return the entries that count."""
        if not self._whole:
            return self.entries
        return {
            place: entry
            for place, entry in self.entries.items()
            if not any(parent in self._whole for parent in parents(place))
        }

    def data(self) -> dict[str, Any]:
        """Return the report as data for JSON."""
        counts = {state: 0 for state, _title in _STATES}
        fields = self.fields()
        for state, _note in fields.values():
            counts[state] += 1
        return {
            "file": self.file,
            "format": self.format,
            "counts": counts,
            "warnings": list(self._warnings),
            "renamed": [{"from": old, "to": new} for old, new in self.renamed],
            "images": self.images,
            "fields": [
                {"place": place, "state": state, "note": note}
                for place, (state, note) in fields.items()
            ],
        }

    def text(self) -> str:
        """Return the report for people: alike fields in one line."""
        lines = ["Import of %s, format %s" % (_line(self.file), self.format), ""]
        if self._warnings:
            lines += ["Check:", *("- %s" % _line(warning) for warning in self._warnings), ""]
        if self.images:
            lines += ["Images that the lab needs:"]
            lines += [_image_line(name, image) for name, image in sorted(self.images.items())]
            lines.append("")
        if self.renamed:
            lines += ["Renamed:"]
            lines += ["- %s -> %s" % (_line(old), new) for old, new in self.renamed]
            lines.append("")
        fields = self.fields()
        for state, title in _STATES:
            groups: dict[tuple[str, str], list[str]] = {}
            for place, (found, note) in fields.items():
                if found == state:
                    groups.setdefault((_pattern(place), note), []).append(place)
            if groups:
                lines += [title]
                lines += [_group_line(places, note) for (_p, note), places in groups.items()]
                lines.append("")
        return "\n".join(lines)


def parents(place: str) -> list[str]:
    """Return the places that a place is part of."""
    return [place[: match.start()] for match in re.finditer(r"[.\[]", place)]


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _pattern(place: str) -> str:
    """Return a place without the parts that differ between alike fields."""
    return re.sub(r"(^|\.)(nodes|kinds|groups|links)\.[^.]+", r"\1\2.*", re.sub(r"\d+", "N", place))


def _group_line(places: list[str], note: str) -> str:
    shown = ", ".join(map(_line, places[:_MAX_PLACES]))
    more = len(places) - _MAX_PLACES
    return "- %s%s: %s" % (shown, " and %d more" % more if more > 0 else "", _line(note))


def _image_line(name: str, image: dict[str, Any]) -> str:
    return "- %s: %s" % (name, "; ".join("%s %s" % (k, _line(str(v))) for k, v in image.items()))
