# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The origin of a lab: the topology that made its nodes, and that may change and remove them.

Two labs of one name would otherwise remove each other's nodes. An origin is a text:

  owner TEXT         the option owner
  PATH               a topology file, in a git repository REMOTE/PATH IN IT
  FOLDER/            a topology in a playbook: its folder, or the git repository of that, REMOTE/

The controller derives it, see plugin_utils/_lab/topology_origin.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, FrozenSet, Iterable, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import FILE, Change
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._lab.segments import is_removed

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._lab.node_run import NodeRun
    from ansible_collections.vlab.qemu.plugins.module_utils._lab.segments import Segment

OWNER_PREFIX = "owner "


class Ownership(NamedTuple):
    """Whether the topology of a run is that of the lab.

    recorded: the origin of the lab, None if it is not known. given: that of the topology, None for
    a run without one. vms: those of the lab on the hypervisors that answered. named: the nodes of
    the topology. allowed: whether the run may take the lab over.
    """

    lab: str
    recorded: Optional[str]
    given: Optional[str]
    vms: FrozenSet[str]
    named: FrozenSet[str]
    allowed: bool

    @property
    def is_own(self) -> bool:
        """Whether the topology is that of the lab, possibly from another path."""
        recorded, given = self.recorded, self.given
        if given is None or not self.vms:
            return True
        if recorded is None:
            # A lab that was made before labs had origins, or VMs that no topology made.
            return not self.vms.isdisjoint(self.named)
        if _is_same_place(recorded, given):
            return True
        # Another copy of the file, which loses nothing of what is there.
        file = _file_name(given)
        return file != "" and file == _file_name(recorded) and self.vms <= self.named

    @property
    def is_foreign(self) -> bool:
        """Whether the lab has another topology, and the run may not change it."""
        return not (self.is_own or self.allowed or self.recorded is None)

    @property
    def origin(self) -> str | None:
        """The origin of the lab after the run."""
        if not (self.is_own or self.allowed):
            return self.recorded
        if not self.vms and self.given is not None:
            return self.given
        return kept_origin(self.recorded, self.given)

    @property
    def changes(self) -> list[Change]:
        """What a run that takes the lab over changes in addition."""
        if self.is_own or not self.allowed:
            return []
        return [Change(("origin",), self.recorded, self.given, FILE)]

    def check(self, affected: Mapping[str, Sequence[str]]) -> None:
        """Raise OptionError if a topology of another origin would change the lab.

        affected: {"add", "change" or "remove": the nodes and segments}. VMs of an unknown origin
        may get company.
        """
        if self.recorded is None:
            affected = {verb: found for verb, found in affected.items() if verb != "add"}
        names = sorted(name for found in affected.values() for name in found)
        if self.allowed or self.is_own or not names:
            return
        actions = ["%s %s" % (verb, ", ".join(found)) for verb, found in affected.items() if found]
        raise OptionError(
            "allow_takeover",
            "the lab %s was made by %s, and this one (%s) would %s. Give this lab another name "
            "(lab_name), or set allow_takeover (lab_allow_takeover of the role) to true to make "
            "this the topology of the lab"
            % (
                self.lab,
                "another topology (%s)" % self.recorded if self.recorded else "another topology",
                self.given,
                "; ".join(actions),
            ),
            lab_origin=self.recorded,
            topology_origin=self.given,
            affected=names,
        )


def kept_origin(recorded: str | None, given: str | None) -> str | None:
    """Return the origin of a lab after a run of its own topology."""
    # A playbook's folder stays the origin for a file in it, and the other way round.
    if given is None or recorded is not None and _is_same_place(recorded, given):
        return recorded
    return given


def _is_same_place(one: str, other: str) -> bool:
    """Return whether two origins are the same, or one is the folder that the other is in."""
    return one == other or any(
        folder.endswith("/") and not folder.startswith(OWNER_PREFIX) and inner.startswith(folder)
        for folder, inner in ((one, other), (other, one))
    )


def _file_name(origin: str) -> str:
    """Return the name of the file of an origin; empty without a file."""
    return "" if origin.startswith(OWNER_PREFIX) else origin.rpartition("/")[2]


def affected_by(nodes: Mapping[str, NodeRun], segments: Iterable[Segment]) -> dict[str, list[str]]:
    """Return what a run would "remove", "change" and "add"; for a failed plan as far as it goes."""
    affected: dict[str, list[str]] = {"remove": [], "change": [], "add": []}
    for name, node in sorted(nodes.items()):
        if not node.exists:
            if node.state != "absent":
                affected["add"].append(name)
        elif not node.is_planned or node.vm.plan.changed or node.starts_later:
            affected["remove" if node.state == "absent" else "change"].append(name)
    for segment in segments:
        if segment.changes:
            verb = "change" if segment.changes_existing else "add"
            if is_removed(segment):
                verb = "remove"
            affected[verb].append("the segment %s" % segment.name)
    return affected


def ownership_of(
    lab: str,
    recorded: str | None,
    vms: FrozenSet[str],
    nodes: FrozenSet[str],
    params: Mapping[str, Any],
) -> Ownership:
    """Return whose lab it is in a run of a hypervisor's share.

    recorded, vms: of the lab on this hypervisor. nodes: those of the share. params: with what the
    controller computed: origin, placed: {node: hypervisor} of the whole topology, and queried_lab:
    {"origin", "vms"} of the lab on all hypervisors that have been queried.
    """
    queried = params.get("queried_lab") or {}
    return Ownership(
        lab,
        recorded or queried.get("origin"),
        params.get("origin"),
        vms | frozenset(queried.get("vms") or ()),
        nodes | frozenset(params.get("placed") or ()),
        bool(params.get("allow_takeover")),
    )
