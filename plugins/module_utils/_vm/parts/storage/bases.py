# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Images of disks: blank ones, and overlays over base images that are never written to.

A base image can be missing, be at a new path, have changed under its overlay, or have the wrong
checksum. The definition keeps under "bases" the fingerprint that each base image had when its
overlay was made.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from typing import TYPE_CHECKING, Any

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
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import foreign_files, images
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.image_files import (
    backing_path,
    files_needed,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disk_options import (
    FORMATS,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qemu_img import QemuImg
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disks import Disk

# The name of the overlay that a disk continues on after a snapshot.
OVERLAY_NAME = re.compile(r".+\.[0-9a-f]{8}\.qcow2")

# The fingerprint of a base image, with its path.
BaseRecord = dict[str, Any]


def disk_path(folder: Folder, disk: Disk) -> str:
    """Return the path of a disk's image: path, or NAME.FORMAT in the VM's folder.

    After a snapshot, the disk has the key image: the name of the overlay in the VM's folder.
    """
    path: str | None = disk["path"]
    default = "%s.%s" % (disk["name"], disk["format"])
    return path or folder.file(disk.get("image") or default)


def is_owned(folder: Folder, disk: Disk) -> bool:
    """Return whether the image belongs to the VM and is deleted with it."""
    return os.path.dirname(disk_path(folder, disk)) == folder.path


def images_in(folder: Folder) -> set[str]:
    """Return the paths of the images in a VM's folder, for a VM whose definition is missing."""
    return {
        entry.path
        for entry in os.scandir(folder.path)
        if entry.name.rpartition(".")[2] in FORMATS and not entry.name.endswith(".temporary.qcow2")
    }


def detect_format(option: str, path: str) -> str | None:
    """Return the format of an image by its header. Raises ImageError if it cannot be read."""
    images.check_readable(option, path)
    return images.probe(path).format


def check_content(option: str, disk: Disk, path: str) -> None:
    """Raise ImageError for a file that is no image, such as an archive, unless any_content is set.

    Only for files that the VM does not have yet: a guest may write anything to its disk.
    """
    if not disk["any_content"] and os.path.isfile(path):
        images.check_readable(option, path)
        foreign_files.check_content(option, path, "To use it as it is, set any_content: true")


def check_size(option: str, disk: Disk, host: Host) -> None:
    """Raise OptionError for a new overlay that is smaller than its base image."""
    base, size = disk["backing_file"], disk["size"]
    if not size or not base or not os.path.isfile(base):
        return
    full = host.qemu_img.virtual_size(base, disk["backing_format"])
    if size < full:
        raise OptionError(
            option + ".size",
            "%s is smaller than the base image %s of %s, whose end would be cut off: give at least"
            " that, or omit size" % (format_size(size), base, format_size(full)),
        )


# The state of each file that matched a checksum in this process; the file has those of all runs.
_verified: dict[str, list[int]] = {}


def verify_checksums(
    option: str, disk: Disk, path: str, host_folder: str, remember: bool = True
) -> None:
    """Verify the checksums of an image. Raises ImageError.

    An image that matched is read again only after its size or time of change has changed.
    remember: also for later runs, which writes a file.
    """
    for key, is_first_mib in (("checksum", False), ("checksum_first_mib", True)):
        if disk[key]:
            _verify("%s.%s" % (option, key), path, disk[key], is_first_mib, host_folder, remember)


def _verify(
    option: str, path: str, expected: str, is_first_mib: bool, host_folder: str, remember: bool
) -> None:
    images.check_readable(option, path)
    status = os.stat(path)
    cache = os.path.join(host_folder, "checksums.json")
    cached = read_json(cache)
    if not isinstance(cached, dict):
        cached = {}
    key = "%s %s%s" % (path, expected, " first MiB" if is_first_mib else "")
    identity = [status.st_size, status.st_mtime_ns, status.st_ino]
    if cached.get(key) == identity:
        return
    if _verified.get(key) != identity:
        images.verify_checksum(option, path, expected, is_first_mib)
        _verified[key] = identity
    if remember:
        make_folder(os.path.dirname(host_folder))
        make_folder(host_folder)
        write_json(cache, dict(cached, **{key: identity}))


def check_base(option: str, disk: Disk, recorded: BaseRecord | None) -> None:
    """Check that a base image is what it was when its overlay was made. Raises ImageError."""
    path = disk["backing_file"]
    option += ".backing_file"
    if recorded and not os.path.lexists(path):
        raise ImageError(
            "%s: the base image %s of the overlay no longer exists. If it was moved, set"
            " backing_file to its new path" % (option, path),
            path=path,
            option=option,
        )
    images.check_readable(option, path)
    for needed in files_needed(path, disk["backing_format"]):
        if not os.path.exists(needed.path):
            raise ImageError(
                "%s: the base image %s needs %s, which does not exist"
                % (option, path, needed.path),
                path=needed.path,
                option=option,
            )
    if not recorded or recorded["path"] != path:
        return
    if not disk["checksum"]:
        _check_unchanged(option, recorded)
    for deeper in recorded.get("under", ()):
        _check_unchanged(option, deeper)


def _check_unchanged(option: str, recorded: BaseRecord) -> None:
    """Check that the image at a recorded path has the recorded content. Raises ImageError."""
    path = recorded["path"]
    images.check_readable(option, path)
    status = os.stat(path)
    if (status.st_size, status.st_mtime_ns) == (recorded["size"], recorded["mtime_ns"]):
        return
    found = images.fingerprint(path)
    is_other_file = status.st_ino != recorded["inode"] or stat.S_ISBLK(status.st_mode)
    if is_other_file and images.same_content(dict(recorded, inode=0), found):
        return
    raise ImageError(
        "%s: the base image %s was changed under its overlay: %d bytes then, %d now, or written"
        " since. The content of the overlay no longer fits. Restore the base image, or remove the"
        " disk so that it is recreated" % (option, path, recorded["size"], found["size"]),
        path=path,
        option=option,
    )


def record_base(disk: Disk) -> BaseRecord:
    """Return the record of a base image, and of all that it needs, for check_base."""
    base = disk["backing_file"]
    record = dict(images.fingerprint(base), path=base)
    needed = files_needed(base, disk["backing_format"])
    if needed:
        record["under"] = [dict(images.fingerprint(file.path), path=file.path) for file in needed]
    return record


def make_image(option: str, disk: Disk, path: str, qemu_img: QemuImg) -> str:
    """Create the missing image of a disk, an overlay or a blank image; return the action."""
    make_folder(os.path.dirname(path))
    if disk["backing_file"]:
        qemu_img.overlay(
            path,
            disk["backing_file"],
            disk["backing_format"],
            size=disk["size"],
            options=disk["format_options"],
            secret=disk["secret_file"],
        )
        return "create %s over %s" % (path, disk["backing_file"])
    if disk["size"] is None:
        raise OptionError(
            option + ".size",
            "%s does not exist: give size to have it made, or the path of an image that does"
            % path,
        )
    qemu_img.create(
        path, disk["format"], disk["size"], disk["format_options"], secret=disk["secret_file"]
    )
    return "create %s, %s" % (path, format_size(disk["size"]))


def follow_base(
    option: str, disk: Disk, path: str, recorded: BaseRecord | None, qemu_img: QemuImg
) -> str | None:
    """Point an overlay to the new path of its base image; return the action, or None.

    Raises ImageError if the content at the new path differs.
    """
    path = layers_of(path)[-1]
    header = images.probe(path)
    desired = disk["backing_file"]
    current = backing_path(path, header) or header.backing_file
    if current == desired:
        return None
    if not current:
        raise OptionError(
            option + ".backing_file",
            "%s is not an overlay: it has no base image. Remove the disk so that it is recreated,"
            " or use qemu_disk to give it one" % path,
        )
    found = images.fingerprint(desired)
    expected = recorded or (images.fingerprint(current) if os.path.exists(current) else None)
    if not expected or not images.same_content(expected, found):
        raise ImageError(
            "%s.backing_file: %s is not the image that the overlay %s was made over (%s): its"
            " content differs. Use the same image at its new path; to move the disk to another base"
            " image, use qemu_disk" % (option, desired, path, current),
            path=desired,
            option=option + ".backing_file",
        )
    qemu_img.rebase(path, desired, disk["backing_format"], unsafe=True, secret=disk["secret_file"])
    return "rebase %s on %s" % (path, desired)


def layers_of(path: str) -> list[str]:
    """Return the image of a disk and the layers of snapshots under it.

    They are in the same folder; those of a clone are in that of its origin as well.
    """
    found = [path]
    while OVERLAY_NAME.fullmatch(os.path.basename(found[-1])):
        backing = images.probe(found[-1]).backing_file
        if not backing or backing in found:
            break
        if os.path.dirname(backing) != os.path.dirname(found[-1]) and not is_layer(backing):
            break
        found.append(backing)
    return found


def is_layer(path: str) -> bool:
    """Return whether an image belongs to a snapshot of the VM in whose folder it is."""
    folder, name = os.path.split(path)
    for record in glob.glob(os.path.join(glob.escape(folder), "snapshots", "*", "snapshot.json")):
        content = read_json(record)
        layers = content.get("disks") if isinstance(content, dict) else None
        if isinstance(layers, dict) and name in layers.values():
            return True
    return False
