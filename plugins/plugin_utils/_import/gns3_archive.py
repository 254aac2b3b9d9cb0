# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.
"""Read the project of a portable archive of GNS3 (.gns3project, a ZIP file).

Nothing is extracted: only the project itself is read.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from typing import BinaryIO

from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import (
    LabFileError,
    excerpt,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.parsing import (
    MAX_BYTES,
    check_size,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import Report

_MAX_MEMBERS = 100000
_OVERLAY = re.compile(r"project-files/qemu/[^/]+/(hd[a-d]_disk)\.qcow2")


def project_of(archive: BinaryIO, report: Report) -> bytes:
    """Return the content of the project in an archive; list the other files in the report."""
    file = report.file
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            _check(file, members)
            projects = [m for m in members if re.fullmatch(r"[^/]+\.gns3", m.filename)]
            if len(projects) != 1:
                reason = "it has %d projects, not one: no archive of GNS3" % len(projects)
                raise LabFileError(file, [("", reason)])
            project = projects[0]
            check_size("%s of %s" % (project.filename, file), project.file_size)
            with opened.open(project) as stream:
                content = stream.read(MAX_BYTES + 1)
    except OSError as failure:
        reason = failure.strerror or "its end is missing"
        raise LabFileError(file, [("", "the archive cannot be read: " + reason)]) from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        ValueError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise LabFileError(file, [("", "the archive cannot be read: %s" % error)]) from None
    check_size("%s of %s" % (project.filename, file), len(content))
    _report_members(report, [member for member in members if member is not project])
    return content


def _check(file: str, members: list[zipfile.ZipInfo]) -> None:
    """Raise LabFileError for an archive whose names lead elsewhere."""
    if len(members) > _MAX_MEMBERS:
        reason = "it has more than %d files" % _MAX_MEMBERS
        raise LabFileError(file, [("", reason)])
    for member in members:
        name = member.filename.replace("\\", "/")
        if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/"):
            raise LabFileError(
                file, [(excerpt(member.filename), "the path leads out of the archive")]
            )
        if (member.external_attr >> 16) & 0o170000 == 0o120000:
            raise LabFileError(file, [(excerpt(member.filename), "it is a symbolic link")])
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise LabFileError(file, [("", "a file is in it twice")])


def _report_members(report: Report, members: list[zipfile.ZipInfo]) -> None:
    overlays = 0
    for member in members:
        place = "archive/" + (member.filename if member.filename.isprintable() else "?")
        if member.is_dir():
            continue
        if _OVERLAY.fullmatch(member.filename):
            overlays += 1
            report.dropped(
                place,
                "what a node has written: unpack it, rebase it on its image "
                "(qemu-img rebase -u), and set it as disks[].path",
            )
        elif member.filename.startswith("images/"):
            report.dropped(place, "unpack it to the folder of images on the hypervisors")
        else:
            report.dropped(place, "it is not part of the topology")
    if overlays:
        report.warn(
            "%d nodes have written to their disks: the archive has these changes, the topology "
            "starts from the images" % overlays
        )
