# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Files that QEMU serves to the guest by TFTP on a user link, from a folder of the VM."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Any, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    NEXT_START,
    RESTART,
    Change,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_private_folder,
    remove_file,
    write_atomically,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import by_name
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.media import nocloud, seeds

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host

OPTION = "tftp_files"
SPEC: dict[str, Any] = {
    "type": "dict",
    "options": {"files": {"type": "dict"}, "nic": {"type": "str"}},
}
FOLDER = "tftp"  # in the folder of the VM

# What the definition keeps: nic, files: {name: salted digest}, digested.
Served = Dict[str, Any]


def normalise(path: str, value: dict[str, Any]) -> Served | None:
    """Return the files to serve; None for none. Raises OptionError."""
    given = {name: data for name, data in (value.get("files") or {}).items() if data is not None}
    if not given:
        return None
    if not value.get("nic"):
        raise OptionError(path + ".nic", "give the NIC whose link of type user serves the files")
    for name in given:
        seeds.check_file_name(path, name)
        folder = name.rpartition("/")[0]
        while folder:
            if folder in given:
                raise OptionError(path + ".files", "%r is a file and a folder" % folder)
            folder = folder.rpartition("/")[0]
    files = {name: seeds.content(seeds.file_path(path, name), data) for name, data in given.items()}
    return {"nic": value["nic"], "files": files}


def finish(desired: Definition, saved: Served | None, host: Host) -> None:
    """Check the NIC; keep only the digests of files that were given. Raises OptionError."""
    served = desired[OPTION]
    if not served:
        return
    nic = by_name(desired["nics"]).get(served["nic"])
    if nic is None or nic["link"]["type"] != "user":
        raise OptionError(
            OPTION + ".nic",
            "the VM has no NIC %s with a link of type user, which serves the files: give it one, "
            "or %s: {}" % (served["nic"], OPTION),
        )
    if nic["link"].get("tftp"):
        raise OptionError(
            "nics[%s].link.tftp" % nic["name"], "%s of the VM are served by TFTP instead" % OPTION
        )
    if served.get("digested"):
        return
    salt = nocloud.salt_of(saved)
    host.secrets[OPTION] = served["files"]
    served["files"] = {name: nocloud.digest(data, salt) for name, data in served["files"].items()}
    served["digested"] = True


def change(old: Served | None, new: Served | None, part: str) -> Change:
    """Return the change of the files. QEMU serves one folder from its start on."""
    is_same_nic = bool(old and new and old["nic"] == new["nic"])
    return Change(
        (OPTION,),
        _reported(old, new),
        _reported(new, old),
        NEXT_START if is_same_nic else RESTART,
        part,
        OPTION,
        reason="the guest reads it when it starts again"
        if is_same_nic
        else "QEMU serves files from its start",
    )


def _reported(served: Served | None, other: Served | None) -> dict[str, Any] | None:
    """Return the files as a change shows them: with whether the other ones are the same."""
    if not served:
        return None
    files = seeds.compared(served["files"], other["files"] if other else {})
    return {"nic": served["nic"], "files": files}


def folder_of(nic: str, definition: Definition, folder: Folder) -> str | None:
    """Return the folder that the link of a NIC serves, if it has files of the VM."""
    served = definition.get(OPTION)
    return folder.file(FOLDER) if served and served["nic"] == nic else None


def write(desired: Definition, host: Host) -> list[str]:
    """Let the folder have the files and no others; return what was done. Raises a VlabError."""
    served, base = desired[OPTION], host.folder.file(FOLDER)
    if not served:
        if os.path.lexists(base):
            shutil.rmtree(base, ignore_errors=True)
            return ["remove %s" % base]
        return []
    contents, done = host.secrets.get(OPTION), []
    for name in served["files"]:
        path = os.path.join(base, name)
        if contents is None and not os.path.exists(path):
            raise OptionError(
                OPTION,
                "%s no longer exists, and its contents were not supplied: give %s again"
                % (path, OPTION),
            )
        if contents is not None and seeds.read(path) != contents[name]:
            _write(base, name, contents[name])
            done.append("write %s" % path)
    return done + _remove_others(base, served["files"])


def _write(base: str, name: str, data: bytes) -> None:
    folder = base
    make_private_folder(folder)
    for part in name.split("/")[:-1]:
        folder = os.path.join(folder, part)
        if not os.path.isdir(folder):
            remove_file(folder)
        make_private_folder(folder)
    path = os.path.join(base, name)
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    write_atomically(path, data)


def _remove_others(base: str, files: dict[str, Any]) -> list[str]:
    """Remove files that the guest is not to see; return what was done."""
    done = []
    for folder, _folders, names in os.walk(base, topdown=False):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.relpath(path, base) not in files and remove_file(path):
                done.append("remove %s" % path)
        if folder != base:
            with contextlib.suppress(OSError):  # it has files
                os.rmdir(folder)
    return done
