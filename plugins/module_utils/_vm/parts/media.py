# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Removable media and first-boot media: cdroms, floppies, the cloud-init seed, the config drive."""

from __future__ import annotations

import hashlib
import json
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
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import write_atomically
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import images
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import blockdev, device
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import disk_options, disks
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import by_name, merge_items
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Option, Part

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.addresses import SlotRequest
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Params,
        Result,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation

# A removable drive, and a first-boot medium, as the definition keeps them.
Drive = Dict[str, Any]
Seed = Dict[str, Any]

_CDROM_DEFAULTS = {"path": None, "bus": None, "index": None, "boot_index": None, "checksum": None}
_FLOPPY_DEFAULTS = {"path": None, "index": None, "read_only": False}
_SEED_BUSES = ["virtio", "scsi", "ide", "sata", "usb"]
_CONFIG_LABEL = "config"


def _medium(path: str, given: dict[str, Any]) -> dict[str, Any]:
    medium = {key: value for key, value in given.items() if value is not None}
    if "path" in medium:
        medium["path"] = disk_options.image_path(path + ".path", medium["path"])
    if "checksum" in medium:
        medium["checksum"] = images.normalise_checksum(path + ".checksum", medium["checksum"])
    return medium


def _cloud_init(path: str, value: dict[str, Any]) -> dict[str, Any] | None:
    """Return the seed with the files of the NoCloud data source.

    The definition keeps only their digests.
    """
    files = {}
    for option, name in (
        ("user_data", "user-data"),
        ("meta_data", "meta-data"),
        ("network_config", "network-config"),
        ("vendor_data", "vendor-data"),
    ):
        content = value.get(option)
        if content is not None:
            # JSON is YAML. cloud-init requires this first line.
            head = "#cloud-config\n" if option in ("user_data", "vendor_data") else ""
            files[name] = (
                content
                if isinstance(content, str)
                else head + json.dumps(content, indent=1, sort_keys=True) + "\n"
            )
    return (
        {
            "kind": "cloud_init",
            "label": "cidata",
            "format": "iso",
            "bus": value.get("bus") or "virtio",
            "files": files,
        }
        if files
        else None
    )


def _config_drive(path: str, value: dict[str, Any]) -> dict[str, Any] | None:
    files = {}
    for name, content in (value.get("files") or {}).items():
        if (
            not name
            or name.startswith("/")
            or any(part in ("", ".", "..") for part in name.split("/"))
        ):
            raise OptionError("%s.files" % path, "%r cannot be a file on the drive" % name)
        if content is not None:
            files[name] = (
                content
                if isinstance(content, str)
                else json.dumps(content, indent=1, sort_keys=True) + "\n"
            )
    if not files:
        return None
    label, form = value.get("label") or _CONFIG_LABEL, value.get("format") or "iso"
    most = 32 if form == "iso" else 11
    if len(label) > most or not label.isascii() or not label.isprintable():
        raise OptionError(
            path + ".label", "%r cannot be a label: %d plain characters at most" % (label, most)
        )
    return {
        "kind": "config_drive",
        "label": label,
        "format": form,
        "bus": value.get("bus") or "virtio",
        "files": files,
        "update": value.get("update") or "restart",
    }


def _digest(content: str) -> str:
    return "sha256:" + hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()


class Media(Part):
    """The part that owns removable drives and first-boot media."""

    name = "media"
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
        "cloud_init": Option(
            {
                "type": "dict",
                "options": {
                    "user_data": {"type": "raw"},
                    "meta_data": {"type": "raw"},
                    "network_config": {"type": "raw"},
                    "vendor_data": {"type": "raw"},
                    "bus": {"type": "str", "choices": _SEED_BUSES},
                },
            }
        ),
        "config_drive": Option(
            {
                "type": "dict",
                "options": {
                    "files": {"type": "dict"},
                    "label": {"type": "str"},
                    "format": {"type": "str", "choices": ["iso", "fat"]},
                    "bus": {"type": "str", "choices": _SEED_BUSES},
                    "update": {"type": "str", "choices": ["restart", "next_start"]},
                },
            }
        ),
    }

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
        for option, normalise in (("cloud_init", _cloud_init), ("config_drive", _config_drive)):
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
        for option in ("cloud_init", "config_drive"):
            drive = desired[option]
            if drive:
                disks.check_bus(option, drive["bus"], desired["family"])
            if (
                drive
                and isinstance(next(iter(drive["files"].values())), str)
                and not drive.get("digested")
            ):
                self._digest_files(option, drive, desired, host)

    @staticmethod
    def _digest_files(option: str, drive: dict[str, Any], desired: Definition, host: Host) -> None:
        files = drive["files"]
        if option == "cloud_init":
            files.setdefault(
                "meta-data",
                "instance-id: %s\nlocal-hostname: %s\n"
                % (desired["uuid"], json.dumps(host.folder.name)),
            )
            files.setdefault("user-data", "#cloud-config\n{}\n")
        host.secrets[option] = _image(drive, files)
        drive["files"] = {name: _digest(content) for name, content in files.items()}
        drive["digested"] = True

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
            for drive in _seeds(desired)
        ]
        return kept

    def compare(self, running: Definition, desired: Definition) -> list[Change]:
        changes = []
        for option in ("cdroms", "floppies"):
            changes += self._compare_drives(option, running, desired)
        for option in ("cloud_init", "config_drive"):
            if running.get(option) != desired[option]:
                changes.append(self._seed_change(option, running.get(option), desired[option]))
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
            for key in changed_keys(old[name], new[name]):
                changes.append(
                    Change(
                        (*path, key),
                        old[name].get(key),
                        new[name].get(key),
                        LIVE if key in ("path", "checksum") else RESTART,
                        self.name,
                        "medium" if key == "path" else "none",
                    )
                )
        return changes

    def _seed_change(self, option: str, old: Seed | None, new: Seed | None) -> Change:
        # QEMU keeps the old image open, so the guest gets the new one at its next start.
        is_deferred = bool(
            old
            and new
            and new.get("update") == "next_start"
            and _without_files(old) == _without_files(new)
        )
        return Change(
            (option,),
            _reported(old),
            _reported(new),
            LIVE if is_deferred else RESTART,
            self.name,
            "seed",
            reason="the guest sees it after its next start"
            if is_deferred
            else "a guest reads it when it boots",
        )

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
        for option in ("cdroms", "floppies"):
            if options is None or option in options:
                for drive in desired.get(option, ()):
                    if drive["path"]:
                        images.check_readable(
                            "%s[%s].path" % (option, drive["name"]), drive["path"]
                        )

    def check_start(self, desired: Definition, host: Host) -> None:
        self._check_media(desired, host)

    @staticmethod
    def _check_media(desired: Definition, host: Host) -> None:
        for option in ("cdroms", "floppies"):
            for drive in desired[option]:
                if drive["path"]:
                    images.check_readable("%s[%s].path" % (option, drive["name"]), drive["path"])
                    if drive.get("checksum"):
                        images.verify_checksum(
                            "%s[%s].checksum" % (option, drive["name"]),
                            drive["path"],
                            drive["checksum"],
                        )

    def prepare(self, desired: Definition, host: Host) -> list[str]:
        done = self._write_seeds(desired, host)
        self._check_media(desired, host)
        return done

    @staticmethod
    def _write_seeds(desired: Definition, host: Host) -> list[str]:
        done = []
        for drive in _seeds(desired):
            path = _seed_path(host.folder, drive)
            image = host.secrets.get(drive["kind"])
            if image is not None and _read(path) != image:
                write_atomically(path, image)
                done.append("write %s" % path)
            elif not os.path.exists(path):
                raise OptionError(
                    drive["kind"],
                    "%s no longer exists, and its contents were not supplied: give %s again"
                    % (path, drive["kind"]),
                )
        return done

    def state_files(self, definition: Definition, host: Host) -> list[str]:
        return [os.path.basename(_seed_path(host.folder, drive)) for drive in _seeds(definition)]

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
        for drive in _seeds(desired):
            slot = desired["slots"]["seeds/%s" % drive["kind"]]
            identifier = addresses.identifier(slot)
            words += blockdev(_raw_node(identifier, _seed_path(host.folder, drive), True))
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
            self._write_seeds(desired, live.host)
        if change.verb != "medium":
            return
        option, name = change.path[:2]
        drive = by_name(desired[option])[name]
        identifier = addresses.identifier(desired["slots"]["%s/%s" % (option, name)])
        if drive["path"]:
            self._check_media({"cdroms": [], "floppies": [], option: [drive]}, live.host)
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


def _seeds(definition: Definition) -> list[Seed]:
    return [definition[option] for option in ("cloud_init", "config_drive") if definition[option]]


def _without_files(drive: Seed) -> Seed:
    return {
        key: value for key, value in drive.items() if key not in ("files", "update", "digested")
    }


def _seed_path(folder: Folder, drive: Seed) -> str:
    if drive["kind"] == "cloud_init":
        return folder.file("seed.iso")
    return folder.file("config.iso" if drive["format"] == "iso" else "config.img")


def _image(drive: Seed, files: dict[str, str]) -> bytes:
    content = {name: text.encode("utf-8", "surrogateescape") for name, text in files.items()}
    if drive["format"] == "fat":
        from ansible_collections.vlab.qemu.plugins.module_utils._common.fat import make_fat

        return make_fat(content, drive["label"], option="config_drive.files")
    from ansible_collections.vlab.qemu.plugins.module_utils._common.iso9660 import make_iso

    return make_iso(
        content,
        drive["label"],
        option=drive["kind"] + (".files" if drive["kind"] == "config_drive" else ""),
    )


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return None


def _raw_node(identifier: str, path: str, read_only: bool) -> dict[str, Any]:
    driver = "host_device" if disks.is_block_device(path) else "file"
    return {
        "driver": "raw",
        "node-name": identifier,
        "read-only": read_only,
        "file": {"driver": driver, "filename": path, "read-only": read_only},
    }


def _read_only(properties: dict[str, Any]) -> dict[str, Any]:
    """Return a read-only device: an IDE hard disk cannot be read only, so it becomes a CD-ROM."""
    properties.pop("write-cache", None)
    return dict(properties, driver="ide-cd") if properties["driver"] == "ide-hd" else properties


def _reported(drive: Seed | None) -> dict[str, Any] | None:
    return drive and {"label": drive["label"], "bus": drive["bus"], "files": drive["files"]}
