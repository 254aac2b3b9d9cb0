# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""One image file, without a VM: created, grown, shrunk, converted, rebased, committed, checked, with internal snapshots."""

from __future__ import annotations

import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    FILE,
    Change,
    Item,
    module_diff,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    remove_file,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import format_size
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import images
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binaries import find_qemu_img
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qemu_img import QemuImg
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import disks
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import default_root
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
    users_of,
)

SPEC = dict(
    disks.IMAGE_SPEC,
    **{
        "source": {"type": "path"},
        "source_format": {"type": "str", "choices": disks.FORMATS},
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


class Image:
    """One image on its way from what it is to what is wanted. wanted: normalised options. steps: [(Change, function)]."""

    def __init__(self, params):
        self.desired = disks.normalise_disk("", {key: params.get(key) for key in disks.IMAGE_SPEC})
        for key in ("source", "restore_snapshot", "snapshots"):
            self.desired[key] = params.get(key)
        self.params = params
        self.path = self.desired["path"]
        self.root = os.path.abspath(params.get("root") or default_root())
        self.qemu_img = QemuImg(find_qemu_img())
        self.report = None
        self.steps = []

    def info(self):
        """The image as the module returns it: empty when it is absent."""
        if not os.path.exists(self.path):
            return {}
        told = describe(self.path, self.qemu_img)
        if self.report is not None:
            told["check"] = self.report
        return told

    def plan(self):
        """Fill steps. Raises OptionError and ImageError for what cannot be."""
        if self.params["state"] == "absent":
            if os.path.lexists(self.path):
                self._check_free("be removed", disk_too=True)
                self._step("path", self.path, None, lambda: remove_file(self.path))
        elif not os.path.lexists(self.path):
            self._plan_new()
        else:
            images.check_readable("path", self.path)
            self._plan_existing()

    def _step(self, option, before, after, function, item=None):
        self.steps.append(
            (
                Change((option,) if item is None else (option, Item(item)), before, after, FILE),
                function,
            )
        )

    def _plan_new(self):
        desired = self.desired
        if self.params["source"]:
            if desired.get("backing_file"):
                raise OptionError("source", "it makes a full copy: it cannot go with backing_file")
            source = disks.image_path("source", self.params["source"])
            images.check_readable("source", source)
            self._verify(source)
            self._step("path", None, self.path, lambda: self._copy(source))
            return
        if desired.get("backing_file"):
            images.check_readable("backing_file", desired["backing_file"])
            self._verify(desired["backing_file"])
        elif not desired.get("size"):
            raise OptionError(
                "size",
                "%s does not exist: give size, backing_file or source to have it made" % self.path,
            )
        if desired.get("snapshots") or desired.get("restore_snapshot"):
            raise OptionError(
                "snapshots" if desired.get("snapshots") else "restore_snapshot",
                "%s does not exist yet" % self.path,
            )
        self._step("path", None, self.path, self._create)

    def _verify(self, path):
        for key, first in (("checksum", False), ("checksum_first_mib", True)):
            if self.desired.get(key):
                images.verify_checksum(key, path, self.desired[key], first)

    def _create(self):
        make_folder(os.path.dirname(self.path))
        self.qemu_img.create(
            self.path,
            self.desired.get("format") or "qcow2",
            self.desired.get("size"),
            self.desired.get("format_options"),
            self.desired.get("backing_file") or None,
            self.desired.get("backing_format"),
        )

    def _copy(self, source):
        make_folder(os.path.dirname(self.path))
        self.qemu_img.convert(
            source,
            self.path,
            self.desired.get("format") or "qcow2",
            self.desired.get("format_options"),
            self.params["source_format"],
            self.params["compress"],
        )
        size = self.desired.get("size")
        if size and size > describe(self.path, self.qemu_img)["size"]:
            self.qemu_img.resize(self.path, size, format=self.desired.get("format") or "qcow2")

    def _plan_existing(self):
        desired, now = self.desired, describe(self.path, self.qemu_img)
        if not desired.get("backing_file") and not self.params["source"]:
            self._verify(self.path)
        self._plan_check()
        form = desired.get("format")
        if form and form != now["format"]:
            if not self.params["convert"]:
                raise OptionError(
                    "format",
                    "%s is %s; set convert: true to have it converted to %s"
                    % (self.path, now["format"], form),
                )
            self._check_free("be converted", disk_too=True)
            self._step("format", now["format"], form, lambda: self._convert(form))
        if desired.get("backing_file") is not None or self.params["backing_file"] == "":
            self._plan_backing(now)
        self._plan_size(now)
        self._plan_snapshots(now)
        if self.params["commit"]:
            if not now["backing_file"]:
                raise OptionError(
                    "commit", "%s is no overlay: there is nothing to commit into" % self.path
                )
            if not self.qemu_img.is_empty_overlay(self.path):
                self._check_free("be committed", also=now["backing_file"])
                self._step(
                    "commit",
                    "differs from %s" % now["backing_file"],
                    "committed",
                    lambda: self.qemu_img.commit(self.path),
                )

    def _plan_check(self):
        repair = self.params["repair"]
        if not self.params["check"] and repair == "none":
            return
        self.report = self.qemu_img.check(self.path)
        leaks, broken = self.report.get("leaks", 0), self.report.get("corruptions", 0)
        if repair != "none" and (leaks or broken and repair == "all"):
            self._step(
                "repair",
                {"leaks": leaks, "corruptions": broken},
                {"leaks": 0, "corruptions": 0 if repair == "all" else broken},
                lambda: self._repair(repair),
            )
        elif broken:
            raise ImageError(
                "check: %s has %d corruptions: set repair: all to mend what can be mended"
                % (self.path, broken),
                path=self.path,
                check=self.report,
            )

    def _repair(self, repair):
        self.report = self.qemu_img.check(self.path, repair=repair)

    def _convert(self, form):
        temporary = self.path + ".converted"
        remove_file(temporary)
        self.qemu_img.convert(
            self.path,
            temporary,
            form,
            self.desired.get("format_options"),
            compress=self.params["compress"],
        )
        os.replace(temporary, self.path)

    def _plan_backing(self, now):
        desired, has = self.desired.get("backing_file") or None, now["backing_file"]
        if desired == has:
            return
        if desired:
            images.check_readable("backing_file", desired)
            self._verify(desired)
        self._check_free("be rebased")
        # The old base is needed to keep the content; where it is gone, a same-looking base is all that can be asked for.
        moved = bool(desired and has and not os.path.exists(has))
        self._step(
            "backing_file",
            has,
            desired,
            lambda: self.qemu_img.rebase(
                self.path, desired or "", self.desired.get("backing_format"), unsafe=moved
            ),
        )

    def _plan_size(self, now):
        desired, has = self.desired.get("size"), now["size"]
        if not desired or desired == has:
            return
        if desired < has and not self.params["allow_shrink"]:
            raise OptionError(
                "size",
                "%s is %s; making it %s would cut data off: set allow_shrink: true if that is wanted"
                % (self.path, format_size(has), format_size(desired)),
            )
        self._check_free("be resized")
        self._step(
            "size",
            format_size(has),
            format_size(desired),
            lambda: self.qemu_img.resize(
                self.path,
                desired,
                shrink=desired < has,
                format=self.desired.get("format") or now["format"],
            ),
        )

    def _plan_snapshots(self, now):
        desired, have = self.desired.get("snapshots"), [entry["name"] for entry in now["snapshots"]]
        restore = self.params["restore_snapshot"]
        if restore:
            if restore not in have:
                raise OptionError(
                    "restore_snapshot",
                    "%s has no snapshot %r; it has %s"
                    % (self.path, restore, ", ".join(have) or "none"),
                )
            self._step(
                "restore_snapshot",
                None,
                restore,
                lambda: self.qemu_img.snapshot_apply(self.path, restore),
            )
        if desired is None:
            return
        for name in [name for name in desired if name not in have]:
            self._step(
                "snapshots",
                None,
                name,
                lambda name=name: self.qemu_img.snapshot_create(self.path, name),
                name,
            )
        for name in (
            [name for name in have if name not in desired] if self.params["purge_snapshots"] else ()
        ):
            self._step(
                "snapshots",
                name,
                None,
                lambda name=name: self.qemu_img.snapshot_delete(self.path, name),
                name,
            )

    def _check_free(self, what, also=None, disk_too=False):
        """Refuse what would harm a VM: what it does to the base under its overlay, and with disk_too to its disk, even if it is stopped."""
        if self.params["force"]:
            return
        for path in (self.path, also) if also else (self.path,):
            users = users_of(self.root, path)
            if users and (path == also or disk_too or any(user.role == "base" for user in users)):
                raise ImageError(
                    "%s cannot %s: it is the %s"
                    % (
                        path,
                        what,
                        ", ".join(
                            "%s of the VM %s"
                            % (
                                "base image" if user.role == "base" else "disk %s" % user.disk,
                                user.vm,
                            )
                            for user in users
                        ),
                    )
                    + ": remove those first, or set force: true",
                    path=path,
                )


def describe(path, qemu_img):
    """What an image is, as the modules return it."""
    # A fixed vpc has its mark at the end, where qemu-img does not look.
    form = images.probe(path).format
    info = qemu_img.info(path, format=form if form != "raw" else None)
    return {
        "path": path,
        "format": info["format"],
        "size": info["virtual-size"],
        "actual_size": info["actual-size"],
        "backing_file": info.get("full-backing-filename") or info.get("backing-filename"),
        "backing_format": info.get("backing-filename-format"),
        "dirty": bool(info.get("dirty-flag")),
        "encrypted": bool(info.get("encrypted")),
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


def converge_image(params, check_mode):
    """Bring one image into the state that params ask for; return the module's result. Raises VlabError."""
    image = Image(params)
    image.plan()
    if not check_mode:
        for _change, function in image.steps:
            function()
    changes = [change for change, _function in image.steps]
    return {
        "changed": bool(changes),
        "changes": [change.result() for change in changes],
        "diff": module_diff(changes),
        "actions": [change.option for change in changes] if not check_mode else [],
        "disk": image.info(),
    }
