# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Disks: overlays and blank images, their buses, and how they come, grow and go while the guest runs."""

from __future__ import annotations

import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    FILE,
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
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import remove_file
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import format_size
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import images
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import (
    blockdev,
    device,
    object_add,
    qom_object,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import bases, disks
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import (
    by_name,
    merge_items,
    unrecorded,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
    users_of,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Option, Part
from ansible_collections.vlab.qemu.plugins.module_utils._vm.unplug import delete_node, unplug

# A VM that is told nothing to boot from gets a disk to install on.
_BLANK = {"name": "disk0", "size": "8G"}
BOOTABLE = ("disks", "cdroms", "floppies", "kernel", "bios_image")
# What may differ between two runs without the device being another one.
_IGNORED = ("checksum", "checksum_first_mib", "format_options", "backing_format")


class Storage(Part):
    name = "storage"
    options = {
        "disks": Option(
            {"type": "list", "elements": "dict", "options": disks.DISK_SPEC},
            [],
            item_defaults=disks.DEFAULTS,
        ),
    }

    def merge(self, saved, given):
        desired = given.get("disks")
        if desired is None and not saved and not any(given.get(option) for option in BOOTABLE):
            desired = [_BLANK]
        return {
            "disks": merge_items(
                "disks",
                saved.get("disks", []),
                desired,
                disks.DEFAULTS,
                disks.normalise_disk,
                given.get("purge_disks"),
                given.get("remove_disks") or (),
            )
        }

    def complete(self, desired, saved, given, host):
        known = by_name(saved.get("disks", []))
        paths = {}
        for disk in desired["disks"]:
            path = "disks[%s]" % disk["name"]
            if disk["bus"] == "ide" and desired["family"] == "none":
                disk["bus"] = "virtio"
            disks.check(disk, path, desired["family"], host.capabilities)
            if disk["bus"] == "pflash" and desired["firmware"] == "uefi":
                raise OptionError(
                    path + ".bus",
                    "the flash of this machine holds its UEFI: use another bus, or firmware: bios",
                )
            self._complete_formats(disk, path, host)
            if disk["name"] in known:
                _check_unchanged(path, known[disk["name"]], disk, host.allow_shrink)
            image = os.path.realpath(bases.disk_path(host.folder, disk))
            if image in paths:
                raise OptionError(
                    path + ".path", "%s is also the image of the disk %r" % (image, paths[image])
                )
            paths[image] = disk["name"]
            if not _same_use(known.get(disk["name"]), disk):
                _check_users(path, disk, host.folder)
        desired["bases"] = {
            name: base
            for name, base in saved.get("bases", {}).items()
            if name in by_name(desired["disks"])
        }

    @staticmethod
    def _complete_formats(disk, path, host):
        image = bases.disk_path(host.folder, dict(disk, format=disk["format"] or "qcow2"))
        if not disk["format"]:
            disk["format"] = (
                _found_format(path + ".path", image)
                if disk["path"] and os.path.isfile(image)
                else "qcow2"
            )
        if disk["backing_file"]:
            if disk["format"] not in ("qcow2", "qed", "qcow"):
                raise OptionError(
                    path + ".format", "an overlay cannot be %s: qcow2 can" % disk["format"]
                )
            if not disk["backing_format"] and os.path.isfile(disk["backing_file"]):
                disk["backing_format"] = _found_format(path + ".backing_file", disk["backing_file"])

    def slots(self, desired):
        return [
            (
                "disks/%s" % disk["name"],
                disks.slot_kind(disk["bus"], desired["family"]),
                disk["index"],
                "disks[%s].index" % disk["name"],
            )
            for disk in desired["disks"]
        ]

    def compare(self, running, desired):
        changes = []
        old, new = by_name(running["disks"]), by_name(desired["disks"])
        for name in [n for n in old if n not in new]:
            how = LIVE if disks.is_hot_plugged(old[name]["bus"]) else RESTART
            changes.append(
                Change(
                    ("disks", Item(name)),
                    _told(old[name]),
                    None,
                    how,
                    self.name,
                    "remove",
                    "" if how == LIVE else "a disk on %s cannot be unplugged" % old[name]["bus"],
                )
            )
        for name, disk in new.items():
            if name not in old:
                changes.append(self._added(disk, running, desired))
                continue
            for key in changed_keys(old[name], disk):
                how = RESTART
                if (
                    key == "size"
                    and not _shrinks(old[name], disk)
                    or key in _IGNORED
                    or key == "limits"
                    and old[name]["limits"]
                    and disk["limits"]
                ):
                    how = LIVE
                changes.append(
                    Change(
                        ("disks", Item(name), key),
                        _value(old[name], key),
                        _value(disk, key),
                        how,
                        self.name,
                        key if key in ("size", "limits") else "none",
                    )
                )
        return changes

    def _added(self, disk, running, desired):
        slot = desired["slots"]["disks/%s" % disk["name"]]
        reason = ""
        if not disks.is_hot_plugged(disk["bus"]):
            reason = "a disk on %s cannot be plugged in" % disk["bus"]
        elif desired["family"] == "none":
            reason = "this machine takes no cards while it runs"
        elif slot["kind"] == "pci":
            if not addresses.bus_exists(
                desired["family"], running["slots"], addresses.pci(desired["family"], slot)
            ):
                reason = "the running machine has no free PCI bus for it"
        elif not any(held["kind"] == slot["kind"] for held in running["slots"].values()):
            reason = "the running machine has no %s controller" % slot["kind"]
        return Change(
            ("disks", Item(disk["name"])),
            None,
            _told(disk),
            RESTART if reason else LIVE,
            self.name,
            "add",
            reason,
        )

    def reconcile_observed(self, observation):
        running = observation.running
        running["disks"] = [
            disk
            for disk in running["disks"]
            if disk["bus"] in ("pflash",)
            or _identifier(running, disk["name"]) in observation.devices
        ]
        for disk in unrecorded("disks", observation, _identifier):
            running["disks"].append(disk)
            running["slots"]["disks/%s" % disk["name"]] = observation.saved["slots"][
                "disks/%s" % disk["name"]
            ]

    def pending(self, desired, host):
        changes = []
        for disk in desired["disks"]:
            option, path = ("disks", Item(disk["name"])), bases.disk_path(host.folder, disk)
            if not os.path.lexists(path):
                changes.append(Change((*option, "image"), None, path, FILE, self.name))
            elif disk["size"] and os.path.isfile(path):
                size = bases.size_of(path, host.qemu_img)
                if size < disk["size"]:
                    changes.append(
                        Change(
                            (*option, "size"),
                            format_size(size),
                            format_size(disk["size"]),
                            FILE,
                            self.name,
                        )
                    )
        return changes

    def prepare(self, desired, host):
        done = []
        for disk in desired["disks"]:
            done += self.prepare_one(disk, desired, host)
        return done

    def check_start(self, desired, host):
        for disk in desired["disks"]:
            self._check_base(disk, desired, host)

    @staticmethod
    def _check_base(disk, desired, host):
        """What is recorded of a disk's base, which must still be true; None for an overlay that is still to be made."""
        recorded = (
            desired["bases"].get(disk["name"])
            if os.path.lexists(bases.disk_path(host.folder, disk))
            else None
        )
        if disk["backing_file"]:
            bases.check_base("disks[%s]" % disk["name"], disk, recorded)
        return recorded

    def prepare_one(self, disk, desired, host):
        """See to it that a disk has its image, over the right base and large enough; return what was done, in words."""
        option, path = "disks[%s]" % disk["name"], bases.disk_path(host.folder, disk)
        recorded = self._check_base(disk, desired, host)
        if disk["backing_file"]:
            if disk["checksum"] or disk["checksum_first_mib"]:
                bases.verify_checksums(option, disk, disk["backing_file"], host.folder.host)
        if not os.path.lexists(path):
            if (
                disk["path"]
                and (disk["checksum"] or disk["checksum_first_mib"])
                and not disk["backing_file"]
            ):
                images.check_readable(option + ".path", path)
            if disk["backing_file"]:
                desired["bases"][disk["name"]] = bases.record_base(disk)
            return [bases.make_image(option, disk, path, host.qemu_img)]
        images.check_readable(option + ".path", path)
        if not disk["backing_file"]:
            bases.verify_checksums(option, disk, path, host.folder.host)
        done = []
        if disk["backing_file"]:
            followed = bases.follow_base(option, disk, path, recorded, host.qemu_img)
            done += [followed] if followed else []
            if followed or not recorded:
                desired["bases"][disk["name"]] = bases.record_base(disk)
        if disk["size"] is not None:
            done += self._grow(option, disk, path, host)
        return done

    @staticmethod
    def _grow(option, disk, path, host):
        size = bases.size_of(path, host.qemu_img)
        if disk["size"] > size:
            host.qemu_img.resize(path, disk["size"], format=disk["format"])
            return ["grow %s from %s to %s" % (path, format_size(size), format_size(disk["size"]))]
        if disk["size"] < size and host.allow_shrink:
            host.qemu_img.resize(path, disk["size"], shrink=True, format=disk["format"])
            return [
                "shrink %s from %s to %s" % (path, format_size(size), format_size(disk["size"]))
            ]
        if disk["size"] < size:
            raise OptionError(
                option + ".size",
                "%s is %s; making it %s would cut data off. If that is wanted, use qemu_disk with "
                "allow_shrink while the VM is stopped"
                % (path, format_size(size), format_size(disk["size"])),
            )
        return []

    def before_launch(self, desired, host):
        """A disk in snapshot mode runs on an overlay that is forgotten."""
        for disk in desired["disks"]:
            if disk["snapshot"]:
                temporary = _temporary(host.folder, disk)
                remove_file(temporary)
                host.qemu_img.overlay(temporary, bases.disk_path(host.folder, disk), disk["format"])

    def arguments(self, desired, host):
        family = desired["family"]
        kinds = {
            slot["kind"]
            for key, slot in desired["slots"].items()
            if key.partition("/")[0] in ("disks", "cdroms", "floppies", "seeds")
        }
        words = [
            word for made in disks.controllers(kinds, family, host.arch) for word in device(made)
        ]
        for disk in desired["disks"]:
            slot = desired["slots"]["disks/%s" % disk["name"]]
            identifier = addresses.identifier(slot)
            if disk["limits"]:
                words += qom_object(_group_words(disk, identifier))
            words += blockdev(_node(disk, identifier, host.folder))
            made = disks.device(disk, identifier, slot, family, host.arch)
            if made:
                words += device(made)
            else:
                host.machine_properties["pflash%d" % slot["index"]] = identifier
        return words

    def apply(self, change, desired, live):
        if change.verb == "none":
            return
        definition = live.last_with("disks", change.item) if change.verb == "remove" else desired
        disk = by_name(definition["disks"])[change.item]
        slot = definition["slots"]["disks/%s" % change.item]
        _CHANGES[change.verb](self, disk, slot, addresses.identifier(slot), desired, live)

    def _apply_add(self, disk, slot, identifier, desired, live):
        self._clear(identifier, live)
        self.prepare_one(disk, desired, live.host)
        if disk["snapshot"]:
            self.before_launch({"disks": [disk]}, live.host)
        try:
            if disk["limits"]:
                live.monitor.execute(
                    "object-add",
                    object_add(disks.group(disk, identifier), live.capabilities.json_object),
                )
            live.monitor.execute("blockdev-add", _node(disk, identifier, live.folder))
            live.monitor.execute(
                "device_add",
                disks.device(disk, identifier, slot, desired["family"], live.host.arch),
            )
        except MonitorError:
            self._clear(identifier, live)
            raise
        live.refresh_devices()

    def _apply_remove(self, disk, slot, identifier, desired, live):
        unplug(live, identifier, "disks[%s]" % disk["name"])
        self._clear(identifier, live)

    @staticmethod
    def _clear(identifier, live):
        """Delete what is behind a disk that is gone; what is not there is refused and does no harm."""
        delete_node(live, identifier)
        live.monitor.batch([("object-del", {"id": disks.group_id(identifier)})])

    def _apply_size(self, disk, slot, identifier, desired, live):
        if disk["size"] is not None:
            live.monitor.execute("block_resize", {"node-name": identifier, "size": disk["size"]})

    def _apply_limits(self, disk, slot, identifier, desired, live):
        live.monitor.execute(
            "qom-set",
            {
                "path": "/objects/" + disks.group_id(identifier),
                "property": "limits",
                "value": disks.throttle(disk["limits"]),
            },
        )

    def delete_files(self, change, running, host):
        """After a disk was removed: its image goes, too, when it was the VM's own."""
        disk = by_name(running["disks"])[change.item]
        if bases.is_owned(host.folder, disk):
            remove_file(bases.disk_path(host.folder, disk))
        remove_file(_temporary(host.folder, disk))

    def report(self, definition, observation, told):
        told["disks"] = []
        for disk in definition["disks"]:
            slot = definition["slots"]["disks/%s" % disk["name"]]
            told["disks"].append(
                dict(
                    _told(disk),
                    path=bases.disk_path(observation.folder, disk),
                    id=addresses.identifier(slot),
                )
            )


# What makes each change of a running disk.
_CHANGES = {
    "add": Storage._apply_add,
    "remove": Storage._apply_remove,
    "size": Storage._apply_size,
    "limits": Storage._apply_limits,
}


def _identifier(definition, name):
    return addresses.identifier(definition["slots"]["disks/%s" % name])


def _check_unchanged(path, old, disk, allow_shrink):
    for key in ("path", "format"):
        if old[key] != disk[key]:
            raise OptionError(
                "%s.%s" % (path, key),
                "the disk has %s %r: it cannot become %r. Remove the disk first, or use qemu_disk to "
                "convert it" % (key, old[key], disk[key]),
            )
    if bool(old["backing_file"]) != bool(disk["backing_file"]):
        raise OptionError(
            path + ".backing_file",
            "an existing disk cannot %s: remove it first, or use qemu_disk"
            % ("become an overlay" if disk["backing_file"] else "lose its base"),
        )
    if not allow_shrink and old["size"] and disk["size"] and disk["size"] < old["size"]:
        raise OptionError(
            path + ".size",
            "the disk has %s; making it %s would cut data off. If that is wanted, use qemu_disk with "
            "allow_shrink while the VM is stopped"
            % (format_size(old["size"]), format_size(disk["size"])),
        )


def _found_format(option, image):
    images.check_readable(option, image)
    return bases.detect_format(image)


def _writes(disk):
    return bool(disk["path"]) and not disk["read_only"] and not disk["snapshot"]


def _same_use(old, disk):
    return bool(old) and (old["path"], old["backing_file"], _writes(old)) == (
        disk["path"],
        disk["backing_file"],
        _writes(disk),
    )


def _check_users(path, disk, folder):
    """An image that a VM writes to is no other VM's disk, and nobody's base."""
    for key in ("path", "backing_file"):
        for user in (
            users_of(folder.root, disk[key])
            if disk[key] and (key == "backing_file" or _writes(disk))
            else ()
        ):
            if user.role == "base" and key == "path":
                raise OptionError(
                    path + ".path",
                    "%s is the base image of the VM %s, and nobody may write to a base: use it as "
                    "backing_file, or set read_only or snapshot" % (disk["path"], user.vm),
                )
            if user.writes and user.vm != "%s/%s" % (folder.lab, folder.name):
                raise OptionError(
                    "%s.%s" % (path, key),
                    "%s belongs to the VM %s, and only one VM may write to an image: %s"
                    % (
                        disk[key],
                        user.vm,
                        "set read_only or snapshot, or make a copy"
                        if key == "path"
                        else "make a copy of it",
                    ),
                )


def _shrinks(old, disk):
    return bool(old["size"] and disk["size"] and disk["size"] < old["size"])


def _temporary(folder, disk):
    return folder.file(
        "%s.temporary" % disk["name"]
    )  # no other disk's image can be called so: that ends with its format


def _node(disk, identifier, folder):
    if disk["snapshot"]:
        return disks.node(
            dict(disk, format="qcow2", read_only=False), identifier, _temporary(folder, disk)
        )
    return disks.node(disk, identifier, bases.disk_path(folder, disk))


def _group_words(disk, identifier):
    group = disks.group(disk, identifier)
    # An option string names the limits with an x- before 6.2, JSON does not need that; qom-set of "limits" works everywhere.
    limits = {"x-" + key: value for key, value in group.pop("limits").items() if value}
    return dict(group, **limits)


def _value(disk, key):
    value = disk.get(key)
    return format_size(value) if key == "size" and value else value


def _told(disk):
    """A disk as the user reads it: without what was not asked for."""
    shown = {
        key: _value(disk, key) for key, value in disk.items() if value != disks.DEFAULTS.get(key)
    }
    return dict(shown, name=disk["name"], bus=disk["bus"], format=disk["format"])
