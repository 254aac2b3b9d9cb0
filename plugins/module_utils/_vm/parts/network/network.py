# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""NICs: their options, and how they are added, changed and removed while the guest runs."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    LIVE,
    RESTART,
    Change,
    Item,
    changed_keys,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    MonitorError,
    OptionError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.netdev_options import typed
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import (
    device,
    netdev,
    qom_object,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import (
    addresses,
    buses,
    dhcp_programs,
    wires,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import (
    by_name,
    merge_items,
    unrecorded,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.confinement import MAY_SPAWN
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import (
    backends,
    capture_changes,
    dhcp_changes,
    forwards,
    link_changes,
    links,
    macs,
    neighbours,
    nic_checks,
    nic_devices,
    path_mtu,
    taps,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.captures import (
    live_folder,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_devices import (
    Nic,
    NicIds,
    device_id,
    has_carrier,
    nic_ids,
    slot_key,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_options import (
    NIC_DEFAULTS,
    NIC_OPTIONS,
    NIC_SPEC,
    NO_LINK,
    VIRTIO_PROPERTIES,
    normalise_nic,
    with_saved_links,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import (
    Option,
    Part,
    left_out,
    written_items,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.unplug import unplug

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.addresses import SlotRequest
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Params,
        Result,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import PortRequest

# Always reported, also with their default.
_ALWAYS_REPORTED = ("model", "link", "link_down")
# The order in which live changes of one NIC are applied.
_LIVE_ORDER = [name for name, option in NIC_OPTIONS.items() if option.how == LIVE]


class Network(Part):
    """The part that owns the NICs."""

    name = "network"
    options = {
        "nics": Option(
            {
                "type": "list",
                "elements": "dict",
                "options": dict({"name": {"type": "str", "required": True}}, **NIC_SPEC),
            },
            [],
            item_defaults=NIC_DEFAULTS,
            written=lambda nics: written_items(nics, NIC_OPTIONS),
        ),
        "mac_base": Option(
            {"type": "str"},
            normalise=lambda path, value: macs.normalise(path, value) if value else None,
            written=left_out,
        ),
        "mac_copy_from": Option({"type": "str"}, written=left_out),
    }

    def reconcile_observed(self, observation: Observation) -> None:
        """Remove NICs that QEMU does not have; add those that a killed run did not record."""
        running, saved = observation.running, observation.saved or {}
        running["nics"] = [
            nic for nic in running["nics"] if device_id(running, nic["name"]) in observation.devices
        ]
        for nic in unrecorded("nics", observation, device_id):
            # The state of its backend is unknown.
            link = nic["link"] if links.is_direct(nic["link"]) else dict(NO_LINK, unknown=True)
            running["nics"].append(dict(nic, link=link, capture=None))
            key = slot_key(nic["name"])
            for kept in {key, buses.usb_key(key)} & set(saved["slots"]):
                running["slots"][kept] = saved["slots"][kept]
        link_changes.observe(observation)
        dhcp_changes.observe(observation)
        capture_changes.observe(observation)

    def merge(self, saved: Definition, given: Params) -> Definition:
        merged = super().merge(saved, {key: value for key, value in given.items() if key != "nics"})
        merged["nics"] = merge_items(
            "nics",
            saved.get("nics", []),
            with_saved_links(given.get("nics"), saved.get("nics", [])),
            NIC_DEFAULTS,
            normalise_nic,
            given.get("purge_nics"),
            given.get("remove_nics") or (),
        )
        return merged

    def complete(self, desired: Definition, saved: Definition, given: Params, host: Host) -> None:
        if len(desired["nics"]) > addresses.MAX_NICS:
            raise OptionError(
                "nics",
                "%d NICs are too many: %d at most" % (len(desired["nics"]), addresses.MAX_NICS),
            )
        self._clear_derived_macs(desired, saved, given, host)
        other = desired["mac_copy_from"]
        copied = by_name(host.other_definition(other, "mac_copy_from")["nics"]) if other else {}
        before = by_name(saved.get("nics", []))
        for nic in desired["nics"]:
            path = "nics[%s]" % nic["name"]
            nic["model"] = nic_checks.complete_model(path, nic, desired, host)
            if not nic["mac"]:
                nic["mac"] = copied.get(nic["name"], {}).get("mac")
            self._check_virtio(path, nic)
            self._check_link(path, nic, desired, host)
            self._check_capture(path + ".capture", nic)
            old = before.get(nic["name"], NIC_DEFAULTS)
            if (old["model"], old["properties"]) != (nic["model"], nic["properties"]):
                nic_checks.check_properties(nic, host)
        desired["usb_nics"] = [
            nic["name"]
            for nic in desired["nics"]
            if buses.needs_usb_port(nic["model"], nic["properties"], desired, host)
        ]

    @staticmethod
    def _clear_derived_macs(
        desired: Definition, saved: Definition, given: Params, host: Host
    ) -> None:
        """Remove the MACs that the former mac_base, or names, gave: they follow a new mac_base."""
        old_base = saved.get("mac_base")
        if desired["mac_base"] == old_base:
            return
        explicit = {nic["name"] for nic in given.get("nics") or () if nic.get("mac")}
        for nic in desired["nics"]:
            slot = saved.get("slots", {}).get(slot_key(nic["name"]))
            if nic["mac"] and slot and nic["name"] not in explicit:
                old = macs.default(old_base, slot["index"], host.folder, nic["name"])
                if nic["mac"] == old:
                    nic["mac"] = None

    @staticmethod
    def _check_virtio(path: str, nic: Nic) -> None:
        if nic_devices.is_virtio(nic["model"]):
            return
        if nic["link"].get("queues", 1) > 1:
            raise OptionError(
                path + ".link.queues",
                "only virtio NICs support several queues, not %s" % nic["model"],
            )
        for key in VIRTIO_PROPERTIES:
            if nic[key] and nic[key] != NIC_DEFAULTS[key]:
                raise OptionError(
                    "%s.%s" % (path, key), "only virtio NICs support it, not %s" % nic["model"]
                )

    @staticmethod
    def _check_link(path: str, nic: Nic, desired: Definition, host: Host) -> None:
        if nic["link"].get("peer") == "%s:%s" % (desired["name"], nic["name"]):
            raise OptionError(path + ".link.peer", "a NIC cannot be connected to itself")
        if nic["link"]["type"] != "none":
            kind = backends.check(nic["link"], host.capabilities, path + ".link")
            if nic["link"].get("options"):
                nic["link"]["options"] = typed(
                    path + ".link.options",
                    nic["link"]["options"],
                    host.netdev_options.get(kind, {}),
                    kind,
                )

    @staticmethod
    def _check_capture(path: str, nic: Nic) -> None:
        if not nic["capture"]:
            return
        if nic["link"]["type"] == "none":
            raise OptionError(
                path,
                "the NIC is not connected: there is nothing to capture; give it a link first",
            )
        if links.is_direct(nic["link"]):
            raise OptionError(
                path, "QEMU does not see the frames of a link with vhost or several queues"
            )

    def slots(self, desired: Definition) -> list[SlotRequest]:
        return [
            (slot_key(nic["name"]), "nic", nic["index"], "nics[%s].index" % nic["name"])
            for nic in desired["nics"]
        ] + [
            (buses.usb_key(slot_key(name)), "usb", None, "nics[%s].model" % name)
            for name in desired.get("usb_nics", ())
        ]

    def complete_with_slots(self, desired: Definition, host: Host) -> None:
        """Give a MAC address to each NIC without one: mac_base counts by slot."""
        for nic in desired["nics"]:
            if not nic["mac"]:
                index = desired["slots"][slot_key(nic["name"])]["index"]
                nic["mac"] = macs.default(desired["mac_base"], index, host.folder, nic["name"])
        owners: dict[str, str] = {}
        for nic in desired["nics"]:
            if nic["mac"] in owners:
                raise OptionError(
                    "nics[%s].mac" % nic["name"],
                    "%s is also the MAC of %s" % (nic["mac"], owners[nic["mac"]]),
                )
            owners[nic["mac"]] = nic["name"]

    def compare(self, running: Definition, desired: Definition) -> list[Change]:
        old, new = by_name(running["nics"]), by_name(desired["nics"])
        changes = [
            Change(("nics", Item(name)), _reported(nic), None, LIVE, self.name, "remove")
            for name, nic in old.items()
            if name not in new
        ]
        for name, nic in new.items():
            if name in old:
                changes += self._compare_nic(old[name], nic, _may_spawn(running))
            else:
                changes.append(self._added(nic, running, desired))
        changes += [
            Change((key,), running.get(key), desired.get(key), LIVE, self.name, "none")
            for key in ("mac_base", "mac_copy_from")
            if running.get(key) != desired.get(key)
        ]
        changes += link_changes.dead_wires(running, desired, self.name)
        return changes + capture_changes.dead_rotation(running, desired, self.name)

    def _compare_nic(self, old: Nic, new: Nic, may_spawn: bool) -> list[Change]:
        changed = changed_keys(old, new)
        live = [key for key in _LIVE_ORDER if key in changed]
        changes = []
        for key in live + [key for key in changed if key not in live]:
            how, reason = LIVE if key in live else RESTART, ""
            if key == "link":
                reason = links.restart_reason(old["link"], new["link"], may_spawn)
                how = RESTART if reason else LIVE
            path = ("nics", Item(new["name"]), key)
            changes.append(Change(path, old.get(key), new.get(key), how, self.name, key, reason))
        return changes

    def _added(self, nic: Nic, running: Definition, desired: Definition) -> Change:
        family = desired["family"]
        key, slots = slot_key(nic["name"]), addresses.slots_at_start(running)
        address = addresses.pci(family, desired["slots"][key])
        reason = links.spawn_reason(nic["link"], _may_spawn(running))
        if buses.usb_key(key) in desired["slots"]:
            if not buses.has_usb(running, slots):
                reason = "the running machine has no USB controller for it"
        elif family == "none" or not addresses.bus_exists(family, slots, address):
            reason = "the running machine has no free PCI bus for it"
        return Change(
            ("nics", Item(nic["name"])),
            None,
            _reported(nic),
            RESTART if reason else LIVE,
            self.name,
            "add",
            reason,
        )

    def check_start(self, desired: Definition, host: Host) -> None:
        for nic in desired["nics"]:
            self._check_host(nic, desired)
            nic_checks.check_properties(nic, host)
            _warn_of_path(nic, host)

    def check_live(self, changes: list[Change], desired: Definition, pid: int) -> None:
        nics = by_name(desired["nics"])
        for change in changes:
            if change.verb in ("add", "link"):
                self._check_host(nics[change.item], desired)

    @staticmethod
    def _check_host(nic: Nic, desired: Definition) -> None:
        links.check_host(nic["link"], "nics[%s].link" % nic["name"], bool(desired["wrapper"]))

    def port_requests(self, desired: Definition) -> list[PortRequest]:
        return self._port_requests(desired, private=False)

    def private_ports(self, desired: Definition) -> list[PortRequest]:
        return self._port_requests(desired, private=True)

    @staticmethod
    def _port_requests(desired: Definition, private: bool) -> list[PortRequest]:
        return [
            request
            for nic in desired["nics"]
            for request in links.port_requests(
                desired["lab"],
                desired["name"],
                nic["name"],
                nic["link"],
                "nics[%s].link" % nic["name"],
                private,
            )
        ]

    def prepare(self, desired: Definition, host: Host) -> list[str]:
        wires.end(host.folder)  # those that a killed run left would hold its ports
        dhcp_programs.end_all(host.folder)
        return []

    def release(self, definition: Definition, host: Host) -> None:
        wires.end(host.folder)
        dhcp_programs.end_all(host.folder)
        capture_changes.end_rotation(host)

    def before_launch(self, desired: Definition, host: Host) -> None:
        """Keep earlier captures: a new run of QEMU begins new files. Live ones ended with QEMU."""
        shutil.rmtree(live_folder(host.folder), ignore_errors=True)
        capture_changes.prepare(desired, host)

    def arguments(self, desired: Definition, host: Host) -> list[str]:
        host.spawns_programs = any(links.runs_programs(nic["link"]) for nic in desired["nics"])
        words = []
        for nic in desired["nics"]:
            for backend in nic_devices.backends(nic, desired, host.folder, host.capabilities):
                words += netdev(backend)
            words += device(nic_devices.device(nic, desired, host.capabilities))
            if nic["capture"]:
                words += qom_object(nic_devices.capture_filter(nic, desired, host.folder))
        return words

    def verify(self, desired: Definition, live: Live) -> None:
        """Check that the VM has the requested models. Raises MonitorError."""
        for nic in desired["nics"]:
            self._verify_nic(nic, desired, live)

    @staticmethod
    def _verify_nic(nic: Nic, desired: Definition, live: Live) -> None:
        has = live.devices.get(device_id(desired, nic["name"]))
        requested = live.capabilities.device_name(nic["model"])
        if has != requested:
            raise MonitorError(
                "nics[%s].model: %s was requested, but the running VM has %s"
                % (nic["name"], requested, has or "no such NIC")
            )

    def before_continue(self, desired: Definition, live: Live) -> None:
        link_changes.start_wires(desired, live)
        capture_changes.start_rotation(desired, live)
        for nic in desired["nics"]:
            dhcp_changes.start(nic, nic_ids(desired, nic["name"]), dhcp_changes.qemu_of(live))
            # A saved state has the carriers of that time.
            if live.host.saved_memory or not has_carrier(nic):
                name, is_up = device_id(desired, nic["name"]), has_carrier(nic)
                live.later("set_link", {"name": name, "up": is_up})

    def apply(self, change: Change, desired: Definition, live: Live) -> None:
        if change.verb == "none":
            return
        if change.verb == "wires":
            link_changes.start_wires(desired, live)
            return
        if change.verb == "rotation":
            capture_changes.start_rotation(desired, live)
            return
        definition = desired if change.verb != "remove" else live.last_with("nics", change.item)
        nic = by_name(definition["nics"])[change.item]
        if change.verb in ("add", "link"):
            _warn_of_path(nic, live.host)
        _APPLY[change.verb](self, nic, nic_ids(definition, change.item), desired, live)

    def _apply_add(self, nic: Nic, ids: NicIds, desired: Definition, live: Live) -> None:
        dhcp_changes.stop(nic["name"], ids, dhcp_changes.qemu_of(live))
        self._delete_backends(ids, live)
        capture_changes.stop_capture(nic["name"], live)  # what a killed run left
        if link_changes.is_impaired(nic):
            link_changes.set_wire(nic, desired, live)
        try:
            for backend in nic_devices.backends(nic, desired, live.folder, live.capabilities):
                live.monitor.execute("netdev_add", backend)
            dhcp_changes.start(nic, ids, dhcp_changes.qemu_of(live))
            live.monitor.execute("device_add", nic_devices.device(nic, desired, live.capabilities))
        except VlabError:
            # Half a NIC would make the next attempt fail.
            dhcp_changes.stop(nic["name"], ids, dhcp_changes.qemu_of(live))
            self._delete_backends(ids, live)
            link_changes.remove_wire(nic["name"], live)
            raise
        live.refresh_devices()
        self._verify_nic(nic, desired, live)
        link_changes.set_carrier(nic, ids, live)
        if nic["capture"]:
            capture_changes.start_capture(nic, desired, live)

    def _apply_remove(self, nic: Nic, ids: NicIds, desired: Definition, live: Live) -> None:
        unplug(live, ids.nic, "nics[%s]" % nic["name"])
        dhcp_changes.stop(nic["name"], ids, dhcp_changes.qemu_of(live))
        self._delete_backends(ids, live)
        link_changes.remove_wire(nic["name"], live)
        capture_changes.stop_capture(nic["name"], live)

    @staticmethod
    def _delete_backends(ids: NicIds, live: Live) -> None:
        """Delete the backends of a NIC without a device; QEMU refuses those that do not exist."""
        live.monitor.batch(
            [("object-del", {"id": ids.capture})]
            + [("netdev_del", {"id": name}) for name in (ids.plug, ids.link, ids.port)]
        )

    def _apply_link(self, nic: Nic, ids: NicIds, desired: Definition, live: Live) -> None:
        link_changes.change_link(nic, ids, desired, live)

    def _apply_link_down(self, nic: Nic, ids: NicIds, desired: Definition, live: Live) -> None:
        link_changes.set_carrier(nic, ids, live)

    def _apply_capture(self, nic: Nic, ids: NicIds, desired: Definition, live: Live) -> None:
        capture_changes.change_capture(nic, ids, desired, live)

    def report(self, definition: Definition, observation: Observation, result: Result) -> None:
        result["nics"], result["forwards"] = [], []
        neighbour_table = neighbours.table() if observation.alive else {}
        interfaces = taps.interfaces(definition, observation)
        for nic in definition["nics"]:
            forwarded = forwards.forwards_of(nic, definition)
            entry = _reported(nic)
            entry["carrier"] = has_carrier(nic) if observation.alive else False
            entry["slot"] = definition["slots"][slot_key(nic["name"])]["index"]
            entry["addresses"] = [
                {"address": address, "port": None, "source": "neighbours"}
                for address in neighbour_table.get(nic["mac"], ())
            ]
            if nic["name"] in interfaces:
                entry["interface"] = interfaces[nic["name"]]
            entry["addresses"] += [
                forwards.address_of(one) for one in forwarded if observation.alive
            ]
            entry["capture"] = capture_changes.report(nic, observation)
            result["forwards"] += forwarded
            result["nics"].append(entry)
        link_changes.add_report(result["nics"], observation)


# The method that makes each kind of change of a running NIC.
_APPLY = {
    "add": Network._apply_add,
    "remove": Network._apply_remove,
    "link": Network._apply_link,
    "link_down": Network._apply_link_down,
    "capture": Network._apply_capture,
}


def _may_spawn(running: Definition) -> bool:
    """Return whether the QEMU of a running VM may start programs."""
    return not running["sandbox"] or running.get(MAY_SPAWN, False)


def _warn_of_path(nic: Nic, host: Host) -> None:
    shortage = path_mtu.shortage(nic)
    if shortage:
        host.warn(shortage)


def _reported(nic: Nic) -> dict[str, Any]:
    """Return a NIC as it is reported: without suboptions that have their default."""
    return {
        key: value
        for key, value in nic.items()
        if key in _ALWAYS_REPORTED or value != NIC_DEFAULTS.get(key)
    }
