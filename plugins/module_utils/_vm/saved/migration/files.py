# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The files of a guest besides its disks, packed for another host.

They are UEFI variables, the TPM, config drives and the log of the first console.
"""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING, Iterable

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_private_folder,
    write_atomically,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import log_name

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

_MAX_LOG = 1 << 20  # bytes of the console's log
_MAX_FILE = 256 << 20  # bytes of one file: UEFI variables have up to 64 MiB


def pack(folder: Folder, definition: Definition, names: Iterable[str]) -> bytes:
    """Return the files and folders of these names that exist, and the end of the console's log."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
        for name in names:
            if os.path.lexists(folder.file(name)):
                archive.add(folder.file(name), name)
        if definition["consoles"]:
            _add_log(archive, folder, log_name(definition["consoles"][0]))
    return stream.getvalue()


def _add_log(archive: tarfile.TarFile, folder: Folder, name: str) -> None:
    try:
        with open(folder.file(name), "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _MAX_LOG))
            content = log.read(_MAX_LOG)
    except OSError:
        return
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def unpack(folder: Folder, data: bytes) -> None:
    """Write the files into the folder of a VM. Raises HostError for an archive that is none."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            for member in archive:
                _extract(folder, archive, member)
    except (tarfile.TarError, EOFError) as error:
        raise HostError("the files of the VM %s cannot be read: %s" % (folder.name, error))


def _extract(folder: Folder, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    parts = member.name.split("/")
    if any(part in ("", ".", "..") for part in parts) or member.size > _MAX_FILE:
        raise HostError(
            "the files of the VM %s have the entry %r, which cannot be one"
            % (folder.name, member.name)
        )
    path = folder.file(member.name)
    if member.isdir():
        make_private_folder(path)
        return
    content = archive.extractfile(member) if member.isfile() else None
    if content is not None:
        write_atomically(path, content.read())
