# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""Read XML by the parser of the standard library, without entities and document types."""

from __future__ import annotations

import dataclasses
import re
import xml.parsers.expat
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.parsing import PlainData
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import Report

_MAX_DEPTH = 40
_MAX_ELEMENTS = 300000


@dataclasses.dataclass
class Element:
    """An element. place: tags from the root, such as domain.devices.disk[2]."""

    tag: str
    place: str
    attributes: dict[str, str]
    children: list[Element] = dataclasses.field(default_factory=list)
    text: str = ""
    counts: dict[str, int] = dataclasses.field(default_factory=dict)

    def all(self, tag: str) -> list[Element]:
        """Return the children with a tag."""
        return [child for child in self.children if child.tag == tag]

    def first(self, tag: str) -> Element | None:
        """Return the first child with a tag, None without one."""
        return next((child for child in self.children if child.tag == tag), None)

    def at(self, path: str) -> Element | None:
        """Return the first element at a path of tags below this one."""
        found: Element | None = self
        for tag in path.split("/"):
            found = found.first(tag) if found else None
        return found

    def rename(self, place: str) -> None:
        """Set the place of the element, and of all below it."""
        old, waiting = len(self.place), [self]
        while waiting:
            element = waiting.pop()
            element.place = place + element.place[old:]
            waiting += element.children

    def fields(self, report: Report) -> Fields:
        """Return the attributes, each to be mapped, kept or dropped."""
        return Fields(report, self.place, self.attributes)

    def data(self) -> Any:
        """Return the element as plain data."""
        tags = {child.tag for child in self.children} | {"text"}
        result: dict[str, Any] = {
            ("@" + name if name in tags else name): value for name, value in self.attributes.items()
        }
        if self.text.strip():
            result["text"] = self.text.strip()
        for child in self.children:
            result.setdefault(child.tag, []).append(child.data())
        if not self.attributes and not self.children:
            return self.text.strip()
        return {
            key: value[0] if isinstance(value, list) and len(value) == 1 else value
            for key, value in result.items()
        }


def is_xml(text: str) -> bool:
    """Return whether a text begins like XML."""
    return text.lstrip("\ufeff \t\r\n").startswith("<")


def parse_xml(file: str, text: str) -> Element:
    """Return the root of a document. Raise LabFileError if it is invalid or has entities."""
    # The text is decoded already, whatever encoding it declares.
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text.lstrip("\ufeff"), count=1)
    builder = _Builder(file)
    parser = xml.parsers.expat.ParserCreate(encoding="utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    parser.StartDoctypeDeclHandler = builder.refuse
    parser.EntityDeclHandler = builder.refuse
    parser.ExternalEntityRefHandler = builder.refuse
    try:
        parser.Parse(text.encode("utf-8"), True)
    except xml.parsers.expat.ExpatError as error:
        raise LabFileError(file, [("", "it is not XML: %s" % error)]) from None
    if builder.root is None:
        raise LabFileError(file, [("", "it is not XML: it has no element")])
    PlainData(file).copy(_strings(builder.root))
    return builder.root


def _strings(root: Element) -> list[Any]:
    """Return all texts of a document, to be checked."""
    found: list[Any] = []
    waiting = [root]
    while waiting:
        element = waiting.pop()
        found += [element.text, *element.attributes.values()]
        waiting += element.children
    return found


class _Builder:
    """Builds the elements of a document while it is parsed."""

    def __init__(self, file: str) -> None:
        self.root: Element | None = None
        self._file = file
        self._open: list[Element] = []
        self._texts: list[list[str]] = []
        self._count = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Open an element."""
        self._count += 1
        if self._count > _MAX_ELEMENTS or len(self._open) >= _MAX_DEPTH:
            reason = "it has more than %d elements, or %d levels" % (_MAX_ELEMENTS, _MAX_DEPTH)
            raise LabFileError(self._file, [("", reason)])
        if self._open:
            parent = self._open[-1]
            number = parent.counts.get(tag, 0)
            parent.counts[tag] = number + 1
            element = Element(tag, "%s.%s[%d]" % (parent.place, tag, number), attributes)
            parent.children.append(element)
        else:
            element = self.root = Element(tag, tag, attributes)
        self._open.append(element)
        self._texts.append([])

    def end(self, _tag: str) -> None:
        """Close an element."""
        self._open.pop().text = "".join(self._texts.pop())

    def characters(self, text: str) -> None:
        """Add text to the open element."""
        self._texts[-1].append(text)

    def refuse(self, *_values: Any) -> int:
        """Refuse a document type or an entity."""
        reason = "it has a document type or an entity, which can make it grow without a limit"
        raise LabFileError(self._file, [("", reason)])
