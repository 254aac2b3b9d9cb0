# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The formats that can be imported: how each is recognised, and its function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, Optional

from ansible_collections.vlab.qemu.plugins.plugin_utils._import import containerlab
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Lab, Options
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.parsing import decoded, parse_yaml
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import Report
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.result import Imported, finish

AUTO = "auto"
_YAML_FORMATS: dict[str, Callable[[Any], bool]] = {
    "containerlab": containerlab.is_containerlab,
}
FORMATS: dict[str, Callable[[str, Report, Options], Lab]] = {
    "containerlab": containerlab.import_containerlab,
}


class Source(NamedTuple):
    """A file to import. name: for messages. archive: the open file, if it is a ZIP archive."""

    name: str
    content: bytes = b""
    archive: Optional[BinaryIO] = None


def import_lab(source: Source, options: Options, format_name: str = AUTO) -> Imported:
    """Return the lab that a file describes. Raise LabFileError."""
    report = Report(source.name)
    text = decoded(source.name, source.content)
    if format_name == AUTO:
        format_name = recognised(source.name, text)
    report.format = format_name
    return finish(FORMATS[format_name](text, report, options))


def recognised(file: str, text: str) -> str:
    """Return the format of a file. Raise LabFileError if none is recognised."""
    data = parse_yaml(file, text)
    for name, recognise in _YAML_FORMATS.items():
        if recognise(data):
            return name
    reason = "its format is not recognised: set format to one of %s" % ", ".join(FORMATS)
    raise LabFileError(file, [("", reason)])
