# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Plan the changes of one image file: pure functions of the options and of what was observed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import FILE, Change, Item
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import format_size

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params

# The facts of an image, as describe returns them.
ImageFacts = Dict[str, Any]
# What counts of a new image.
_NEW: ImageFacts = {"format": "qcow2", "snapshots": []}


class ImageObservation(NamedTuple):
    """The observed state of an image.

    path_exists: whether there is a file at its path.
    facts: of an image that exists and is not to be removed, else None. check: the report of
    qemu-img check, if asked for. is_empty_overlay: whether it has nothing to commit, if asked for.
    is_backing_missing: whether the recorded base does not exist. origin_size: of the source or base
    of an image that does not exist.
    """

    path_exists: bool
    facts: ImageFacts | None = None
    check: dict[str, Any] | None = None
    is_empty_overlay: bool = False
    is_backing_missing: bool = False
    origin_size: int | None = None


def plan_image(params: Params, desired: Params, observation: ImageObservation) -> list[Change]:
    """Plan an image: a pure function. desired: the normalised options.

    Raises OptionError and ImageError for what cannot be done. The verb of a change names
    a step of Image.
    """
    if params["state"] == "absent":
        exists = observation.path_exists
        return [_change("remove", "path", desired["path"], None)] if exists else []
    if observation.facts is None:
        return _plan_new(params, desired, observation.origin_size)
    return _plan_existing(params, desired, observation, observation.facts)


def _change(
    verb: str, option: str, before: object, after: object, item: str | None = None
) -> Change:
    path = (option,) if item is None else (option, Item(item))
    return Change(path, before, after, FILE, verb=verb)


def _plan_new(params: Params, desired: Params, origin_size: int | None) -> list[Change]:
    path, size, base = desired["path"], desired.get("size"), desired.get("backing_file")
    if desired["source"] and base:
        raise OptionError("source", "it makes a full copy and cannot be combined with backing_file")
    if not desired["source"] and not base and not size:
        raise OptionError(
            "size", "%s does not exist: give size, backing_file or source to create it" % path
        )
    if desired.get("restore_snapshot"):
        raise OptionError("restore_snapshot", "%s does not exist yet" % path)
    if size and origin_size and size < origin_size and not params["allow_shrink"]:
        raise OptionError(
            "size",
            "%s is smaller than %s of %s, whose end would be cut off: give at least that, or omit"
            " size; allow_shrink: true allows it"
            % (format_size(size), desired["source"] or base, format_size(origin_size)),
        )
    changes = [_change("copy" if desired["source"] else "create", "path", None, path)]
    return changes + plan_snapshots(params, desired, _NEW)


def _plan_existing(
    params: Params, desired: Params, observation: ImageObservation, facts: ImageFacts
) -> list[Change]:
    path = desired["path"]
    changes = _plan_repair(params, path, observation.check)
    snapshots = plan_snapshots(params, desired, facts)
    image_format = desired.get("format")
    if image_format and image_format != facts["format"]:
        if not params["convert"]:
            raise OptionError(
                "format",
                "%s is %s; set convert: true to convert it to %s"
                % (path, facts["format"], image_format),
            )
        _check_lost_snapshots(params, desired, facts)
        # A conversion keeps no snapshot: they are deleted before it.
        changes += [change for change in snapshots if change.verb == "delete_snapshot"]
        snapshots = [change for change in snapshots if change.verb != "delete_snapshot"]
        changes.append(_change("convert", "format", facts["format"], image_format))
    changes += _plan_backing(params, desired, facts)
    changes += _plan_size(params, desired, facts)
    changes += snapshots
    if params["commit"]:
        if not facts["backing_file"]:
            raise OptionError("commit", "%s is no overlay: it has no base to commit to" % path)
        if not observation.is_empty_overlay:
            before = "differs from %s" % facts["backing_file"]
            changes.append(_change("commit", "commit", before, "committed"))
    return changes


def _check_lost_snapshots(params: Params, desired: Params, facts: ImageFacts) -> None:
    """Raise OptionError if a conversion would lose internal snapshots."""
    names = [entry["name"] for entry in facts["snapshots"]]
    if names and not (params["purge_snapshots"] and desired.get("snapshots") == []):
        raise OptionError(
            "convert",
            "%s has the internal snapshots %s, which a converted image does not have: delete them"
            " with snapshots: [] and purge_snapshots: true, or copy the image with source"
            % (desired["path"], ", ".join(names)),
        )


def _plan_repair(params: Params, path: str, check: dict[str, Any] | None) -> list[Change]:
    if check is None:
        return []
    repair, leaks, corruptions = (
        params["repair"],
        check.get("leaks", 0),
        check.get("corruptions", 0),
    )
    if repair != "none" and (leaks or corruptions and repair == "all"):
        before = {"leaks": leaks, "corruptions": corruptions}
        after = {"leaks": 0, "corruptions": 0 if repair == "all" else corruptions}
        return [_change("repair", "repair", before, after)]
    if corruptions:
        raise ImageError(
            "check: %s has %d corruptions: set repair: all to repair what can be repaired"
            % (path, corruptions),
            path=path,
            check=check,
        )
    return []


def _plan_backing(params: Params, desired: Params, facts: ImageFacts) -> list[Change]:
    if desired.get("backing_file") is None and params["backing_file"] != "":
        return []
    before, after = facts["backing_file"], desired.get("backing_file") or None
    return [] if before == after else [_change("rebase", "backing_file", before, after)]


def _plan_size(params: Params, desired: Params, facts: ImageFacts) -> list[Change]:
    before, after = facts["size"], desired.get("size")
    if not after or after == before:
        return []
    if after < before and not params["allow_shrink"]:
        raise OptionError(
            "size",
            "%s is %s; making it %s would cut data off: set allow_shrink: true to allow that"
            % (desired["path"], format_size(before), format_size(after)),
        )
    return [_change("resize", "size", format_size(before), format_size(after))]


def plan_snapshots(params: Params, desired: Params, facts: ImageFacts) -> list[Change]:
    """Plan the internal snapshots of an image: a pure function. Raises OptionError."""
    changes = []
    names, existing = desired.get("snapshots"), [entry["name"] for entry in facts["snapshots"]]
    restore = params["restore_snapshot"]
    if restore:
        if restore not in existing:
            raise OptionError(
                "restore_snapshot",
                "%s has no snapshot %r; it has %s"
                % (desired["path"], restore, ", ".join(existing) or "none"),
            )
        changes.append(_change("restore_snapshot", "restore_snapshot", None, restore))
    if names is None:
        return changes
    image_format = desired.get("format") or facts["format"]
    if names and image_format != "qcow2":
        raise OptionError(
            "snapshots", "an image of format %s has no snapshots: use qcow2" % image_format
        )
    changes += [
        _change("create_snapshot", "snapshots", None, name, name)
        for name in names
        if name not in existing
    ]
    if params["purge_snapshots"]:
        changes += [
            _change("delete_snapshot", "snapshots", name, None, name)
            for name in existing
            if name not in names
        ]
    return changes
