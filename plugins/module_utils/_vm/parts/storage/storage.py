# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Disks: their options, and how they are added, grown and removed while the guest runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    FILE,
    LIVE,
    RESTART,
    Change,
    Item,
    changed_keys,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    MonitorError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import remove_file
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import format_size
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import encryption, images
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import (
    blockdev,
    device,
    object_add,
    qom_object,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses, buses
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import (
    by_name,
    merge_items,
    unrecorded,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import (
    Option,
    Part,
    written_items,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import (
    bases,
    disks,
    own_images,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disk_options import (
    DISK_DEFAULTS,
    DISK_OPTIONS,
    DISK_SPEC,
    normalise_disk,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disks import (
    Disk,
    slot_key,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.unplug import delete_node, unplug

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.addresses import SlotRequest
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Params,
        Result,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation

# A new VM without a boot source gets a blank disk.
_BLANK = {"name": "disk0", "size": "8G"}
BOOTABLE = ("disks", "cdroms", "floppies", "kernel", "bios_image")
_OVERLAY_FORMATS = ("qcow2", "qed", "qcow")
# The parts of definition["slots"] that are on the controllers of disks.
_SLOT_GROUPS = ("disks", "cdroms", "floppies", "seeds")
_ALWAYS_REPORTED = ("name", "bus", "format")
_OPEN_TIMEOUT = 120.0  # seconds


class Storage(Part):
    """The part that owns the disks."""

    name = "storage"
    image_options = ("disks.path", "disks.backing_file", "disks.backing_store")
    options = {
        "disks": Option(
            {"type": "list", "elements": "dict", "options": DISK_SPEC},
            [],
            item_defaults=DISK_DEFAULTS,
            written=lambda items: written_items(items, DISK_OPTIONS),
        ),
        "scsi_controller": Option(
            {"type": "str", "choices": list(disks.SCSI_CONTROLLERS)}, "virtio"
        ),
    }

    def reconcile_observed(self, observation: Observation) -> None:
        """Remove disks that QEMU does not have; add those that a killed run did not record."""
        running, saved = observation.running, observation.saved or {}
        running["disks"] = [
            disk
            for disk in running["disks"]
            # Flash has no device.
            if disk["bus"] == "pflash" or _device_id(running, disk["name"]) in observation.devices
        ]
        for disk in unrecorded("disks", observation, _device_id):
            running["disks"].append(disk)
            key = slot_key(disk["name"])
            running["slots"][key] = saved["slots"][key]

    def merge(self, saved: Definition, given: Params) -> Definition:
        desired = given.get("disks")
        if desired is None and not saved and not any(given.get(key) for key in BOOTABLE):
            desired = [_BLANK]
        merged = super().merge(saved, given)
        merged["disks"] = merge_items(
            "disks",
            saved.get("disks", []),
            desired,
            DISK_DEFAULTS,
            normalise_disk,
            given.get("purge_disks"),
            given.get("remove_disks") or (),
        )
        return merged

    def complete(self, desired: Definition, saved: Definition, given: Params, host: Host) -> None:
        saved_disks = by_name(saved.get("disks", []))
        new = []
        for disk in desired["disks"]:
            path, old = "disks[%s]" % disk["name"], saved_disks.get(disk["name"])
            if disk["bus"] == "ide" and desired["family"] == "none":
                disk["bus"] = "virtio"
            disks.check(disk, path, desired["family"], host.capabilities)
            if not old or _device_of(old) != _device_of(disk):
                disks.check_properties(disk, desired["family"], host)
            if disk["bus"] == "pflash" and desired["firmware"] == "uefi":
                raise OptionError(
                    path + ".bus",
                    "the flash of this machine holds its UEFI: use another bus, or firmware: bios",
                )
            _complete_formats(disk, path, host.folder)
            if old:
                _check_unchanged(path, old, disk, host.allow_shrink)
            if not old or _use(old) != _use(disk):
                _check_new(path, disk, host)
                new.append(disk)
        own_images.check(desired["disks"], new, host.folder)
        if new:
            own_images.check_other_vms(new, host.folder)
        desired["bases"] = {
            name: base
            for name, base in saved.get("bases", {}).items()
            if name in by_name(desired["disks"])
        }

    def slots(self, desired: Definition) -> list[SlotRequest]:
        return [
            (
                slot_key(disk["name"]),
                disks.slot_kind(disk["bus"], desired["family"]),
                disk["index"],
                "disks[%s].index" % disk["name"],
            )
            for disk in desired["disks"]
        ]

    def complete_with_slots(self, desired: Definition, host: Host) -> None:
        disks.check_scsi(desired, host)

    def pending(self, desired: Definition, host: Host) -> list[Change]:
        changes = []
        for disk in desired["disks"]:
            option, path = ("disks", Item(disk["name"])), bases.disk_path(host.folder, disk)
            if not os.path.lexists(path):
                changes.append(Change((*option, "image"), None, path, FILE, self.name))
            elif disk["size"] and os.path.isfile(path):
                size = host.qemu_img.virtual_size(path, disk["format"])
                if size < disk["size"]:
                    before, after = format_size(size), format_size(disk["size"])
                    changes.append(Change((*option, "size"), before, after, FILE, self.name))
        return changes

    def compare(self, running: Definition, desired: Definition) -> list[Change]:
        old, new = by_name(running["disks"]), by_name(desired["disks"])
        controller = running["scsi_controller"]
        changes = [self._removed(disk, controller) for name, disk in old.items() if name not in new]
        if controller != desired["scsi_controller"]:
            is_used = disks.has_scsi(addresses.slots_at_start(running))
            how, path = RESTART if is_used else LIVE, ("scsi_controller",)
            changes.append(
                Change(path, controller, desired["scsi_controller"], how, self.name, "none")
            )
        for name, disk in new.items():
            if name in old:
                changes += self._compare_disk(old[name], disk)
            else:
                changes.append(self._added(disk, running, desired))
        return changes

    def _removed(self, disk: Disk, scsi_controller: str) -> Change:
        reason = disks.fixed_reason(disk["bus"], scsi_controller, "unplugged")
        return Change(
            ("disks", Item(disk["name"])),
            _reported(disk),
            None,
            RESTART if reason else LIVE,
            self.name,
            "remove",
            reason,
        )

    def _compare_disk(self, old: Disk, new: Disk) -> list[Change]:
        return [
            Change(
                ("disks", Item(new["name"]), key),
                _reported_value(old, key),
                _reported_value(new, key),
                LIVE if _changes_live(key, old, new) else RESTART,
                self.name,
                key if key in _APPLY else "none",
            )
            for key in changed_keys(old, new)
            if key != "image"  # only snapshots change it
        ]

    def _added(self, disk: Disk, running: Definition, desired: Definition) -> Change:
        reason = _reason_for_restart(disk, running, desired)
        return Change(
            ("disks", Item(disk["name"])),
            None,
            _reported(disk),
            RESTART if reason else LIVE,
            self.name,
            "add",
            reason,
        )

    def check_start(self, desired: Definition, host: Host) -> None:
        for disk in desired["disks"]:
            option, path = "disks[%s]" % disk["name"], bases.disk_path(host.folder, disk)
            self._check_base(disk, desired, host)
            disks.check_properties(disk, desired["family"], host)
            disks.check_secret(disk, option, path)
            if disk["secret_file"]:
                encryption.check_secret_file(option + ".secret_file", disk["secret_file"])
            image = disk["backing_file"] or path
            if os.path.lexists(image):
                bases.verify_checksums(option, disk, image, host.folder.host, remember=False)

    @staticmethod
    def _check_base(disk: Disk, desired: Definition, host: Host) -> bases.BaseRecord | None:
        """Check the base image of a disk; return its record, None before the overlay is created."""
        exists = os.path.lexists(bases.disk_path(host.folder, disk))
        recorded = desired["bases"].get(disk["name"]) if exists else None
        if disk["backing_file"]:
            bases.check_base("disks[%s]" % disk["name"], disk, recorded)
        return recorded

    def prepare(self, desired: Definition, host: Host) -> list[str]:
        return [
            action for disk in desired["disks"] for action in self._prepare(disk, desired, host)
        ]

    def _prepare(self, disk: Disk, desired: Definition, host: Host) -> list[str]:
        """Create or grow the image of a disk, over its base image; return the actions."""
        option, path = "disks[%s]" % disk["name"], bases.disk_path(host.folder, disk)
        recorded = self._check_base(disk, desired, host)
        if disk["secret_file"]:
            encryption.check_secret_file(option + ".secret_file", disk["secret_file"])
        has_checksum = disk["checksum"] or disk["checksum_first_mib"]
        if disk["backing_file"]:
            bases.verify_checksums(option, disk, disk["backing_file"], host.folder.host)
        if not os.path.lexists(path):
            if disk["path"] and has_checksum and not disk["backing_file"]:
                # The user expects an existing image: this raises the error.
                images.check_readable(option + ".path", path)
            if disk["backing_file"]:
                desired["bases"][disk["name"]] = bases.record_base(disk)
            return [bases.make_image(option, disk, path, host.qemu_img)]
        images.check_readable(option + ".path", path)
        actions = []
        if disk["backing_file"]:
            followed = bases.follow_base(option, disk, path, recorded, host.qemu_img)
            actions += [followed] if followed else []
            if followed or not recorded:
                desired["bases"][disk["name"]] = bases.record_base(disk)
        else:
            bases.verify_checksums(option, disk, path, host.folder.host)
        if disk["size"] is not None:
            actions += self._resize(option, disk, path, host)
        return actions

    @staticmethod
    def _resize(option: str, disk: Disk, path: str, host: Host) -> list[str]:
        size, secret = host.qemu_img.virtual_size(path, disk["format"]), disk["secret_file"]
        before, after = format_size(size), format_size(disk["size"])
        if disk["size"] > size:
            host.qemu_img.resize(path, disk["size"], format=disk["format"], secret=secret)
            return ["grow %s from %s to %s" % (path, before, after)]
        if disk["size"] < size and host.allow_shrink:
            host.qemu_img.resize(
                path, disk["size"], shrink=True, format=disk["format"], secret=secret
            )
            return ["shrink %s from %s to %s" % (path, before, after)]
        if disk["size"] < size:
            raise OptionError(
                option + ".size",
                "%s is %s; making it %s would cut data off. If that is wanted, use qemu_disk with"
                " allow_shrink while the VM is stopped" % (path, before, after),
            )
        return []

    def apply(self, change: Change, desired: Definition, live: Live) -> None:
        if change.verb == "none":
            return
        definition = live.last_with("disks", change.item) if change.verb == "remove" else desired
        disk = by_name(definition["disks"])[change.item]
        _APPLY[change.verb](self, disk, _device_id(definition, change.item), desired, live)

    def _apply_add(self, disk: Disk, identifier: str, desired: Definition, live: Live) -> None:
        self._delete_backends(disk, identifier, live)
        self._prepare(disk, desired, live.host)
        if disk["snapshot"]:
            self._make_temporary(disk, live.host)
        slot = desired["slots"][slot_key(disk["name"])]
        try:
            if disk["secret_file"]:
                secret = disks.secret(disk, identifier)
                live.monitor.execute(
                    "object-add", object_add(secret, live.capabilities.json_object)
                )
            if disk["limits"]:
                group = disks.throttle_group(disk, identifier)
                live.monitor.execute("object-add", object_add(group, live.capabilities.json_object))
            # To derive the keys of LUKS takes QEMU seconds of processor time.
            timeout = _OPEN_TIMEOUT if disk["secret_file"] else None
            node = _block_node(disk, identifier, live.folder)
            live.monitor.execute("blockdev-add", node, timeout=timeout)
            live.monitor.execute(
                "device_add",
                disks.device(disk, identifier, slot, desired["family"], live.host.arch),
            )
        except MonitorError:
            # Half a disk would make the next attempt fail.
            self._delete_backends(disk, identifier, live)
            raise
        live.refresh_devices()

    def _apply_remove(self, disk: Disk, identifier: str, desired: Definition, live: Live) -> None:
        unplug(live, identifier, "disks[%s]" % disk["name"])
        self._delete_backends(disk, identifier, live)

    @staticmethod
    def _delete_backends(disk: Disk, identifier: str, live: Live) -> None:
        """Delete the backends of a disk without a device; QEMU refuses those that do not exist."""
        delete_node(live, identifier)
        objects = [disks.group_id(identifier)]
        objects += [disks.secret_id(identifier)] if disk["secret_file"] else []
        live.monitor.batch([("object-del", {"id": name}) for name in objects])

    def _apply_size(self, disk: Disk, identifier: str, desired: Definition, live: Live) -> None:
        if disk["size"] is not None:
            node = disks.root_node(live.monitor, identifier)
            live.monitor.execute("block_resize", {"node-name": node, "size": disk["size"]})

    def _apply_limits(self, disk: Disk, identifier: str, desired: Definition, live: Live) -> None:
        live.monitor.execute(
            "qom-set",
            {
                "path": "/objects/" + disks.group_id(identifier),
                "property": "limits",
                "value": disks.throttle_limits(disk["limits"]),
            },
        )

    def delete_files(self, change: Change, running: Definition, host: Host) -> None:
        """Delete the image of a removed disk if it belongs to the VM."""
        disk = by_name(running["disks"])[change.item]
        if bases.is_owned(host.folder, disk):
            remove_file(bases.disk_path(host.folder, disk))
        remove_file(_temporary(host.folder, disk))

    def before_launch(self, desired: Definition, host: Host) -> None:
        """Create a temporary overlay for each disk in snapshot mode."""
        for disk in desired["disks"]:
            if disk["snapshot"]:
                self._make_temporary(disk, host)

    @staticmethod
    def _make_temporary(disk: Disk, host: Host) -> None:
        temporary = _temporary(host.folder, disk)
        remove_file(temporary)
        host.qemu_img.overlay(
            temporary,
            bases.disk_path(host.folder, disk),
            disk["format"],
            secret=disk["secret_file"],
        )

    def arguments(self, desired: Definition, host: Host) -> list[str]:
        family = desired["family"]
        kinds = {
            slot["kind"]
            for key, slot in desired["slots"].items()
            if key.partition("/")[0] in _SLOT_GROUPS
        }
        words = []
        scsi_controller = desired["scsi_controller"]
        for controller in disks.controllers(kinds, family, host.arch, scsi_controller):
            words += device(controller)
        for disk in desired["disks"]:
            slot = desired["slots"][slot_key(disk["name"])]
            identifier = addresses.identifier(slot)
            if disk["secret_file"]:
                words += qom_object(disks.secret(disk, identifier))
            if disk["limits"]:
                words += qom_object(disks.throttle_group_object(disk, identifier))
            words += blockdev(_block_node(disk, identifier, host.folder))
            properties = disks.device(disk, identifier, slot, family, host.arch)
            if properties:
                words += device(properties)
            else:
                host.machine_properties["pflash%d" % slot["index"]] = identifier
        return words

    def report(self, definition: Definition, observation: Observation, result: Result) -> None:
        result["scsi_controller"] = definition["scsi_controller"]
        result["disks"] = [
            _report_of(definition, observation.folder, disk) for disk in definition["disks"]
        ]


# The method that makes each kind of change of a running disk.
_APPLY = {
    "add": Storage._apply_add,
    "remove": Storage._apply_remove,
    "size": Storage._apply_size,
    "limits": Storage._apply_limits,
}


def _device_id(definition: Definition, name: str) -> str:
    return addresses.identifier(definition["slots"][slot_key(name)])


def _complete_formats(disk: Disk, path: str, folder: Folder) -> None:
    """Detect the formats that were not given."""
    image = bases.disk_path(folder, dict(disk, format=disk["format"] or "qcow2"))
    if not disk["format"]:
        exists = disk["path"] and os.path.isfile(image)
        disk["format"] = bases.detect_format(path + ".path", image) if exists else "qcow2"
    base = disk["backing_file"]
    if base and disk["format"] not in _OVERLAY_FORMATS:
        raise OptionError(path + ".format", "an overlay cannot be %s: use qcow2" % disk["format"])
    if base and not disk["backing_format"] and os.path.isfile(base):
        disk["backing_format"] = bases.detect_format(path + ".backing_file", base)


def _check_unchanged(path: str, old: Disk, disk: Disk, allow_shrink: bool) -> None:
    for key in ("path", "format"):
        if old[key] != disk[key]:
            raise OptionError(
                "%s.%s" % (path, key),
                "the disk has %s %r: it cannot become %r. Remove the disk first, or use qemu_disk"
                " to convert it" % (key, old[key], disk[key]),
            )
    if bool(old["backing_file"]) != bool(disk["backing_file"]):
        raise OptionError(
            path + ".backing_file",
            "an existing disk cannot %s: remove it first, or use qemu_disk"
            % ("become an overlay" if disk["backing_file"] else "lose its base"),
        )
    if not allow_shrink and _shrinks(old, disk):
        raise OptionError(
            path + ".size",
            "the disk has %s; making it %s would cut data off. If that is wanted, use qemu_disk"
            " with allow_shrink while the VM is stopped"
            % (format_size(old["size"]), format_size(disk["size"])),
        )


def _shrinks(old: Disk, new: Disk) -> bool:
    return bool(old["size"] and new["size"] and new["size"] < old["size"])


def _changes_live(key: str, old: Disk, new: Disk) -> bool:
    """Return whether a change of a suboption needs no restart of a running VM."""
    if key == "limits" and not (old["limits"] and new["limits"]):
        return False  # the throttle group must exist
    if key == "size" and _shrinks(old, new):
        return False
    return key in DISK_OPTIONS and DISK_OPTIONS[key].how in (LIVE, FILE)


def _reason_for_restart(disk: Disk, running: Definition, desired: Definition) -> str:
    """Return why a disk cannot be added to a running VM; an empty text if it can."""
    slot, family = desired["slots"][slot_key(disk["name"])], desired["family"]
    slots = addresses.slots_at_start(running)
    reason = disks.fixed_reason(disk["bus"], running["scsi_controller"], "plugged in")
    if reason:
        return reason
    if family == "none":
        return "this machine does not support adding devices while it runs"
    if slot["kind"] == "pci":
        if addresses.bus_exists(family, slots, addresses.pci(family, slot)):
            return ""
        return "the running machine has no free PCI bus for it"
    if any(other["kind"] == slot["kind"] for other in slots.values()) or (
        slot["kind"] == "usb" and buses.has_usb(running, slots)
    ):
        return ""
    return "the running machine has no %s controller" % slot["kind"]


def _device_of(disk: Disk) -> tuple[str, dict[str, Any]]:
    """Return what decides whether the properties of a disk are possible."""
    return disk["bus"], disk["properties"]


def _use(disk: Disk) -> tuple[Any, ...]:
    """Return what determines how a disk uses images."""
    return disk["path"], disk["backing_file"], disk["secret_file"], own_images.writes(disk)


def _check_new(path: str, disk: Disk, host: Host) -> None:
    """Check the files of a disk that is new, or uses other images. Raises a VlabError."""
    image = bases.disk_path(host.folder, disk)
    if disk["path"]:
        bases.check_content(path + ".path", disk, image)
    if disk["backing_file"]:
        bases.check_content(path + ".backing_file", disk, disk["backing_file"])
        if not os.path.lexists(image):
            bases.check_size(path, disk, host)
    disks.check_secret(disk, path, image)


def _temporary(folder: Folder, disk: Disk) -> str:
    """Return the path of a disk's temporary overlay.

    No image of a disk has this name, because those end with their format.
    """
    return folder.file("%s.temporary" % disk["name"])


def _block_node(disk: Disk, identifier: str, folder: Folder) -> dict[str, Any]:
    if not disk["snapshot"]:
        return disks.block_node(disk, identifier, bases.disk_path(folder, disk))
    overlay = dict(disk, format="qcow2", read_only=False)
    return disks.block_node(overlay, identifier, _temporary(folder, disk))


def _layers_under(folder: Folder, disk: Disk) -> list[str]:
    """Return the layers of snapshots under the image of a disk."""
    path = bases.disk_path(folder, disk)
    if not disk.get("image") or not os.path.isfile(path):
        return []
    try:
        return bases.layers_of(path)[1:]
    except ImageError:
        return []


def _report_of(definition: Definition, folder: Folder, disk: Disk) -> dict[str, Any]:
    layers = _layers_under(folder, disk)
    return dict(
        _reported(disk),
        path=bases.disk_path(folder, disk),
        id=_device_id(definition, disk["name"]),
        layers=len(layers),
        layers_bytes=sum(os.stat(path).st_blocks * 512 for path in layers if os.path.exists(path)),
    )


def _reported_value(disk: Disk, key: str) -> Any:
    value = disk.get(key)
    return format_size(value) if key == "size" and value else value


def _reported(disk: Disk) -> dict[str, Any]:
    """Return a disk as it is reported: without suboptions that have their default."""
    return {
        key: _reported_value(disk, key)
        for key, value in disk.items()
        # The name that a snapshot gave the image is part of the path.
        if key != "image" and (key in _ALWAYS_REPORTED or value != DISK_DEFAULTS.get(key))
    }
