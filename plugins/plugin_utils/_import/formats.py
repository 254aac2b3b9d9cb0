# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The formats that can be imported: how each is recognised, and its function."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, Optional

from ansible_collections.vlab.qemu.plugins.plugin_utils._import import (
    cml,
    containerlab,
    gns3,
    gns3_archive,
    netlab,
    unl,
    xml_tree,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Lab, Options
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.parsing import (
    decoded,
    parse_json,
    parse_yaml,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import Report
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.result import Imported, finish

AUTO = "auto"
# JSON is YAML, too.
_YAML_FORMATS: dict[str, Callable[[Any], bool]] = {
    "containerlab": containerlab.is_containerlab,
    "gns3": gns3.is_gns3,
    "cml": cml.is_cml,
    "netlab": netlab.is_netlab,
}
FORMATS: dict[str, Callable[[str, Report, Options], Lab]] = {
    "containerlab": containerlab.import_containerlab,
    "gns3": gns3.import_gns3,
    "cml": cml.import_cml,
    "eve": unl.import_unl,
    "netlab": netlab.import_netlab,
}
# By the root of the document.
_XML_FORMATS = {"lab": "eve"}


class Source(NamedTuple):
    """A file to import. name: for messages. archive: the open file, if it is a ZIP archive."""

    name: str
    content: bytes = b""
    archive: Optional[BinaryIO] = None


def import_lab(source: Source, options: Options, format_name: str = AUTO) -> Imported:
    """Return the lab that a file describes. Raise LabFileError."""
    report = Report(source.name)
    content = source.content
    if source.archive:
        if format_name not in (AUTO, "gns3"):
            reason = "it is an archive, which only the format gns3 has"
            raise LabFileError(source.name, [("", reason)])
        format_name, content = "gns3", gns3_archive.project_of(source.archive, report)
    text = decoded(source.name, content)
    if format_name == AUTO:
        format_name = recognised(source.name, text)
    report.format = format_name
    return finish(FORMATS[format_name](text, report, options))


def _data(file: str, text: str) -> Any:
    """Return the data of a file in JSON or YAML: JSON is read much faster."""
    if text.lstrip().startswith("{"):
        with contextlib.suppress(LabFileError):
            return parse_json(file, text)
    return parse_yaml(file, text)


def recognised(file: str, text: str) -> str:
    """Return the format of a file. Raise LabFileError if none is recognised."""
    if xml_tree.is_xml(text):
        root = xml_tree.parse_xml(file, text)
        if root.tag in _XML_FORMATS:
            return _XML_FORMATS[root.tag]
    data = None if xml_tree.is_xml(text) else _data(file, text)
    for name, recognise in _YAML_FORMATS.items():
        if recognise(data):
            return name
    reason = "its format is not recognised: set format to one of %s" % ", ".join(FORMATS)
    raise LabFileError(file, [("", reason)])
