# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The record of a lab as a run on the controller knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._lab import lab_record
from ansible_collections.vlab.qemu.plugins.module_utils._lab.origin import kept_origin
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.record_cache import RecordCache
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.allocations import allocations
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.endpoints import UdpEndpoints
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kept import Kept
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.placement import Facts


class UsedRecord:
    """The newest record of a lab that is known.

    cache: of the record. facts: what qemu_lab_info found, empty if it did not run. sent: the text
    of the record that this host has sent, because it did not agree with what an earlier attempt
    assumed, or because it was queried. Without any of these, the record in the cache is assumed.
    """

    def __init__(
        self, cache: RecordCache, facts: Facts, sent: str | None, is_queried: bool = False
    ) -> None:
        self.is_cached = not facts and not is_queried
        self._is_assumed = not facts and sent is None
        if self._is_assumed:
            self._record = cache.read()
        else:
            texts = [sent, *(found.get("record") for found in facts.values())]
            self._record = max(
                map(lab_record.from_text, texts),
                key=lambda record: (record.revision, str(record.allocations)),
            )
        self.kept = Kept(self._record.allocations)

    def derived(
        self, topology: Topology, endpoints: UdpEndpoints, origin: str | None
    ) -> lab_record.Sent:
        """Return what the hosts of the lab are to record. origin: of the topology."""
        record, found = self._record, allocations(topology, endpoints)
        revision = max(1, record.revision + (found != record.allocations))
        origin = kept_origin(record.origin, origin)
        return lab_record.to_send(
            lab_record.LabRecord(topology.name, origin, revision, found),
            record.revision,
            record.allocations if self._is_assumed else None,
        )

    def remember(self, cache: RecordCache, sent: lab_record.Sent | None) -> None:
        """Keep the record of a host, if the next run cannot derive it from the topology alone.

        sent: what the host has recorded, None if it has recorded nothing. Only if is_cached.
        """
        if self._record.revision:
            cache.write(self._record if sent is None else lab_record.from_sent(sent))


def existing_vms(params: dict[str, Any], hosts: list[str], facts: Facts) -> set[str] | None:
    """Return the VMs of the lab that keep their addresses after this run without a node.

    None: any, because not all hosts have been queried.
    """
    if params["purge"] and params.get("nodes") is None:
        return set()
    if not set(hosts) <= set(facts):
        return None
    return {name for found in facts.values() for name in found.get("vms", {})}


def queried_facts(
    hostvars: Mapping[str, Any], hosts: Sequence[str], variable: str, lab: Any
) -> dict[str, dict[str, Any]]:
    """Return the facts about a lab that qemu_lab_info found, from a variable of the play."""
    facts = {}
    for host in hosts:
        if lab and host in hostvars:
            result = hostvars[host].get(variable)
            found = result.get("hypervisor") if isinstance(result, dict) else None
            if isinstance(found, dict) and found.get("lab") == lab:
                facts[host] = found
    return facts


def queried_lab(facts: Facts) -> dict[str, Any] | None:
    """Return the origin and the VMs of the lab on the hosts that have been queried, if any."""
    if not facts:
        return None
    records = [
        lab_record.from_text(found.get("record")) for found in facts.values() if found.get("vms")
    ]
    newest = max(
        (record for record in records if record.origin),
        key=lambda record: record.revision,
        default=lab_record.LabRecord(),
    )
    vms = sorted({name for found in facts.values() for name in found.get("vms", {})})
    return {"origin": newest.origin, "vms": vms}
