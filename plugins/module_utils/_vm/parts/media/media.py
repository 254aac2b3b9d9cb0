# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Removable media and first-boot media: cdroms, floppies, seeds, config drives, files by TFTP."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    LIVE,
    RESTART,
    Change,
    Item,
    changed_keys,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.paths import absolute_path
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import foreign_files, images
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.encryption import file_node
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import blockdev, device
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.media import seeds, tftp_files
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import (
    bases,
    disk_options,
    disks,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import by_name, merge_items
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import (
    Option,
    Part,
    left_out,
)

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

# A removable drive, as the definition keeps it.
Drive = Dict[str, Any]

_CDROM_DEFAULTS = {
    "path": None,
    "bus": None,
    "index": None,
    "boot_index": None,
    "checksum": None,
    "checksum_first_mib": None,
}
_CHECKSUMS = ("checksum", "checksum_first_mib")
_FLOPPY_DEFAULTS = {"path": None, "index": None, "read_only": False}


def _medium(path: str, given: dict[str, Any]) -> dict[str, Any]:
    medium = {key: value for key, value in given.items() if value is not None}
    if "path" in medium:
        medium["path"] = absolute_path(path + ".path", medium["path"])
    for key in _CHECKSUMS:
        if key in medium:
            medium[key] = images.normalise_checksum("%s.%s" % (path, key), medium[key])
    return medium


class Media(Part):
    """The part that owns removable drives and first-boot media."""

    name = "media"
    image_options = ("cdroms.path", "floppies.path")
    options = {
        "cdroms": Option(
            {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "path": {"type": "str"},
                    "bus": {"type": "str", "choices": ["ide", "sata", "scsi"]},
                    "index": {"type": "int"},
                    "boot_index": {"type": "int"},
                    "checksum": {"type": "str"},
                    "checksum_first_mib": {"type": "str"},
                },
            },
            [],
            item_defaults=_CDROM_DEFAULTS,
        ),
        "floppies": Option(
            {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "path": {"type": "str"},
                    "index": {"type": "int"},
                    "read_only": {"type": "bool"},
                },
            },
            [],
            item_defaults=_FLOPPY_DEFAULTS,
        ),
        **{name: Option(spec, written=left_out) for name, spec in seeds.SPECS.items()},
        tftp_files.OPTION: Option(tftp_files.SPEC, written=left_out),
    }

    def migrate(self, definition: Definition) -> None:
        seeds.migrate(definition)

    def merge(self, saved: Definition, given: Params) -> Definition:
        merged: Definition = {}
        for option, defaults in (("cdroms", _CDROM_DEFAULTS), ("floppies", _FLOPPY_DEFAULTS)):
            merged[option] = merge_items(
                option,
                saved.get(option, []),
                given.get(option),
                defaults,
                _medium,
                given.get("purge_disks"),
            )
        for option, normalise in (
            ("cloud_init", seeds.cloud_init),
            ("config_drive", seeds.config_drive),
            (tftp_files.OPTION, tftp_files.normalise),
        ):
            merged[option] = (
                saved.get(option) if given.get(option) is None else normalise(option, given[option])
            )
        return merged

    def complete(self, desired: Definition, saved: Definition, given: Params, host: Host) -> None:
        for cdrom in desired["cdroms"]:
            cdrom["bus"] = cdrom["bus"] or {"i440fx": "ide", "q35": "sata"}.get(
                desired["family"], "scsi"
            )
            disks.check_bus("cdroms[%s]" % cdrom["name"], cdrom["bus"], desired["family"])
        if desired["floppies"] and desired["family"] not in ("i440fx", "q35"):
            raise OptionError("floppies", "this machine has no floppy drive")
        for option in seeds.SPECS:
            if desired[option]:
                disks.check_bus(option, desired[option]["bus"], desired["family"])
                seeds.finish(option, desired, saved.get(option), host)
        tftp_files.finish(desired, saved.get(tftp_files.OPTION), host)

    def slots(self, desired: Definition) -> list[SlotRequest]:
        family = desired["family"]
        kept = [
            (
                "cdroms/%s" % c["name"],
                disks.slot_kind(c["bus"], family),
                c["index"],
                "cdroms[%s].index" % c["name"],
            )
            for c in desired["cdroms"]
        ]
        kept += [
            ("floppies/%s" % f["name"], "floppy", f["index"], "floppies[%s].index" % f["name"])
            for f in desired["floppies"]
        ]
        kept += [
            (
                "seeds/%s" % drive["kind"],
                disks.slot_kind(drive["bus"], family),
                None,
                drive["kind"] + ".bus",
            )
            for drive in seeds.all_of(desired)
        ]
        return kept

    def compare(self, running: Definition, desired: Definition) -> list[Change]:
        changes = []
        for option in ("cdroms", "floppies"):
            changes += self._compare_drives(option, running, desired)
        for option in seeds.SPECS:
            old, new = running.get(option), desired[option]
            if old != new:
                changes.append(seeds.change(option, old, new, self.name))
        served = running.get(tftp_files.OPTION), desired[tftp_files.OPTION]
        if served[0] != served[1]:
            changes.append(tftp_files.change(*served, self.name))
        return changes

    def _compare_drives(
        self, option: str, running: Definition, desired: Definition
    ) -> list[Change]:
        changes = []
        old, new = by_name(running[option]), by_name(desired[option])
        for name in sorted(set(old) | set(new)):
            path = (option, Item(name))
            if name not in old or name not in new:
                reason = "a drive is part of the machine; its medium can be changed live"
                before, after = old.get(name), new.get(name)
                changes.append(Change(path, before, after, RESTART, self.name, reason=reason))
                continue
            changes += self._compare_drive(path, old[name], new[name])
        return changes

    def _compare_drive(self, path: tuple[str, ...], old: Drive, new: Drive) -> list[Change]:
        keys = changed_keys(old, new)
        # Another checksum of the same path is of another medium, which QEMU must open.
        replaced = [key for key in _CHECKSUMS if key in keys and old.get(key) and new.get(key)]
        verbs = {key: "checksum" for key in _CHECKSUMS if new.get(key)}
        verbs.update(
            {"path": "medium"} if "path" in keys else dict.fromkeys(replaced[:1], "medium")
        )
        return [
            Change(
                (*path, key),
                old.get(key),
                new.get(key),
                LIVE if key in ("path", *_CHECKSUMS) else RESTART,
                self.name,
                verbs.get(key, "none"),
            )
            for key in keys
        ]

    def reconcile_observed(self, observation: Observation) -> None:
        """Take the media that QEMU reports: the guest may have ejected one."""
        for option in ("cdroms", "floppies"):
            for drive in observation.running[option]:
                identifier = addresses.identifier(
                    observation.running["slots"]["%s/%s" % (option, drive["name"])]
                )
                if identifier in observation.media:
                    drive["path"] = observation.media[identifier]

    def check_files(self, desired: Definition, options: set[str] | None) -> None:
        # Before a start check_start does this, with the checksums.
        for option in ("cdroms", "floppies"):
            if options is not None and option in options:
                for drive in desired.get(option, ()):
                    _check_medium(option, drive)

    def check_start(self, desired: Definition, host: Host) -> None:
        _check_media(desired, host, remember=False)

    def prepare(self, desired: Definition, host: Host) -> list[str]:
        done = seeds.write_images(desired, host) + tftp_files.write(desired, host)
        _check_media(desired, host)
        return done

    def state_files(self, definition: Definition, host: Host) -> list[str]:
        return [
            os.path.basename(seeds.image_path(host.folder, drive))
            for drive in seeds.all_of(definition)
        ] + ([tftp_files.FOLDER] if definition[tftp_files.OPTION] else [])

    def arguments(self, desired: Definition, host: Host) -> list[str]:
        words = []
        for option in ("cdroms", "floppies"):
            for drive in desired[option]:
                slot = desired["slots"]["%s/%s" % (option, drive["name"])]
                identifier = addresses.identifier(slot)
                if drive["path"]:
                    words += blockdev(
                        _raw_node(
                            identifier, drive["path"], option == "cdroms" or drive["read_only"]
                        )
                    )
                words += device(self._drive(option, drive, identifier, slot, desired["family"]))
        for drive in seeds.all_of(desired):
            slot = desired["slots"]["seeds/%s" % drive["kind"]]
            identifier = addresses.identifier(slot)
            words += blockdev(_raw_node(identifier, seeds.image_path(host.folder, drive), True))
            disk = dict(disk_options.DISK_DEFAULTS, bus=drive["bus"])
            properties = disks.device(disk, identifier, slot, desired["family"], host.arch)
            if properties:
                words += device(_read_only(properties))
        return words

    @staticmethod
    def _drive(
        option: str, drive: Drive, identifier: str, slot: addresses.Slot, family: str
    ) -> dict[str, Any]:
        properties = {
            "id": identifier,
            "drive": identifier if drive["path"] else None,
            "bootindex": drive.get("boot_index"),
        }
        if option == "floppies":
            properties.update({"driver": "floppy", "unit": slot["index"]})
        elif drive["bus"] == "scsi":
            properties.update(
                {
                    "driver": "scsi-cd",
                    "bus": "scsi.0",
                    "channel": 0,
                    "scsi-id": slot["index"],
                    "lun": 0,
                }
            )
        else:
            properties.update({"driver": "ide-cd", **disks.ide_unit(family, slot)})
        return properties

    def apply(self, change: Change, desired: Definition, live: Live) -> None:
        if change.verb == "seed":
            seeds.write_images(desired, live.host)
        if change.verb == tftp_files.OPTION:
            tftp_files.write(desired, live.host)
        if change.verb not in ("medium", "checksum"):
            return
        option, name = change.path[:2]
        drive = by_name(desired[option])[name]
        _check_media({"cdroms": [], "floppies": [], option: [drive]}, live.host)
        if change.verb == "medium":
            self._insert(option, drive, desired, live)

    @staticmethod
    def _insert(option: str, drive: Drive, desired: Definition, live: Live) -> None:
        """Open the medium of a drive, or leave the drive empty."""
        identifier = addresses.identifier(desired["slots"]["%s/%s" % (option, drive["name"])])
        # With force, because the guest may have locked the tray. blockdev-change-medium supports
        # force since QEMU 7.1 only.
        live.monitor.execute("eject", {"id": identifier, "force": True})
        if drive["path"]:
            read_only = option == "cdroms" or drive["read_only"]
            live.monitor.execute(
                "blockdev-change-medium",
                {
                    "id": identifier,
                    "filename": drive["path"],
                    "format": "raw",
                    "read-only-mode": "read-only" if read_only else "read-write",
                },
            )
        # The medium of the start stays open under its name until it is deleted.
        live.monitor.batch([("blockdev-del", {"node-name": identifier})])

    def report(self, definition: Definition, observation: Observation, result: Result) -> None:
        for option in ("cdroms", "floppies"):
            result[option] = [
                {
                    "name": drive["name"],
                    "path": drive["path"],
                    "id": addresses.identifier(
                        definition["slots"]["%s/%s" % (option, drive["name"])]
                    ),
                }
                for drive in definition[option]
            ]


def _check_medium(option: str, drive: Drive) -> None:
    """Raise ImageError for a medium that cannot be read, or is no image."""
    if drive["path"]:
        option = "%s[%s].path" % (option, drive["name"])
        images.check_readable(option, drive["path"])
        if option.startswith("cdroms"):  # a guest may write anything to a floppy
            foreign_files.check_content(option, drive["path"])


def _check_media(definition: Definition, host: Host, remember: bool = True) -> None:
    """Check the media and their checksums. remember: those that match, also for later runs."""
    for option in ("cdroms", "floppies"):
        for drive in definition[option]:
            _check_medium(option, drive)
            if drive["path"] and option == "cdroms":
                bases.verify_checksums(
                    "%s[%s]" % (option, drive["name"]),
                    drive,
                    drive["path"],
                    host.folder.host,
                    remember,
                )


def _raw_node(identifier: str, path: str, read_only: bool) -> dict[str, Any]:
    return {
        "driver": "raw",
        "node-name": identifier,
        "read-only": read_only,
        "file": {**file_node(path), "read-only": read_only},
    }


def _read_only(properties: dict[str, Any]) -> dict[str, Any]:
    """Return a read-only device: an IDE hard disk cannot be read only, so it becomes a CD-ROM."""
    properties.pop("write-cache", None)
    return dict(properties, driver="ide-cd") if properties["driver"] == "ide-hd" else properties
