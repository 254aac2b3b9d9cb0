# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""First-boot media: the cloud-init seed and the config drive, from options to images."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from typing import TYPE_CHECKING, Any, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    NEXT_START,
    RESTART,
    Change,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import write_atomically
from ansible_collections.vlab.qemu.plugins.module_utils._common.yaml_output import to_yaml
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.media import nocloud

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host

# A first-boot medium, as the definition keeps it.
Seed = Dict[str, Any]

BUSES = ["virtio", "scsi", "ide", "sata", "usb"]
SPECS: dict[str, dict[str, Any]] = {
    "cloud_init": {
        "type": "dict",
        "options": {
            "user_data": {"type": "raw"},
            "meta_data": {"type": "raw"},
            "network_config": {"type": "raw"},
            "vendor_data": {"type": "raw"},
            "bus": {"type": "str", "choices": BUSES},
        },
    },
    "config_drive": {
        "type": "dict",
        "options": {
            "files": {"type": "dict"},
            "label": {"type": "str"},
            "format": {"type": "str", "choices": ["iso", "fat"]},
            "bus": {"type": "str", "choices": BUSES},
            "update": {"type": "str", "choices": ["restart", "next_start"]},
        },
    },
}
_FILE_OF_OPTION = {
    "user_data": nocloud.USER_DATA,
    "meta_data": nocloud.META_DATA,
    "network_config": nocloud.NETWORK_CONFIG,
    "vendor_data": nocloud.VENDOR_DATA,
}
_WITH_HEADER = ("user_data", "vendor_data")
_CONFIG_LABEL = "config"
_DRIVE_UNIT = 1 << 20  # bytes
_LONGEST_LABEL = {"iso": 32, "fat": 11}


def content(path: str, value: Any, header: str = "") -> bytes:
    """Return the content of a file. Raises OptionError, which does not show it.

    value: a text, {"base64": text}, or data, which is written as YAML after the header.
    """
    if isinstance(value, str):
        return _encoded(path, value)
    if isinstance(value, dict) and len(value) == 1:
        (form, text), *_others = value.items()
        if form == "base64":
            return _decoded(path, text)
        if form == "src":
            raise OptionError(
                path,
                "src is a file of the controller, which the action plugin of vlab.qemu.qemu_vm "
                "reads: call the module by this name",
            )
    try:
        return (header + to_yaml(value)).encode("utf-8")
    except ValueError:
        raise OptionError(
            path,
            "it has a character or number that YAML cannot hold: give the file as text or base64",
        )


def _encoded(path: str, text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise OptionError(path, "its text is not valid UTF-8: give the file as base64")


def _decoded(path: str, text: Any) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (AttributeError, ValueError, binascii.Error):
        raise OptionError(path + ".base64", "it is not base64")


def cloud_init(path: str, value: dict[str, Any]) -> Seed | None:
    """Return the seed for a value of cloud_init; None if it has no files."""
    files: nocloud.Files = {}
    meta_data = None
    for option, name in _FILE_OF_OPTION.items():
        given = value.get(option)
        option_path = "%s.%s" % (path, option)
        if option == "meta_data":
            meta_data = _meta_data(option_path, given)
        if given is not None and (option != "meta_data" or meta_data is None):
            header = nocloud.header_for(given) if option in _WITH_HEADER else ""
            if not isinstance(given, (str, dict, list)):
                raise OptionError(option_path, "it is no text, dictionary or list")
            files[name] = content(option_path, given, header)
    if not files and meta_data is None:
        return None
    return {
        "kind": "cloud_init",
        "label": nocloud.LABEL,
        "format": "iso",
        "bus": value.get("bus") or "virtio",
        "files": files,
        "meta_data": meta_data,
    }


def _meta_data(path: str, given: Any) -> dict[str, Any] | None:
    """Return meta-data that is given as a dictionary; None for any other form."""
    if not isinstance(given, dict) or set(given) in ({"base64"}, {"src"}):
        return None
    nocloud.check_meta_data(path, given)
    content(path, given)  # raises OptionError if it cannot be written
    return given


def config_drive(path: str, value: dict[str, Any]) -> Seed | None:
    """Return the drive for a value of config_drive; None if it has no files."""
    given = {name: data for name, data in (value.get("files") or {}).items() if data is not None}
    if not given:
        return None
    for name in given:
        check_file_name(path, name)
    form = value.get("format") or "iso"
    drive: Seed = {
        "kind": "config_drive",
        "label": _label(path, value.get("label") or _CONFIG_LABEL, form),
        "format": form,
        "bus": value.get("bus") or "virtio",
        "update": value.get("update") or "restart",
    }
    if is_nocloud(drive, given):
        option_path = file_path(path, nocloud.META_DATA)
        drive["meta_data"] = _meta_data(option_path, given.get(nocloud.META_DATA))
        if drive["meta_data"] is not None:
            del given[nocloud.META_DATA]
    drive["files"] = {name: content(file_path(path, name), data) for name, data in given.items()}
    return drive


def file_path(path: str, name: str) -> str:
    """Return the option of a file, for errors."""
    return "%s.files[%s]" % (path, name)


def check_file_name(path: str, name: str) -> None:
    """Raise OptionError for a name that leads out of the drive. path: of the option."""
    if not name or name.startswith("/") or {"", ".", ".."} & set(name.split("/")):
        raise OptionError("%s.files" % path, "%r cannot be a file on the drive" % name)


def _label(path: str, label: str, form: str) -> str:
    most = _LONGEST_LABEL[form]
    if len(label) > most or not label.isascii() or not label.isprintable():
        raise OptionError(
            path + ".label", "%r cannot be a label: %d plain characters at most" % (label, most)
        )
    return label


def is_nocloud(drive: Seed, files: dict[str, Any]) -> bool:
    """Whether cloud-init takes the drive for a seed."""
    return drive["kind"] == "cloud_init" or (
        drive["label"].lower() == nocloud.LABEL and nocloud.USER_DATA in files
    )


def _option_of_file(option: str, name: str) -> str:
    if option == "cloud_init":
        return "%s.%s" % (option, name.replace("-", "_"))
    return file_path(option, name)


def finish(option: str, desired: Definition, saved: Seed | None, host: Host) -> None:
    """Make the image of a drive that was given, and keep only the digests of its files."""
    drive = desired[option]
    if drive.get("digested"):
        return
    salt = nocloud.salt_of(saved)
    if is_nocloud(drive, drive["files"]):
        is_noticed = nocloud.complete(drive, saved, desired["uuid"], host.folder.name, salt)
        for name in nocloud.ignored(drive["files"]):
            host.warn(
                "%s: cloud-init ignores this %s, because it does not begin with #cloud-config, #! "
                "or another header of its formats" % (_option_of_file(option, name), name)
            )
        if not is_noticed:
            host.warn(
                "%s: a guest that has booted does not read the changed files, because the "
                "instance-id in meta-data is the same: change it, or leave it out" % option
            )
    host.secrets[option] = _image(drive)
    drive["files"] = {name: nocloud.digest(data, salt) for name, data in drive["files"].items()}
    drive["digested"] = True


def all_of(definition: Definition) -> list[Seed]:
    """Return the first-boot media of a VM."""
    return [definition[option] for option in SPECS if definition[option]]


def change(option: str, old: Seed | None, new: Seed | None, part: str) -> Change:
    """Return the change of a drive. QEMU keeps the old image open until the next start."""
    is_deferred = bool(
        old
        and new
        and new.get("update") == "next_start"
        and _without_files(old) == _without_files(new)
    )
    return Change(
        (option,),
        _reported(old, new),
        _reported(new, old),
        NEXT_START if is_deferred else RESTART,
        part,
        "seed",
        reason="the guest sees it after its next start"
        if is_deferred
        else "a guest reads it when it boots",
    )


def _without_files(drive: Seed) -> Seed:
    ignored = ("files", "update", "digested", "generation")
    return {key: value for key, value in drive.items() if key not in ignored}


def _reported(drive: Seed | None, other: Seed | None) -> dict[str, Any] | None:
    """Return a drive as a change shows it: with whether the other one has the same files."""
    if not drive:
        return None
    files = compared(drive["files"], other["files"] if other else {})
    return {"label": drive["label"], "bus": drive["bus"], "files": files}


def compared(files: dict[str, str], others: dict[str, str]) -> dict[str, str]:
    """Return {name: whether the other ones have the same content}. files: with digests."""
    return {
        name: "same" if others.get(name) == kept else "different" for name, kept in files.items()
    }


def migrate(definition: Definition) -> None:
    """Give digests that an earlier version saved a salt, in place.

    It is the same in vm.json and run.json, which are compared. What is damaged stays as it is.
    """
    salt = hashlib.sha256(str(definition.get("uuid")).encode("utf-8")).hexdigest()[:16]
    for option in SPECS:
        drive = definition.get(option)
        files = drive.get("files") if isinstance(drive, dict) else None
        if isinstance(files, dict):
            for name, kept in files.items():
                if nocloud.is_plain(kept):
                    files[name] = nocloud.salted(kept, salt)


def image_path(folder: Folder, drive: Seed) -> str:
    """Return the path of the image of a drive."""
    if drive["kind"] == "cloud_init":
        return folder.file("seed.iso")
    return folder.file("config.iso" if drive["format"] == "iso" else "config.img")


def write_images(desired: Definition, host: Host) -> list[str]:
    """Write the images that differ; return what was done. Raises OptionError for a missing one."""
    done = []
    for drive in all_of(desired):
        path = image_path(host.folder, drive)
        image = host.secrets.get(drive["kind"])
        if image is not None and read(path) != image:
            write_atomically(path, image)
            done.append("write %s" % path)
        elif not os.path.exists(path):
            raise OptionError(
                drive["kind"],
                "%s no longer exists, and its contents were not supplied: give %s again"
                % (path, drive["kind"]),
            )
    return done


def _image(drive: Seed) -> bytes:
    files: nocloud.Files = drive["files"]
    if drive["format"] == "fat":
        from ansible_collections.vlab.qemu.plugins.module_utils._common.fat import make_fat

        return make_fat(files, drive["label"], option="config_drive.files")
    from ansible_collections.vlab.qemu.plugins.module_utils._common.iso9660 import make_iso

    option = drive["kind"] + (".files" if drive["kind"] == "config_drive" else "")
    image = make_iso(files, drive["label"], option=option)
    if not is_nocloud(drive, files):
        # A guest that continues from a template finds a drive of the size that it knows.
        image += bytes(-len(image) % _DRIVE_UNIT)
    return image


def read(path: str) -> bytes | None:
    """Return the content of a file, None if it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return None
