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
    libvirt,
    netlab,
    proxmox,
    unl,
    xml_tree,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.file_text import FileText
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Lab, Options
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.parsing import decoded
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import Report
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.result import Imported, finish

AUTO = "auto"
# The texts of all files.
Texts = list[FileText]
# JSON is YAML, too.
_YAML_FORMATS: dict[str, Callable[[Any], bool]] = {
    "containerlab": containerlab.is_containerlab,
    "gns3": gns3.is_gns3,
    "cml": cml.is_cml,
    "netlab": netlab.is_netlab,
}
# By the root of the document.
_XML_FORMATS = {"lab": "eve", "domain": "libvirt", "domains": "libvirt"}


def _of_one_file(
    function: Callable[[FileText, Report, Options], Lab],
) -> Callable[[Texts, Report, Options], Lab]:
    """Return the function of a format whose labs are one file."""

    def run(texts: Texts, report: Report, options: Options) -> Lab:
        if len(texts) != 1:
            reason = "a lab of the format %s is one file" % report.format
            raise LabFileError(texts[1].file, [("", reason)])
        return function(texts[0], report, options)

    return run


FORMATS: dict[str, Callable[[Texts, Report, Options], Lab]] = {
    "containerlab": _of_one_file(containerlab.import_containerlab),
    "gns3": _of_one_file(gns3.import_gns3),
    "cml": _of_one_file(cml.import_cml),
    "eve": _of_one_file(unl.import_unl),
    "netlab": _of_one_file(netlab.import_netlab),
    "libvirt": libvirt.import_libvirt,
    "proxmox": proxmox.import_proxmox,
}


class Source(NamedTuple):
    """A file to import. name: for messages. archive: the open file, if it is a ZIP archive."""

    name: str
    content: bytes = b""
    archive: Optional[BinaryIO] = None


def import_lab(sources: list[Source], options: Options, format_name: str = AUTO) -> Imported:
    """Return the lab that a file describes, or several of machines. Raise LabFileError."""
    report = Report(", ".join(source.name for source in sources))
    texts: Texts = []
    for source in sources:
        content = source.content
        if source.archive:
            if format_name not in (AUTO, "gns3"):
                reason = "it is an archive, which only the format gns3 has"
                raise LabFileError(source.name, [("", reason)])
            format_name, content = "gns3", gns3_archive.project_of(source.archive, report)
        texts.append(FileText(source.name, decoded(source.name, content)))
    if format_name == AUTO:
        format_name = recognised(texts[0])
    report.format = format_name
    return finish(FORMATS[format_name](texts, report, options))


def recognised(given: FileText) -> str:
    """Return the format of a file. Raise LabFileError if none is recognised."""
    if xml_tree.is_xml(given.text):
        if given.xml.tag in _XML_FORMATS:
            return _XML_FORMATS[given.xml.tag]
    elif proxmox.is_proxmox(given.text):
        return "proxmox"
    else:
        data = _data(given)
        for name, recognise in _YAML_FORMATS.items():
            if recognise(data):
                return name
    reason = "its format is not recognised: set format to one of %s" % ", ".join(FORMATS)
    raise LabFileError(given.file, [("", reason)])


def _data(given: FileText) -> Any:
    """Return the data of a file in JSON or YAML."""
    if given.is_json:
        with contextlib.suppress(LabFileError):
            return given.json
    return given.yaml
