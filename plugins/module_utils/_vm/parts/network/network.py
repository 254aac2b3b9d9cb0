# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""NICs: their models, addresses, links, carriers and captures, and how they come and go while the guest runs."""

from __future__ import annotations

import contextlib
import os

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
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import check_number
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import nic_models
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import (
    check_properties,
    device,
    netdev,
    object_add,
    qom_object,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import (
    links,
    macs,
    neighbours,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.captures import (
    capture_path,
    keep_older,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import (
    by_name,
    merge_items,
    unrecorded,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Option, Part
from ansible_collections.vlab.qemu.plugins.module_utils._vm.unplug import unplug

# More MSI-X cards than this run out of the guest's interrupt vectors, about 200 per x86 processor.
_MANY_NICS = 24
_NO_LINK = {"type": "none"}
_LIVE_KEYS = ("link", "link_down", "capture")

NIC_SPEC = {
    "model": {"type": "str"},
    "mac": {"type": "str"},
    "link": {"type": "dict", "options": links.SPEC},
    "link_down": {"type": "bool"},
    "capture": {
        "type": "dict",
        "options": {
            "enabled": {"type": "bool", "default": True},
            "path": {"type": "path"},
            "snaplen": {"type": "int"},
        },
    },
    "mtu": {"type": "int"},
    "index": {"type": "int"},
    "boot_index": {"type": "int"},
    "boot_rom": {"type": "bool"},
    "properties": {"type": "dict"},
}
_DEFAULTS = {
    "model": "virtio-net-pci",
    "mac": None,
    "link": _NO_LINK,
    "link_down": False,
    "capture": None,
    "mtu": None,
    "index": None,
    "boot_index": None,
    "boot_rom": False,
    "properties": {},
}


def normalise_nic(path, given):
    """What the user said of one NIC, as the definition keeps it. given: without name, None for what was not said."""
    nic = {key: value for key, value in given.items() if value is not None}
    if nic.get("mac"):
        nic["mac"] = macs.normalise(path + ".mac", nic["mac"])
    if "link" in nic:
        nic["link"] = links.normalise(path + ".link", nic["link"])
    if "capture" in nic:
        nic["capture"] = _normalise_capture(path + ".capture", nic["capture"])
    if "mtu" in nic and not (nic["mtu"] == 0 or 68 <= nic["mtu"] <= 65535):
        raise OptionError(
            path + ".mtu", "%d is not an MTU: 68 to 65535, or 0 for none" % nic["mtu"]
        )
    if "properties" in nic:
        check_properties(
            path + ".properties",
            nic["properties"],
            reserved=("driver", "id", "netdev", "mac", "bootindex"),
        )
        nic["properties"] = {
            key: value for key, value in nic["properties"].items() if value is not None
        }
    return nic


def _normalise_capture(path, given):
    if not given["enabled"]:
        return None
    if given.get("snaplen") is not None:
        check_number(path + ".snaplen", given["snaplen"], 1, (1 << 31) - 1, "a length in bytes")
    return {
        "path": os.path.abspath(given["path"]) if given.get("path") else None,
        "snaplen": given.get("snaplen"),
    }


def has_carrier(nic):
    """Whether the guest shall see a carrier."""
    return nic["link"]["type"] != "none" and not nic["link_down"]


def _device_id(definition, name):
    return _ids(definition, name)["nic"]


def _ids(definition, name):
    number = definition["slots"]["nics/%s" % name]["index"]
    return {
        "nic": "nic%d" % number,
        "port": "port%d" % number,
        "link": "link%d" % number,
        "plug": "plug%d" % number,
        "capture": "capture%d" % number,
        "hub": number,
    }


class Network(Part):
    name = "network"
    options = {
        "nics": Option(
            {
                "type": "list",
                "elements": "dict",
                "options": dict({"name": {"type": "str", "required": True}}, **NIC_SPEC),
            },
            [],
        ),
        "mac_base": Option(
            {"type": "str"},
            normalise=lambda path, value: macs.normalise(path, value) if value else None,
        ),
        "mac_copy_from": Option({"type": "str"}),
    }

    def merge(self, saved, given):
        merged = super().merge(saved, {key: value for key, value in given.items() if key != "nics"})
        merged["nics"] = merge_items(
            "nics",
            saved.get("nics", []),
            given.get("nics"),
            _DEFAULTS,
            normalise_nic,
            given.get("purge_nics"),
            given.get("remove_nics") or (),
        )
        return merged

    def complete(self, desired, saved, given, host):
        if len(desired["nics"]) > addresses.MAX_NICS:
            raise OptionError(
                "nics",
                "%d NICs are too many: %d at most" % (len(desired["nics"]), addresses.MAX_NICS),
            )
        copied = (
            by_name(host.other_definition(desired["mac_copy_from"], "mac_copy_from")["nics"])
            if desired["mac_copy_from"]
            else {}
        )
        for nic in desired["nics"]:
            path = "nics[%s]" % nic["name"]
            nic["model"] = self._model(path, nic["model"], desired, host)
            if not nic["mac"]:
                nic["mac"] = copied.get(nic["name"], {}).get("mac")
            if (
                links.is_direct(nic["link"])
                and nic["link"].get("queues", 1) > 1
                and "virtio" not in nic["model"]
            ):
                raise OptionError(
                    path + ".link.queues",
                    "only virtio NICs have several queues, not %s" % nic["model"],
                )
            if nic["link"].get("peer") == "%s:%s" % (desired["name"], nic["name"]):
                raise OptionError(path + ".link.peer", "a NIC cannot be connected to itself")
            if nic["link"]["type"] != "none":
                links.check(nic["link"], host.capabilities, path + ".link")
            if nic["mtu"] and "virtio" not in nic["model"]:
                raise OptionError(
                    path + ".mtu", "only virtio NICs tell the guest an MTU, not %s" % nic["model"]
                )
            if nic["capture"]:
                if nic["link"]["type"] == "none":
                    raise OptionError(
                        path + ".capture",
                        "the NIC is not connected: there is nothing to capture; give it a link first",
                    )
                if links.is_direct(nic["link"]):
                    raise OptionError(
                        path + ".capture",
                        "QEMU does not see the frames of a link with vhost or several queues",
                    )

    @staticmethod
    def _model(path, model, desired, host):
        if model in ("virtio", "virtio-net", "virtio-net-pci"):
            model = {"s390x": "virtio-net-ccw"}.get(
                host.arch, "virtio-net-device" if desired["family"] == "none" else "virtio-net-pci"
            )
        if host.capabilities.device_name(model) not in nic_models(host.capabilities):
            raise OptionError(
                path + ".model",
                "%s has no NIC model %r; it has %s"
                % (host.binary, model, ", ".join(nic_models(host.capabilities))),
            )
        return model

    def slots(self, desired):
        return [
            ("nics/%s" % nic["name"], "nic", nic["index"], "nics[%s].index" % nic["name"])
            for nic in desired["nics"]
        ]

    def complete_with_slots(self, desired, host):
        """Give a MAC to each NIC without one: mac_base counts by slot."""
        for nic in desired["nics"]:
            if not nic["mac"]:
                index = desired["slots"]["nics/%s" % nic["name"]]["index"]
                nic["mac"] = (
                    macs.counted(desired["mac_base"], index)
                    if desired["mac_base"]
                    else macs.derived(host.folder.lab, host.folder.name, nic["name"])
                )
        observation = {}
        for nic in desired["nics"]:
            if nic["mac"] in observation:
                raise OptionError(
                    "nics[%s].mac" % nic["name"],
                    "%s is also the MAC of %s" % (nic["mac"], observation[nic["mac"]]),
                )
            observation[nic["mac"]] = nic["name"]

    def port_requests(self, desired):
        return [
            wish
            for nic in desired["nics"]
            for wish in links.port_wishes(
                desired["lab"],
                desired["name"],
                nic["name"],
                nic["link"],
                "nics[%s].link" % nic["name"],
            )
        ]

    def compare(self, running, desired):
        changes = []
        old, new = by_name(running["nics"]), by_name(desired["nics"])
        for name in [n for n in old if n not in new]:
            changes.append(
                Change(("nics", Item(name)), _told(old[name]), None, LIVE, self.name, "remove")
            )
        for name, nic in new.items():
            path = ("nics", Item(name))
            if name not in old:
                changes.append(self._added(path, nic, running, desired))
                continue
            for key in sorted(
                changed_keys(old[name], nic),
                key=lambda k: _LIVE_KEYS.index(k) if k in _LIVE_KEYS else 9,
            ):
                how = LIVE if key in _LIVE_KEYS else RESTART
                if key == "link" and (
                    links.is_direct(old[name]["link"]) or links.is_direct(nic["link"])
                ):
                    how = RESTART
                changes.append(
                    Change(
                        (*path, key),
                        old[name].get(key),
                        nic.get(key),
                        how,
                        self.name,
                        key,
                        "vhost and several queues cannot be re-wired live"
                        if key == "link" and how == RESTART
                        else "",
                    )
                )
        changes += [
            Change((key,), running.get(key), desired.get(key), LIVE, self.name, "none")
            for key in ("mac_base", "mac_copy_from")
            if running.get(key) != desired.get(key)
        ]
        return changes

    def _added(self, path, nic, running, desired):
        address = addresses.pci(desired["family"], desired["slots"]["/".join(path)])
        fits = (
            addresses.bus_exists(desired["family"], running["slots"], address)
            and desired["family"] != "none"
        )
        return Change(
            path,
            None,
            _told(nic),
            LIVE if fits else RESTART,
            self.name,
            "add",
            "" if fits else "the running machine has no free PCI bus for it",
        )

    def reconcile_observed(self, observation):
        """A NIC that somebody took from the running VM is not there, whatever we recorded."""
        running = observation.running
        running["nics"] = [
            nic
            for nic in running["nics"]
            if _device_id(running, nic["name"]) in observation.devices
        ]
        for nic in unrecorded("nics", observation, _device_id):
            # How far that run came with what is behind the card, nobody knows.
            link = nic["link"] if links.is_direct(nic["link"]) else dict(_NO_LINK, unknown=True)
            running["nics"].append(dict(nic, link=link, capture=None))
            running["slots"]["nics/%s" % nic["name"]] = observation.saved["slots"][
                "nics/%s" % nic["name"]
            ]

    def arguments(self, desired, host):
        host.spawns_programs = any(links.runs_programs(nic["link"]) for nic in desired["nics"])
        words = []
        many = len(desired["nics"]) > _MANY_NICS
        for nic in desired["nics"]:
            ids = _ids(desired, nic["name"])
            for properties in self._backends(nic, ids, desired, host.folder, host.capabilities):
                words += netdev(properties)
            words += device(self._device(nic, ids, desired, host.capabilities, many))
            if nic["capture"]:
                words += qom_object(self._filter(nic, ids, host.folder))
        return words

    @staticmethod
    def _backends(nic, ids, desired, folder, capabilities):
        link = nic["link"]

        def backend(identifier):
            return links.backend(
                identifier,
                folder.lab,
                folder.name,
                nic["name"],
                link,
                desired["ports"],
                capabilities,
                "nics[%s].link" % nic["name"],
            )

        if links.is_direct(link):
            return [backend(ids["port"])]
        made = [{"type": "hubport", "id": ids["port"], "hubid": ids["hub"]}]
        if link["type"] != "none":
            made += [
                backend(ids["link"]),
                {"type": "hubport", "id": ids["plug"], "hubid": ids["hub"], "netdev": ids["link"]},
            ]
        return made

    @staticmethod
    def _device(nic, ids, desired, capabilities, many):
        is_pci = capabilities.device_name(nic["model"]) in capabilities.pci_devices
        is_virtio = nic["model"].startswith("virtio")
        made = {
            "driver": nic["model"],
            "id": ids["nic"],
            "netdev": ids["port"],
            "mac": nic["mac"],
            "bootindex": nic["boot_index"],
        }
        if is_pci:
            made.update(addresses.pci(desired["family"], desired["slots"]["nics/%s" % nic["name"]]))
            made["romfile"] = None if nic["boot_rom"] or nic["boot_index"] is not None else ""
        if is_virtio:
            made["host_mtu"] = nic["mtu"] or None
            queues = nic["link"].get("queues", 1)
            if queues > 1:
                made.update({"mq": True, "vectors": 2 * queues + 2} if is_pci else {"mq": True})
            elif many and is_pci:
                made["vectors"] = 0
        made.update(nic["properties"])
        return {key: value for key, value in made.items() if value is not None}

    @staticmethod
    def _filter(nic, ids, folder):
        return {
            "qom-type": "filter-dump",
            "id": ids["capture"],
            "netdev": ids["port"],
            "file": capture_path(folder, nic),
            **({"maxlen": nic["capture"]["snaplen"]} if nic["capture"]["snaplen"] else {}),
        }

    def check_start(self, desired, host):
        for nic in desired["nics"]:
            links.check_host(nic["link"], "nics[%s].link" % nic["name"])

    def before_launch(self, desired, host):
        """A new run of QEMU begins new capture files."""
        for nic in desired["nics"]:
            if nic["capture"]:
                keep_older(host.folder, capture_path(host.folder, nic))

    def before_continue(self, desired, live):
        for nic in desired["nics"]:
            if not has_carrier(nic):
                live.later("set_link", {"name": _ids(desired, nic["name"])["nic"], "up": False})

    def verify(self, desired, live):
        """The models asked for are the models that the VM has. Raises MonitorError."""
        for nic in desired["nics"]:
            self._verify_one(nic, desired, live)

    @staticmethod
    def _verify_one(nic, desired, live):
        identifier = _ids(desired, nic["name"])["nic"]
        has, asked = live.devices.get(identifier), live.capabilities.device_name(nic["model"])
        if has != asked:
            raise MonitorError(
                "nics[%s].model: %s was asked for, but the running VM has %s"
                % (nic["name"], asked, has or "no such NIC")
            )

    def apply(self, change, desired, live):
        if change.verb == "none":
            return
        definition = desired if change.verb != "remove" else live.last_with("nics", change.item)
        nic = by_name(definition["nics"])[change.item]
        ids = _ids(definition, change.item)
        _CHANGES[change.verb](self, nic, ids, desired, live)

    def _apply_add(self, nic, ids, desired, live):
        links.check_host(nic["link"], "nics[%s].link" % nic["name"])
        self._clear(ids, live)
        try:
            for properties in self._backends(nic, ids, desired, live.folder, live.capabilities):
                live.monitor.execute("netdev_add", properties)
            many = len(desired["nics"]) > _MANY_NICS
            live.monitor.execute(
                "device_add", self._device(nic, ids, desired, live.capabilities, many)
            )
        except MonitorError:
            # Half a NIC would be in the way of the next try.
            self._clear(ids, live)
            raise
        live.refresh_devices()
        self._verify_one(nic, desired, live)
        live.monitor.execute("set_link", {"name": ids["nic"], "up": has_carrier(nic)})
        if nic["capture"]:
            self._start_capture(nic, ids, live)

    def _apply_remove(self, nic, ids, desired, live):
        unplug(live, ids["nic"], "nics[%s]" % nic["name"])
        self._clear(ids, live)

    @staticmethod
    def _clear(ids, live):
        """Delete what is behind a NIC that is gone, whoever took it; what is not there is refused and does no harm."""
        live.monitor.batch(
            [("object-del", {"id": ids["capture"]})]
            + [("netdev_del", {"id": ids[key]}) for key in ("plug", "link", "port")]
        )

    def _apply_link(self, nic, ids, desired, live):
        try:
            self._plug(nic, ids, desired, live)
        except MonitorError:
            # What cannot be had leaves the NIC where it was.
            with contextlib.suppress(MonitorError):
                self._plug(by_name(live.running["nics"])[nic["name"]], ids, live.running, live)
            raise

    def _plug(self, nic, ids, desired, live):
        monitor = live.monitor
        monitor.execute("set_link", {"name": ids["nic"], "up": False})
        # What a killed run left half done is cleared, too: deleting what is not there is refused and does no harm.
        monitor.batch([("netdev_del", {"id": ids["plug"]}), ("netdev_del", {"id": ids["link"]})])
        for properties in self._backends(nic, ids, desired, live.folder, live.capabilities)[1:]:
            monitor.execute("netdev_add", properties)
        if has_carrier(nic):
            monitor.execute("set_link", {"name": ids["nic"], "up": True})

    def _apply_link_down(self, nic, ids, desired, live):
        live.monitor.execute("set_link", {"name": ids["nic"], "up": has_carrier(nic)})

    def _apply_capture(self, nic, ids, desired, live):
        live.monitor.batch([("object-del", {"id": ids["capture"]})])
        if nic["capture"]:
            self._start_capture(nic, ids, live)

    def _start_capture(self, nic, ids, live):
        keep_older(live.folder, capture_path(live.folder, nic))
        live.monitor.execute(
            "object-add",
            object_add(self._filter(nic, ids, live.folder), live.capabilities.json_object),
        )

    def report(self, definition, observation, told):
        told["nics"], told["forwards"] = [], []
        known = neighbours.table() if observation.alive else {}
        for nic in definition["nics"]:
            entry = _told(nic)
            ports = definition["ports"]
            entry["carrier"] = has_carrier(nic) if observation.alive else False
            entry["slot"] = definition["slots"]["nics/%s" % nic["name"]]["index"]
            entry["addresses"] = [
                {"address": address, "port": None, "source": "neighbours"}
                for address in known.get(nic["mac"], ())
            ]
            entry["capture"] = (
                dict(nic["capture"], path=capture_path(observation.folder, nic))
                if nic["capture"]
                else None
            )
            for forward in nic["link"].get("forwards", ()):
                port = ports.get(links.forward_key(nic["name"], forward))
                told["forwards"].append(dict(forward, nic=nic["name"], host_port=port))
                if observation.alive:
                    entry["addresses"].append(
                        {
                            "address": forward["host_address"].replace("0.0.0.0", "127.0.0.1"),
                            "port": port,
                            "guest_port": forward["guest_port"],
                            "source": "forward",
                        }
                    )
            told["nics"].append(entry)


# What makes each change of a running NIC.
_CHANGES = {
    "add": Network._apply_add,
    "remove": Network._apply_remove,
    "link": Network._apply_link,
    "link_down": Network._apply_link_down,
    "capture": Network._apply_capture,
}


def _told(nic):
    """A NIC as the user reads it: without what was not asked for."""
    return {
        key: value
        for key, value in nic.items()
        if key in ("model", "link", "link_down") or value != _DEFAULTS.get(key)
    }
