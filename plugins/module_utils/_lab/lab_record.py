# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What a lab keeps for all of its runs: where its topology came from, and what it has given.

Each hypervisor of a lab has the same record, in the lab's folder. A run that finds an older one
replaces it.
"""

from __future__ import annotations

import os
from typing import Any, Dict, NamedTuple, Optional

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    read_json,
    remove_file,
    write_json,
)

FILE = "lab.json"
_FORMAT = 1
_MAX_REVISION = 1 << 62

# {kind of value: {what has it: value}}, see plugin_utils/_topology/allocations.py.
Allocations = Dict[str, Dict[str, Any]]


class LabRecord(NamedTuple):
    """The record of a lab.

    name: of the lab. origin: where its topology came from, None if that is not known. revision: it
    grows with each change; 0 if there is no record. allocations: the addresses, NICs and ports that
    the lab has.
    """

    name: str = ""
    origin: Optional[str] = None
    revision: int = 0
    allocations: Allocations = {}


def read(folder: str) -> LabRecord:
    """Return the record in the folder of a lab; an empty one if there is none.

    Raises HostError for a damaged one.
    """
    path = os.path.join(folder, FILE)
    saved = read_json(path)
    if saved is None:
        return LabRecord()
    if not _is_valid(saved):
        raise HostError(
            "%s is damaged: it is not the record of a lab. Restore it from another hypervisor of "
            "the lab, or remove it: its addresses are then derived anew" % path,
            path=path,
        )
    if saved["format"] > _FORMAT:
        raise HostError(
            "%s has the format %d of a newer version of vlab.qemu; this one knows up to %d: "
            "update the collection" % (path, saved["format"], _FORMAT),
            path=path,
        )
    return LabRecord(saved["name"], saved["origin"], saved["revision"], saved["allocations"])


def _is_valid(saved: Any) -> bool:
    return (
        isinstance(saved, dict)
        and _is_number(saved.get("format"))
        and isinstance(saved.get("name"), str)
        and isinstance(saved.get("origin"), (str, type(None)))
        and _is_number(saved.get("revision"))
        and isinstance(saved.get("allocations"), dict)
        and all(isinstance(values, dict) for values in saved["allocations"].values())
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MAX_REVISION


def write(folder: str, record: LabRecord) -> None:
    """Save the record in the folder of a lab, which must exist, unless the file has it already."""
    write_json(
        os.path.join(folder, FILE),
        {
            "format": _FORMAT,
            "name": record.name,
            "origin": record.origin,
            "revision": record.revision,
            "allocations": record.allocations,
        },
    )


def remove(folder: str) -> None:
    """Remove the record, also if the lab's folder stays for disks that are kept."""
    remove_file(os.path.join(folder, FILE))
