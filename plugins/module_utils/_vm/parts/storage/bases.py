# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Images: overlays over base images that nobody writes, and the four things that can be wrong with a base.

A base is missing; it moved; it changed under its overlay; its checksum is not the one asked for. What a base was when an overlay
was made over it is kept in the definition, under "bases".
"""

from __future__ import annotations

import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    read_json,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import format_size
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import images
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import disks


def disk_path(folder, disk):
    """The image of a disk: its path, or NAME.FORMAT in the VM's folder."""
    return disk["path"] or folder.file("%s.%s" % (disk["name"], disk["format"]))


def is_owned(folder, disk):
    """Whether the image is the VM's own and goes with it."""
    return os.path.dirname(disk_path(folder, disk)) == folder.path


def images_in(folder):
    """The images in a VM's folder whose definition is gone."""
    return {
        entry.path
        for entry in os.scandir(folder.path)
        if entry.name.rpartition(".")[2] in disks.FORMATS
        and not entry.name.endswith(".temporary.qcow2")
    }


def detect_format(path):
    """The format that a file's header tells."""
    return images.probe(path).format


def verify_checksums(option, disk, path, host_folder):
    """Check an image against the sums asked for; a sum that was right is remembered with the file's size and times."""
    for key, first in (("checksum", False), ("checksum_first_mib", True)):
        if disk[key]:
            _verify("%s.%s" % (option, key), path, disk[key], first, host_folder)


def _verify(option, path, expected, first, host_folder):
    images.check_readable(option, path)
    state = os.stat(path)
    cache = os.path.join(host_folder, "checksums.json")
    known = read_json(cache) or {}
    key, mark = (
        "%s %s%s" % (path, expected, " first MiB" if first else ""),
        [state.st_size, state.st_mtime_ns, state.st_ino],
    )
    if known.get(key) == mark:
        return
    images.verify_checksum(option, path, expected, first)
    make_folder(os.path.dirname(host_folder))
    make_folder(host_folder)
    write_json(cache, dict(known, **{key: mark}))


def check_base(option, disk, recorded):
    """A base must still be what it was when the overlay was made over it. recorded: its fingerprint then, or None."""
    path = disk["backing_file"]
    here = option + ".backing_file"
    if recorded and not os.path.lexists(path):
        raise ImageError(
            "%s: the base image %s is gone since the overlay was made over it. If it was moved, give its new path in "
            "backing_file: the overlay then follows" % (here, path),
            path=path,
            option=here,
        )
    images.check_readable(here, path)
    if not recorded or recorded["path"] != path:
        return
    state = os.stat(path)
    if (state.st_size, state.st_mtime_ns) == (recorded["size"], recorded["mtime_ns"]):
        return
    if (
        disk["checksum"]
        or state.st_ino != recorded["inode"]
        and images.same_content(recorded, images.fingerprint(path))
    ):
        return  # a faithful copy took its place, or its checksum vouches for it
    raise ImageError(
        "%s: the base image %s was changed under its overlay: %d bytes then, %d now, or written since. What the overlay "
        "holds no longer fits. Restore the base, or remove the disk and let it be made anew"
        % (here, path, recorded["size"], state.st_size),
        path=path,
        option=here,
    )


def record_base(disk):
    """What check_base compares with later."""
    return dict(images.fingerprint(disk["backing_file"]), path=disk["backing_file"])


def make_image(option, disk, path, qemu_img):
    """Create the image of a disk that has none: an overlay, or a blank one. Return what was done, in words."""
    make_folder(os.path.dirname(path))
    if disk["backing_file"]:
        qemu_img.overlay(
            path,
            disk["backing_file"],
            disk["backing_format"],
            size=disk["size"],
            options=disk["format_options"],
        )
        return "create %s over %s" % (path, disk["backing_file"])
    if disk["size"] is None:
        raise OptionError(
            option + ".size",
            "%s does not exist: give size to have it made, or the path of an image that does"
            % path,
        )
    qemu_img.create(path, disk["format"], disk["size"], options=disk["format_options"])
    return "create %s, %s" % (path, format_size(disk["size"]))


def follow_base(option, disk, path, recorded, qemu_img):
    """Point an overlay at the base that its disk names now; the content must be the same. Return what was done, or None."""
    header = images.probe(path)
    desired = disk["backing_file"]
    now = header.backing_file and os.path.normpath(
        os.path.join(os.path.dirname(path), header.backing_file)
    )
    if now == desired:
        return None
    if not now:
        raise OptionError(
            option + ".backing_file",
            "%s is not an overlay: it has no base. Remove the disk to have it made anew, or use "
            "qemu_disk to give it one" % path,
        )
    there = images.fingerprint(desired)
    if not (
        images.same_content(recorded, there)
        if recorded
        else os.path.exists(now) and images.same_content(images.fingerprint(now), there)
    ):
        raise ImageError(
            "%s.backing_file: %s is not the image that the overlay %s was made over (%s): its content differs. Give the same "
            "image at its new place; to move the disk to another base, use qemu_disk"
            % (option, desired, path, now),
            path=desired,
            option=option + ".backing_file",
        )
    qemu_img.rebase(path, desired, disk["backing_format"], unsafe=True)
    return "rebase %s on %s" % (path, desired)


def size_of(path, qemu_img):
    """The virtual size of an image in bytes."""
    size = images.probe(path).virtual_size
    return size if size is not None else qemu_img.info(path)["virtual-size"]
