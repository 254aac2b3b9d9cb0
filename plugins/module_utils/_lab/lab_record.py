# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What a lab keeps for all of its runs: where its topology came from, and what it has given.

Each hypervisor of a lab has the same record, in the lab's folder. A run that finds an older one
replaces it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from typing import Any, Dict, NamedTuple, Optional

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    json_text,
    read_json,
    remove_file,
    write_atomically,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.json_input import parse_json
from ansible_collections.vlab.qemu.plugins.module_utils._vm.shapes import check_format
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import LAB_RECORD

_FORMAT = 1
_MAX_REVISION = 1 << 62

# {kind of value: {what has it: value}}, see plugin_utils/_topology/kept.py.
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
    """Return the record in the folder of a lab; an empty one if it is missing.

    Raises HostError for a damaged one.
    """
    path = os.path.join(folder, LAB_RECORD)
    saved = read_json(path)
    if saved is None:
        return LabRecord()
    if not _is_valid(saved):
        raise HostError(
            "%s is damaged: it is not the record of a lab. Restore it from another hypervisor of "
            "the lab, or remove it: the addresses of the lab are then derived again" % path,
            path=path,
        )
    check_format(path, saved["format"], _FORMAT)
    return LabRecord(saved["name"], saved["origin"], saved["revision"], saved["allocations"])


def of_origin(folder: str) -> LabRecord:
    """Return the record that a clone of a lab begins with. folder: of the origin.

    Its guests have the addresses of the origin. The ports are of the hypervisor, and each lab has
    its own. Raises HostError for a damaged record.
    """
    record = read(folder)
    given = {kind: values for kind, values in record.allocations.items() if kind != "ports"}
    return record._replace(name="", origin=None, allocations=dict(given, ports={}))


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


def _data(record: LabRecord) -> dict[str, Any]:
    return dict(record._asdict(), format=_FORMAT)


def write(folder: str, record: LabRecord) -> None:
    """Save the record in the folder of a lab, which must exist, unless the file has it already."""
    write_json(os.path.join(folder, LAB_RECORD), _data(record))


def write_sent(folder: str, sent: Sent) -> None:
    """Save the record that the controller has sent as it is, which is faster."""
    write_atomically(os.path.join(folder, LAB_RECORD), _text(sent))


def remove(folder: str) -> None:
    """Remove the record, also if the lab's folder stays for disks that are kept."""
    remove_file(os.path.join(folder, LAB_RECORD))


def to_text(record: LabRecord) -> str:
    """Return a record as a hypervisor sends it. Ansible processes a text faster than a dict."""
    return json.dumps(_data(record))


def from_text(text: Any) -> LabRecord:
    """Return the record that a hypervisor sent; an empty one if it sent something else."""
    try:
        saved = parse_json(text) if isinstance(text, str) else None
    except ValueError:
        saved = None
    if saved is None or not _is_valid(saved):
        return LabRecord()
    return LabRecord(saved["name"], saved["origin"], saved["revision"], saved["allocations"])


# What the controller sends: {"text": the file of the record as it is to be, compressed, which is
# large for a large lab, "file": its digest, "origin", "revision": that it has, "based_on": the
# revision of the record that the controller used, 0 for none, "digest": of the allocations that it
# assumed, None if they were sent}.
Sent = Dict[str, Any]


def to_send(record: LabRecord, based_on: int, assumed: Allocations | None) -> Sent:
    """Return what the controller sends of a record. assumed: the allocations that it assumed."""
    text = json_text(_data(record)).encode("utf-8")
    return {
        "text": base64.b64encode(zlib.compress(text, 1)).decode("ascii"),
        "file": hashlib.sha256(text).hexdigest(),
        "origin": record.origin,
        "revision": record.revision,
        "based_on": based_on,
        "digest": None if assumed is None else digest(assumed),
    }


def _text(sent: Sent) -> bytes:
    return zlib.decompress(base64.b64decode(sent["text"]))


def from_sent(sent: Sent) -> LabRecord:
    """Return the record that the controller has sent."""
    saved = json.loads(_text(sent))
    return LabRecord(saved["name"], saved["origin"], saved["revision"], saved["allocations"])


def is_saved(folder: str, sent: Sent | None) -> bool:
    """Return whether the file in the folder of a lab is the one that the controller has sent.

    Most runs change no record, and need not parse it.
    """
    if sent is None:
        return False
    file: str = sent["file"]
    try:
        with open(os.path.join(folder, LAB_RECORD), "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest() == file
    except OSError:
        return False


def digest(allocations: Allocations) -> str:
    """Return the digest of the allocations of a record."""
    return hashlib.sha256(json.dumps(allocations, sort_keys=True).encode("utf-8")).hexdigest()


def is_unknown(saved: LabRecord, sent: Sent | None, given: LabRecord | None) -> bool:
    """Return whether the controller has to derive again, with the saved record.

    It did not use that record, and derived something else. given: the record in sent.
    """
    if sent is None or given is None or saved.allocations == given.allocations:
        return False
    assumed: str | None = sent["digest"]
    based_on: int = sent["based_on"]
    return digest(saved.allocations) != assumed if assumed else saved.revision > based_on


def updated(saved: LabRecord, given: LabRecord | None) -> LabRecord:
    """Return the record of a lab with what the controller derived."""
    if given is None:
        return saved
    is_same = saved.allocations == given.allocations
    revision = max(saved.revision, given.revision) if is_same else given.revision
    return given._replace(origin=saved.origin, revision=revision)
