# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""One image file, independent of a VM, with its internal snapshots."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import Change, module_diff
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    remove_file,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.paths import absolute_path
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import (
    encryption,
    foreign_files,
    images,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binaries import find_qemu_img
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.image_files import (
    backing_path,
    files_needed,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qemu_img import QemuImg
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import root_folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image_folder import (
    image_folder,
    with_absolute,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image_plan import (
    ImageFacts,
    ImageObservation,
    plan_image,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import disk_options
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
    users_of,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params, Result

SPEC = dict(
    disk_options.IMAGE_SPEC,
    **{
        "source": {"type": "path"},
        "source_format": {"type": "str", "choices": disk_options.FORMATS},
        "source_secret_file": {"type": "path", "no_log": False},
        "compress": {"type": "bool", "default": False},
        "allow_shrink": {"type": "bool", "default": False},
        "convert": {"type": "bool", "default": False},
        "commit": {"type": "bool", "default": False},
        "check": {"type": "bool", "default": False},
        "repair": {"type": "str", "choices": ["none", "leaks", "all"], "default": "none"},
        "snapshots": {"type": "list", "elements": "str"},
        "purge_snapshots": {"type": "bool", "default": False},
        "restore_snapshot": {"type": "str"},
        "force": {"type": "bool", "default": False},
    },
)


# The options that are paths of images.
_IMAGES = ("path", "backing_file", "backing_store", "source")
# What a change does to an image that a VM uses: the words for the error, and whether it harms also
# the VM whose disk the image is, not only the VMs whose overlays are on top of it.
_HARMS = {
    "remove": ("be removed", True),
    "convert": ("be converted", True),
    "commit": ("be committed", False),
    "rebase": ("be rebased", False),
    "resize": ("be resized", False),
    # To write to a base, even a snapshot, makes it another image than its overlays were made for.
    "repair": ("be repaired", False),
    "restore_snapshot": ("be changed", False),
    "create_snapshot": ("be changed", False),
    "delete_snapshot": ("be changed", False),
}


class Image:
    """One image: observe and apply; plan_image is between them."""

    def __init__(self, params: Params) -> None:
        self._root = root_folder(params.get("root"))
        folder = image_folder(self._root, params.get("image_dir"))
        self.params = params = with_absolute(params, _IMAGES, folder)
        self.desired: Params = disk_options.normalise_disk(
            "", {key: params.get(key) for key in disk_options.IMAGE_SPEC}
        )
        for key in ("source", "restore_snapshot", "snapshots"):
            self.desired[key] = params.get(key)
        for key in ("source", "source_secret_file"):
            value = params.get(key)
            self.desired[key] = value and absolute_path(key, value)
        self.path: str = self.desired["path"]
        self._qemu_img = QemuImg(find_qemu_img())
        self._check_report: dict[str, Any] | None = None
        self._observation = ImageObservation(False)

    def observe(self) -> ImageObservation:
        """Observe the image, and check the files that it is to be made from.

        Raises OptionError and ImageError for a file that cannot be read or has another checksum.
        """
        exists = os.path.lexists(self.path)
        self._observation = ImageObservation(exists)
        if self.params["state"] == "absent":
            return self._observation
        for key in ("secret_file", "source_secret_file"):
            if self.desired.get(key):
                encryption.check_secret_file(key, self.desired[key])
        self._observation = self._observe_existing() if exists else self._observe_origin()
        return self._observation

    def _observe_origin(self) -> ImageObservation:
        """Observe what a new image is to be made from."""
        option = "source" if self.desired["source"] else "backing_file"
        origin = self._check_source(option)
        if self.secret is None and self._format == "luks":
            raise OptionError("secret_file", "the format luks needs it: a file with the passphrase")
        if self.secret and self._format not in encryption.ENCRYPTED_FORMATS:
            raise OptionError(
                "secret_file",
                "an image of format %s cannot be encrypted: use qcow2 or luks" % self._format,
            )
        size = origin and self._qemu_img.virtual_size(origin, self._origin_format(option))
        return ImageObservation(False, origin_size=size or None)

    def _observe_existing(self) -> ImageObservation:
        images.check_readable("path", self.path)
        self._check_content("path", self.path)
        facts = describe(self.path, self._qemu_img)
        base = facts["backing_file"]
        if not self.desired.get("backing_file"):
            if not self.desired["source"]:
                self._verify_checksum(self.path)
        elif self.desired["backing_file"] != base:
            self._check_source("backing_file")
        opens = self.params["check"] or self.params["repair"] != "none" or self.params["commit"]
        if opens or self.secret:
            self._check_secret(facts)
        if self.params["check"] or self.params["repair"] != "none":
            self._check_report = self._qemu_img.check(self.path, **self._secret_words)
        is_empty = bool(self.params["commit"] and base) and self._qemu_img.is_empty_overlay(
            self.path, **self._secret_words
        )
        return ImageObservation(
            True, facts, self._check_report, is_empty, bool(base) and not os.path.exists(base)
        )

    def _check_secret(self, facts: ImageFacts) -> None:
        """Check that an existing image can be opened. Raises ImageError and OptionError."""
        encryption.check_encryption("path", self.path, None, self.secret)
        converts = self.desired.get("format") not in (None, facts["format"])
        if self.secret and not converts and not encryption.is_encrypted(self.path):
            raise OptionError(
                "secret_file",
                "%s is not encrypted: omit secret_file, or make an encrypted copy with source"
                % self.path,
            )

    @property
    def _secret_words(self) -> dict[str, str]:
        """The secret for an existing image, if it is encrypted."""
        if self.secret and encryption.is_encrypted(self.path):
            return {"secret": self.secret}
        return {}

    def _origin_format(self, option: str) -> str | None:
        """Return the stated format of the source or the base."""
        stated: str | None = (
            self.params["source_format"]
            if option == "source"
            else self.desired.get("backing_format")
        )
        return stated

    def _check_content(self, option: str, path: str) -> None:
        """Raise ImageError for what is no image. A guest may write anything to the disk of a VM."""
        if not self.desired.get("any_content") and not users_of(self._root, path):
            foreign_files.check_content(option, path, "To use it as it is, set any_content: true")

    def _check_source(self, option: str) -> str | None:
        """Check the source or the base; return its path, None without one."""
        path: str | None = self.desired.get(option)
        if path:
            images.check_readable(option, path)
            self._check_content(option, path)
            self._verify_checksum(path)
            key = "source_secret_file" if option == "source" else "secret_file"
            encryption.check_encryption(
                option, path, self._origin_format(option), self.desired.get(key), key
            )
        return path or None

    def _verify_checksum(self, path: str) -> None:
        for key, first in (("checksum", False), ("checksum_first_mib", True)):
            if self.desired.get(key):
                images.verify_checksum(key, path, self.desired[key], first)

    def check(self, changes: list[Change]) -> None:
        """Raise ImageError for a change that would harm a VM, even if the VM is stopped."""
        if self._observation.facts and changes:
            self._check_secret(self._observation.facts)
        if self.params["force"]:
            return
        for change in changes:
            if change.verb in _HARMS:
                what, harms_disk = _HARMS[change.verb]
                self._check_users(self.path, what, harms_disk)
            if change.verb == "commit" and self._observation.facts:
                self._check_users(self._observation.facts["backing_file"], what, True)
            if change.verb in ("create", "rebase") and self.desired.get("backing_file"):
                self._check_writers(self.desired["backing_file"])

    def _check_users(self, path: str, what: str, harms_disk: bool) -> None:
        users = users_of(self._root, path)
        if users and (harms_disk or any(user.role == "base" for user in users)):
            raise ImageError(
                "%s cannot %s: it is the %s: remove those first, or set force: true"
                % (path, what, ", ".join(str(user) for user in users)),
                path=path,
            )

    def _check_writers(self, base: str) -> None:
        """Raise ImageError for a base that a VM writes to, or something under it."""
        needed = files_needed(base, self.desired.get("backing_format"))
        for path in [base] + [file.path for file in needed]:
            writer = next((user for user in users_of(self._root, path) if user.writes), None)
            if writer:
                raise ImageError(
                    "backing_file: %s is the %s, which writes to it, and nobody may write to a"
                    " base: make a copy of it, or set force: true" % (path, writer),
                    path=path,
                )

    def apply(self, changes: list[Change]) -> None:
        """Make the changes. Raises ImageError and ProgramError."""
        for change in changes:
            _STEPS[change.verb](self, change)

    def info(self) -> Result:
        """Return the image as the module returns it, empty if it is absent."""
        if not os.path.exists(self.path):
            return {}
        facts = describe(self.path, self._qemu_img)
        if self._check_report is not None:
            facts["check"] = self._check_report
        return facts

    @property
    def _format(self) -> str:
        return self.desired.get("format") or "qcow2"

    @property
    def secret(self) -> str | None:
        """The file with the passphrase of the image, or None."""
        return self.desired.get("secret_file") or None

    def _remove(self, _change: Change) -> None:
        if encryption.is_block_device(self.path):
            raise ImageError(
                "%s is a block device, which is not removed: remove it with its own tools"
                % self.path,
                path=self.path,
            )
        remove_file(self.path)

    def _create(self, _change: Change) -> None:
        make_folder(os.path.dirname(self.path))
        self._qemu_img.create(
            self.path,
            self._format,
            self.desired.get("size"),
            self.desired.get("format_options"),
            self.desired.get("backing_file") or None,
            self.desired.get("backing_format"),
            secret=self.secret,
        )

    def _copy(self, _change: Change) -> None:
        make_folder(os.path.dirname(self.path))
        size = self.desired.get("size")
        self._qemu_img.convert(
            self.desired["source"],
            self.path,
            self._format,
            self.desired.get("format_options"),
            self.params["source_format"],
            self.params["compress"],
            size=size if size != self._observation.origin_size else None,
            secret=self.secret,
            source_secret=self._source_secret,
        )

    @property
    def _source_secret(self) -> str | None:
        source, secret = self.desired["source"], self.desired.get("source_secret_file")
        is_encrypted = encryption.is_encrypted(source, self.params["source_format"])
        return secret if is_encrypted else None

    def _repair(self, _change: Change) -> None:
        self._check_report = self._qemu_img.check(
            self.path, repair=self.params["repair"], **self._secret_words
        )

    def _convert(self, change: Change) -> None:
        self._qemu_img.convert_and_replace(
            self.path,
            change.after,
            self.desired.get("format_options"),
            compress=self.params["compress"],
            secret=self.secret,
        )

    def _rebase(self, change: Change) -> None:
        # Without the old base the content cannot be kept: trust that the new one is the same.
        unsafe = bool(change.after) and self._observation.is_backing_missing
        self._qemu_img.rebase(
            self.path,
            change.after or "",
            self.desired.get("backing_format"),
            unsafe=unsafe,
            **self._secret_words,
        )

    def _resize(self, _change: Change) -> None:
        facts = self._observation.facts or {}
        size = self.desired["size"]
        image_format = self.desired.get("format") or facts["format"]
        self._qemu_img.resize(
            self.path,
            size,
            shrink=size < facts["size"],
            format=image_format,
            **self._secret_words,
        )

    def _restore_snapshot(self, change: Change) -> None:
        self._qemu_img.snapshot_apply(self.path, change.after, **self._secret_words)

    def _create_snapshot(self, change: Change) -> None:
        self._qemu_img.snapshot_create(self.path, change.after, **self._secret_words)

    def _delete_snapshot(self, change: Change) -> None:
        self._qemu_img.snapshot_delete(self.path, change.before, **self._secret_words)

    def _commit(self, _change: Change) -> None:
        self._qemu_img.commit(self.path, **self._secret_words)


_STEPS = {
    "remove": Image._remove,
    "create": Image._create,
    "copy": Image._copy,
    "repair": Image._repair,
    "convert": Image._convert,
    "rebase": Image._rebase,
    "resize": Image._resize,
    "restore_snapshot": Image._restore_snapshot,
    "create_snapshot": Image._create_snapshot,
    "delete_snapshot": Image._delete_snapshot,
    "commit": Image._commit,
}


def describe(path: str, qemu_img: QemuImg) -> ImageFacts:
    """Return the facts of an image, as the modules return them."""
    header = images.probe(path)
    # qemu-img does not open LUKS2. A fixed vpc has its signature at the end, where qemu-img does
    # not look.
    opened = "raw" if header.encryption == "luks2" else header.format
    info = qemu_img.info(path, format=None if header.format == "raw" else opened)
    base = backing_path(path, header) or info.get("full-backing-filename")
    return {
        "path": path,
        "format": info["format"] if opened == header.format else header.format,
        "size": info["virtual-size"],
        "actual_size": info["actual-size"],
        "backing_file": base or info.get("backing-filename"),
        "backing_format": info.get("backing-filename-format"),
        "dirty": bool(info.get("dirty-flag")),
        "encrypted": bool(info.get("encrypted")) or header.encrypted,
        "snapshots": [
            {
                "name": entry["name"],
                "id": entry["id"],
                "vm_state_size": entry["vm-state-size"],
                "date": entry["date-sec"],
            }
            for entry in info.get("snapshots", ())
        ],
    }


def converge_image(params: Params, check_mode: bool) -> Result:
    """Bring one image into its state; return the module's result. Raises VlabError."""
    image = Image(params)
    changes = plan_image(params, image.desired, image.observe())
    image.check(changes)
    if not check_mode:
        image.apply(changes)
    return {
        "changed": bool(changes),
        "changes": [change.result() for change in changes],
        "diff": module_diff(changes),
        "actions": [change.option for change in changes] if not check_mode else [],
        "disk": image.info(),
    }
