# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Plan the snapshots of one VM: pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import FILE, Change, Item
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import names_hint
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import Record

STATES = ["present", "absent", "reverted"]

# What a run keeps in a definition, and no user asks for.
_BOOKKEEPING = ("ports", "digest", "bases", "format", "bootstrap", "exec")


class SnapshotPlan(NamedTuple):
    """What to do with the snapshots of a VM, in this order.

    changes: for the user. discard: incomplete snapshots. take: whether to take the snapshot.
    revert: whether to go back to it. remove: the names of snapshots.
    """

    changes: list[Change]
    discard: list[str]
    take: bool
    revert: bool
    remove: list[str]


def plan_snapshots(
    vm: str, params: dict[str, Any], records: dict[str, Record], incomplete: list[str]
) -> SnapshotPlan:
    """Plan the snapshots of a VM.

    params: name, state, keep, purge. records: of the complete snapshots. Raises OptionError for a
    snapshot to revert to that does not exist.
    """
    name, state = params["name"], params["state"]
    take = state == "present" and name is not None and name not in records
    if state == "reverted" and name not in records:
        raise OptionError(
            "name",
            "the VM %s has no snapshot %s: %s" % (vm, name, names_hint(name, sorted(records))),
        )
    remove = _to_remove(params, records, take)
    changes = [_change(other, "incomplete", None) for other in incomplete]
    if take:
        changes.append(_change(name, None, "present"))
    if state == "reverted":
        changes.append(Change(("snapshot",), None, name, FILE))
    changes += [_change(other, "present", None) for other in remove]
    return SnapshotPlan(changes, incomplete, take, state == "reverted", remove)


def _change(name: str, before: str | None, after: str | None) -> Change:
    return Change(("snapshots", Item(name)), before, after, FILE)


def _to_remove(params: dict[str, Any], records: dict[str, Record], take: bool) -> list[str]:
    name = params["name"]
    if params["state"] == "absent":
        if name is not None:
            return [name] if name in records else []
        return sorted(records) if params["purge"] else []
    if params["state"] != "present":
        return []
    others = sorted((record["created"], other) for other, record in records.items())
    names = [other for _created, other in others if other != name]
    if params["purge"]:
        return sorted(names)
    if params["keep"] is None:
        return []
    number = len(names) - params["keep"] + (name is not None)
    return sorted(names[: max(number, 0)])


def definition_changes(current: Definition, saved: Definition) -> list[Change]:
    """Return what a return to a saved definition changes."""
    before = {key: value for key, value in current.items() if key not in _BOOKKEEPING}
    after = {key: value for key, value in saved.items() if key not in _BOOKKEEPING}
    if before == after:
        return []
    return [
        change._replace(how=FILE, reason="")
        for part in PARTS
        for change in part.compare(current, saved)
    ]


def check_loadable(record: Record, version: list[int], machine: str | None, accel: str) -> None:
    """Raise HostError if this QEMU cannot load a saved state. machine: its name of the type."""
    reasons = unloadable(record, version, machine, accel) if record["memory"] else []
    if reasons:
        raise HostError(
            "the saved memory %s cannot be loaded: %s" % (record["name"], "; ".join(reasons))
        )


def unloadable(
    record: Mapping[str, Any], version: list[int], machine: str | None, accel: str
) -> list[str]:
    """Return why this QEMU cannot load the memory of another one.

    record: machine_type, qemu_version and accel of that. machine: this QEMU's name of the type.
    """
    reasons = []
    if machine != record["machine_type"]:
        reasons.append(
            "this QEMU (%s) does not have the machine %s"
            % (".".join(map(str, version)), record["machine_type"])
        )
    if list(version) < record["qemu_version"][:2]:
        reasons.append(
            "it was saved by QEMU %s, and this is the older %s"
            % (".".join(map(str, record["qemu_version"])), ".".join(map(str, version)))
        )
    if record["accel"] and accel != record["accel"]:
        reasons.append(
            "it was saved with accel: %s, and the VM would run with %s" % (record["accel"], accel)
        )
    return reasons
