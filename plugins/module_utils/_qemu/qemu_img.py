# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Make and change image files with qemu-img. Source: QEMU, docs/tools/qemu-img."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Collection, Iterator, Mapping, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    ProgramError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import create_atomically
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import run_program
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import format_size
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import overlay_cache
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.images import probe
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import keyval

# Subformats of vmdk that consist of several files.
_SPLIT_VMDK = ("monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat")


class QemuImg:
    """The qemu-img program at path.

    Sizes are in bytes. timeout: seconds for one run, default an hour.
    Every path is made absolute: QEMU takes a name such as nbd:x or json:{ for a protocol, but never
    one that starts with a slash (block.c, path_has_protocol). Raises ImageError and ProgramError.
    """

    def __init__(self, path: str, timeout: float = 3600) -> None:
        self.path = path
        self.timeout = timeout

    def info(self, path: str, chain: bool = False, format: str | None = None) -> Any:
        """Return the output of qemu-img info, as a dict. Works on an image in use.

        chain: return a list of dicts: the image, then its backing files.
        """
        words = (
            ["--output=json", "-U"]
            + (["--backing-chain"] if chain else [])
            + (["-f", format] if format else [])
        )
        return json.loads(self._run("info", words, path)[1])

    def create(
        self,
        path: str,
        format: str,
        size: int | None = None,
        options: Mapping[str, Any] | None = None,
        backing_file: str | None = None,
        backing_format: str | None = None,
        mode: int = 0o600,
    ) -> None:
        """Make a new image, atomically; refuse if path exists.

        size: may be None with a backing_file.
        backing_file: absolute, or relative to the folder of path.
        backing_format: default: the format found; another one is refused.
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

    def _make_overlay(
        self, words: list[str], path: str, size: int | None, mode: int, backing_file: str
    ) -> None:
        """Make an overlay with qemu-img, or copy an equal one that it made before."""
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

    def overlay(
        self,
        path: str,
        backing_file: str,
        backing_format: str | None = None,
        size: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Make a qcow2 overlay on backing_file; see create()."""
        self.create(path, "qcow2", size, options, backing_file, backing_format)

    def layer(self, path: str, backing_file: str, size: int) -> None:
        """Make a qcow2 overlay on a qcow2 image that a running QEMU may have open."""
        words = ["-u", "-f", "qcow2", "-F", "qcow2", "-b", os.path.abspath(backing_file)]
        self._make("create", words, path, "qcow2", None, 0o600, last=[str(size)])

    def convert(
        self,
        source: str,
        target: str,
        format: str,
        options: Mapping[str, Any] | None = None,
        source_format: str | None = None,
        compress: bool = False,
        mode: int = 0o600,
    ) -> None:
        """Make a full copy of source in format, atomically; refuse if target exists."""
        words = ["-f", source_format or probe(source).format, "-O", format] + (
            ["-c"] if compress else []
        )
        self._make("convert", words, target, format, options, mode, source=source)

    def resize(self, path: str, size: int, shrink: bool = False, format: str | None = None) -> None:
        """Change the virtual size of an image; make it smaller only with shrink."""
        header = probe(path)
        format = format or header.format
        current = header.virtual_size
        if current is None or format != header.format:
            current = int(self.info(path, format=format)["virtual-size"])
        if size < current and not shrink:
            raise ImageError(
                "%s has %s: making it %s would cut off its end. Set allow_shrink to do that"
                % (path, format_size(current), format_size(size)),
                path=str(path),
            )
        self._run(
            "resize", ["-f", format] + (["--shrink"] if size < current else []), path, [str(size)]
        )

    def rebase(
        self,
        path: str,
        backing_file: str | None,
        backing_format: str | None = None,
        unsafe: bool = False,
    ) -> None:
        """Change the backing file of an overlay; None or "": copy all it needs and have no base.

        unsafe: change only the name, for a backing file that was moved and has the same content.
        """
        words = ["-f", probe(path).format] + (["-u"] if unsafe else [])
        if backing_file:
            backing_file, backing_format = self._backing(path, backing_file, backing_format)
            words += ["-b", backing_file, "-F", backing_format]
        else:
            words += ["-b", ""]
        self._run("rebase", words, path)

    def commit(self, path: str, base: str | None = None) -> None:
        """Write the content of an overlay into its backing file and empty the overlay.

        base: write into this file of the chain, and do not empty the overlay.
        """
        self._run(
            "commit",
            ["-f", probe(path).format] + (["-b", os.path.abspath(base)] if base else []),
            path,
        )

    def check(
        self, path: str, repair: str | None = None, format: str | None = None
    ) -> dict[str, Any]:
        """Check an image.

        Return a dict with supported, ok, and the numbers errors, corruptions, leaks,
        corruptions_fixed, leaks_fixed.
        repair: None, leaks or all. A format without checks, such as raw, is not supported, but ok.
        """
        words = ["--output=json", "-f", format or probe(path).format] + (
            ["-r", repair] if repair else []
        )
        code, out, _err = self._run("check", words, path, accept=(0, 2, 3, 63))
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

    def snapshots(self, path: str) -> list[dict[str, Any]]:
        """Return the internal snapshots: dicts with id, name, date, vm_state_size.

        date: seconds since 1970.
        """
        return [
            {
                "id": item["id"],
                "name": item["name"],
                "date": item["date-sec"],
                "vm_state_size": item["vm-state-size"],
            }
            for item in self.info(path).get("snapshots", [])
        ]

    def snapshot_create(self, path: str, name: str) -> None:
        """Take an internal snapshot; refuse a name in use, which qemu-img would accept."""
        if any(item["name"] == name for item in self.snapshots(path)):
            raise ImageError(
                "%s has a snapshot %s already: delete it first, or choose another name"
                % (path, name),
                path=str(path),
            )
        self._run("snapshot", ["-c", name], path)

    def snapshot_apply(self, path: str, name: str) -> None:
        """Go back to an internal snapshot. By its id: qemu-img takes a name of digits for one."""
        self._run("snapshot", ["-a", self._snapshot(path, name)["id"]], path)

    def snapshot_delete(self, path: str, name: str) -> None:
        """Delete an internal snapshot."""
        self._snapshot(path, name)
        self._run("snapshot", ["-d", name], path)

    def is_empty_overlay(self, path: str) -> bool:
        """Return whether an overlay has no data and no snapshot of its own.

        Works on an image in use.
        """
        header = probe(path)
        if header.backing_file is None or header.snapshots:
            return False
        # qemu-img counts what is beyond the end of the base as zeroes of the overlay.
        base_size = self.info(path, chain=True)[1]["virtual-size"]
        parts = json.loads(self._run("map", ["--output=json", "-U", "-f", header.format], path)[1])
        return all(
            part["depth"] > 0 or part["start"] >= base_size and part["zero"] and not part["data"]
            for part in parts
        )

    def _snapshot(self, path: str, name: str) -> dict[str, Any]:
        snapshots = self.snapshots(path)
        for item in snapshots:
            if item["name"] == name:
                return item
        raise ImageError(
            "%s has no snapshot %s; it has %s"
            % (path, name, ", ".join(item["name"] for item in snapshots) or "none"),
            path=str(path),
        )

    @staticmethod
    def _backing(path: str, backing_file: str, backing_format: str | None) -> tuple[str, str]:
        """Return the absolute name of the backing file, and the format found in it."""
        backing_file = os.path.join(os.path.dirname(os.path.abspath(path)), backing_file)
        found = probe(backing_file).format
        if backing_format not in (None, found):
            raise ImageError(
                "the backing file %s is %s, not %s: leave backing_format out, or correct it"
                % (backing_file, found, backing_format),
                path=str(backing_file),
            )
        return backing_file, found

    def _make(
        self,
        command: str,
        words: list[str],
        path: str,
        format: str,
        options: Mapping[str, Any] | None,
        mode: int,
        source: str | None = None,
        last: Sequence[str] = (),
    ) -> None:
        options = dict(options or {})
        if format == "vmdk" and options.get("subformat") in _SPLIT_VMDK:
            raise ImageError(
                "%s: a vmdk of subformat %s is several files: use monolithicSparse or "
                "streamOptimized" % (path, options["subformat"]),
                path=str(path),
            )
        if format == "vpc":  # without it the size is rounded to whole cylinders
            options.setdefault("force_size", True)
        if options:
            words = words + ["-o", keyval(None, dict(sorted(options.items())))]
        with _new_image(path, mode) as (handle, name):
            if source is not None:
                self._run(command, words, source, [name], pass_fds=(handle,))
            else:
                self._run(command, words, path, last, name, pass_fds=(handle,))

    def _run(
        self,
        command: str,
        words: list[str],
        path: str,
        last: Sequence[str] = (),
        real: str | None = None,
        accept: Collection[int] = (0,),
        pass_fds: Collection[int] = (),
    ) -> tuple[int, str, str]:
        """Run a command on path. real: the name to use for path. last: words after it."""
        purpose = "qemu-img %s of %s" % (command, path)
        try:
            return run_program(
                [self.path, command, *words, "--", real or os.path.abspath(path), *last],
                timeout=self.timeout,
                accept=accept,
                purpose=purpose,
                pass_fds=pass_fds,
            )
        except ProgramError as error:
            error.facts["path"] = str(path)
            output = error.facts.get("stderr", "")
            if "Failed to get" in output and "lock" in output:
                raise ImageError(
                    "%s is not possible: it, or an image under it, is in use by a running QEMU. "
                    "Stop that VM, or do it through the VM. qemu-img said: %s"
                    % (purpose, output.strip()),
                    **error.facts,
                )
            raise


@contextlib.contextmanager
def _new_image(path: str, mode: int) -> Iterator[tuple[int, str]]:
    """Yield a descriptor and a name of an image that appears at path, complete.

    Raises ImageError, also if path exists.
    """
    target = os.path.abspath(path)
    try:
        if os.path.lexists(target):
            raise FileExistsError
        with create_atomically(target, mode) as opened:
            yield opened
    except FileExistsError:
        raise ImageError(
            "%s exists already and is not overwritten: remove it, or choose another path" % path,
            path=str(path),
        )
    except OSError as error:
        raise ImageError("cannot make the image %s: %s" % (path, error.strerror), path=str(path))
