# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Image files made and changed by qemu-img. Source: QEMU, docs/tools/qemu-img."""

from __future__ import annotations

import contextlib
import json
import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    ProgramError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import create_atomically
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import run_program
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import format_size
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import overlay_cache
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.images import probe

_SPREAD = ("monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat")


class QemuImg:
    """The qemu-img at path. Sizes are bytes; timeout: seconds that one run may take, default an hour.

    Every path is made absolute: QEMU takes a name such as nbd:x or json:{ for a protocol, but never one that starts
    with a slash (block.c, path_has_protocol). Raises ImageError and ProgramError.
    """

    def __init__(self, path, timeout=3600):
        self.path = path
        self.timeout = timeout

    def info(self, path, chain=False, format=None):
        """What qemu-img info says, as a dict; with chain a list of dicts, the image first. Works on an image in use."""
        words = (
            ["--output=json", "-U"]
            + (["--backing-chain"] if chain else [])
            + (["-f", format] if format else [])
        )
        return json.loads(self._run("info", words, path)[1])

    def create(
        self,
        path,
        format,
        size=None,
        options=None,
        backing_file=None,
        backing_format=None,
        mode=0o600,
    ):
        """Make a new image, whole or not at all; refuse when there is something at path.

        size: may be None with a backing_file. backing_file: absolute, or relative to the folder of path.
        backing_format: default as found; refused when the image is of another format.
        """
        words = ["-f", format]
        if backing_file is not None:
            backing_file, backing_format = self._backing(path, backing_file, backing_format)
            words += ["-b", backing_file, "-F", backing_format]
            if format == "qcow2" and not options:
                self._make_overlay(words, path, size, mode, backing_file)
                return
        self._make(
            "create", words, path, format, options, mode, last=[] if size is None else [str(size)]
        )

    def _make_overlay(self, words, path, size, mode, backing_file):
        """An overlay as qemu-img makes it, or a copy of the one that it made before."""
        key = overlay_cache.cache_key([self.path, *words], size, backing_file)
        content = overlay_cache.find(key)
        if content is None:
            self._make(
                "create", words, path, "qcow2", None, mode, last=[] if size is None else [str(size)]
            )
            if key:
                overlay_cache.store(key, path)
            return
        with _new_image(path, mode) as (handle, _name):
            overlay_cache.write_copy(handle, content)

    def overlay(self, path, backing_file, backing_format=None, size=None, options=None):
        """Make a qcow2 overlay on backing_file, as create does."""
        self.create(path, "qcow2", size, options, backing_file, backing_format)

    def convert(
        self, source, target, format, options=None, source_format=None, compress=False, mode=0o600
    ):
        """Make a full copy of source in format, whole or not at all; refuse when there is something at target."""
        words = ["-f", source_format or probe(source).format, "-O", format] + (
            ["-c"] if compress else []
        )
        self._make("convert", words, target, format, options, mode, source=source)

    def resize(self, path, size, shrink=False, format=None):
        """Give an image another virtual size; smaller only with shrink."""
        header = probe(path)
        format = format or header.format
        now = header.virtual_size
        if now is None or format != header.format:
            now = self.info(path, format=format)["virtual-size"]
        if size < now and not shrink:
            raise ImageError(
                "%s has %s: making it %s would cut off its end. Set allow_shrink to do that"
                % (path, format_size(now), format_size(size)),
                path=str(path),
            )
        self._run(
            "resize", ["-f", format] + (["--shrink"] if size < now else []), path, [str(size)]
        )

    def rebase(self, path, backing_file, backing_format=None, unsafe=False):
        """Put an overlay on another backing file; None or "" puts it on none and copies what it needs from the old ones.

        unsafe: only the name is changed, for a backing file that was moved and has the same content.
        """
        words = ["-f", probe(path).format] + (["-u"] if unsafe else [])
        if backing_file:
            backing_file, backing_format = self._backing(path, backing_file, backing_format)
            words += ["-b", backing_file, "-F", backing_format]
        else:
            words += ["-b", ""]
        self._run("rebase", words, path)

    def commit(self, path, base=None):
        """Write an overlay's content into its backing file and empty it; with base into that one, and leave the overlay as it is."""
        self._run(
            "commit",
            ["-f", probe(path).format] + (["-b", os.path.abspath(base)] if base else []),
            path,
        )

    def check(self, path, repair=None, format=None):
        """Check an image: a dict of supported, ok, errors, corruptions, leaks, corruptions_fixed, leaks_fixed (numbers).

        repair: None, leaks or all. supported is False, and ok True, for a format that has nothing to check, such as raw.
        """
        words = ["--output=json", "-f", format or probe(path).format] + (
            ["-r", repair] if repair else []
        )
        code, out, err = self._run("check", words, path, accept=(0, 2, 3, 63))
        report = json.loads(out) if code != 63 else {}
        return {
            "supported": code != 63,
            "ok": code in (0, 63),
            "errors": report.get("check-errors", 0),
            "corruptions": report.get("corruptions", 0),
            "leaks": report.get("leaks", 0),
            "corruptions_fixed": report.get("corruptions-fixed", 0),
            "leaks_fixed": report.get("leaks-fixed", 0),
        }

    def snapshots(self, path):
        """The internal snapshots: a list of dicts with id, name, date (seconds since 1970) and vm_state_size."""
        return [
            {
                "id": item["id"],
                "name": item["name"],
                "date": item["date-sec"],
                "vm_state_size": item["vm-state-size"],
            }
            for item in self.info(path).get("snapshots", [])
        ]

    def snapshot_create(self, path, name):
        """Take an internal snapshot; qemu-img itself would take a second one of the same name."""
        if any(item["name"] == name for item in self.snapshots(path)):
            raise ImageError(
                "%s has a snapshot %s already: delete it first, or choose another name"
                % (path, name),
                path=str(path),
            )
        self._run("snapshot", ["-c", name], path)

    def snapshot_apply(self, path, name):
        """Go back to an internal snapshot. By its id: qemu-img takes a name of digits for an id."""
        self._run("snapshot", ["-a", self._snapshot(path, name)["id"]], path)

    def snapshot_delete(self, path, name):
        """Delete an internal snapshot."""
        self._snapshot(path, name)
        self._run("snapshot", ["-d", name], path)

    def is_empty_overlay(self, path):
        """Whether an overlay holds nothing of its own: nothing written, no snapshot. Works on an image in use."""
        header = probe(path)
        if header.backing_file is None or header.snapshots:
            return False
        under = self.info(path, chain=True)[1][
            "virtual-size"
        ]  # what is beyond its end is said to be the overlay's own zeroes
        parts = json.loads(self._run("map", ["--output=json", "-U", "-f", header.format], path)[1])
        return all(
            part["depth"] > 0 or part["start"] >= under and part["zero"] and not part["data"]
            for part in parts
        )

    def _snapshot(self, path, name):
        known = self.snapshots(path)
        for item in known:
            if item["name"] == name:
                return item
        raise ImageError(
            "%s has no snapshot %s; it has %s"
            % (path, name, ", ".join(item["name"] for item in known) or "none"),
            path=str(path),
        )

    @staticmethod
    def _backing(path, backing_file, backing_format):
        """The backing file's absolute name, and its format, found in the file itself."""
        backing_file = os.path.join(os.path.dirname(os.path.abspath(path)), backing_file)
        found = probe(backing_file).format
        if backing_format not in (None, found):
            raise ImageError(
                "the backing file %s is %s, not %s: leave backing_format out, or correct it"
                % (backing_file, found, backing_format),
                path=str(backing_file),
            )
        return backing_file, found

    def _make(self, command, words, path, format, options, mode, source=None, last=()):
        if format == "vmdk" and (options or {}).get("subformat") in _SPREAD:
            raise ImageError(
                "%s: a vmdk of subformat %s is several files: use monolithicSparse or streamOptimized"
                % (path, options["subformat"]),
                path=str(path),
            )
        if (
            format == "vpc"
        ):  # or the size is rounded to whole cylinders, and is never the one asked for
            options = {"force_size": True, **(options or {})}
        with _new_image(path, mode) as (handle, name):
            if source is not None:
                self._run(command, words + _options(options), source, [name], pass_fds=(handle,))
            else:
                self._run(command, words + _options(options), path, last, name, pass_fds=(handle,))

    def _run(self, command, words, path, last=(), real=None, accept=(0,), pass_fds=()):
        purpose = "qemu-img %s of %s" % (command, path)
        try:
            return run_program(
                [self.path, command]
                + list(words)
                + ["--", real or os.path.abspath(path)]
                + list(last),
                timeout=self.timeout,
                accept=accept,
                purpose=purpose,
                pass_fds=pass_fds,
            )
        except ProgramError as error:
            error.facts["path"] = str(path)
            said = error.facts.get("stderr", "")
            if "Failed to get" in said and "lock" in said:
                raise ImageError(
                    "%s is not possible: it, or an image under it, is in use by a running QEMU. Stop that VM, "
                    "or do it through the VM. qemu-img said: %s" % (purpose, said.strip()),
                    **error.facts,
                )
            raise


@contextlib.contextmanager
def _new_image(path, mode):
    """A descriptor and a name of an image that appears at path, whole. Raises ImageError, also when something is there."""
    target = os.path.abspath(path)
    try:
        if os.path.lexists(target):
            raise FileExistsError
        with create_atomically(target, mode) as opened:
            yield opened
    except FileExistsError:
        raise ImageError(
            "there is something at %s already, and it is left alone: remove it, or choose another path"
            % path,
            path=str(path),
        )
    except OSError as error:
        raise ImageError("cannot make the image %s: %s" % (path, error.strerror), path=str(path))


def _options(options):
    """The words of -o: QEMU wants commas in values doubled, and on or off for a boolean."""
    words = []
    for key, value in sorted((options or {}).items()):
        text = ("on" if value else "off") if isinstance(value, bool) else str(value)
        words.append("%s=%s" % (key, text.replace(",", ",,")))
    return ["-o", ",".join(words)] if words else []
