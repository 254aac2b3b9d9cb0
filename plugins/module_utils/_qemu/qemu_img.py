# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Make and change image files with qemu-img. Source: QEMU, docs/tools/qemu-img."""

from __future__ import annotations

import filecmp
import json
import os
from typing import Any, Callable, Collection, Mapping, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    ProgramError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import run_program
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import format_size
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import encryption, overlay_cache
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.images import probe
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.new_images import (
    NewFile,
    error_of,
    new_image,
    replaced_image,
    space_text,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import (
    keyval,
    qom_object,
)

# Subformats of vmdk that consist of several files.
_SPLIT_VMDK = ("monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat")
# The IDs of the secrets of an image, and of the source of a copy.
_SECRET, _SOURCE_SECRET = "secret0", "secret1"
_FULL = ("No space left on device", "Disk quota exceeded")
_NOT_CALIBRATED = "Unable to get accurate CPU usage"
_CALIBRATIONS = 5


class QemuImg:
    """The qemu-img program at path.

    Sizes are in bytes. timeout: seconds for one run, default an hour. secret: of an encrypted
    image, or one with an encrypted base: the path of a file with its passphrase.
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
        secret: str | None = None,
    ) -> None:
        """Make a new image, atomically; refuse if path exists.

        size: may be None with a backing_file.
        backing_file: absolute, or relative to the folder of path.
        backing_format: default: the format found; another one is refused.
        secret: encrypt the image with it.
        """
        words = ["-f", format]
        if backing_file is not None:
            backing_file, backing_format = self._backing(path, backing_file, backing_format)
            words += ["-b", backing_file, "-F", backing_format]
            if format == "qcow2" and not options and not secret:
                self._make_overlay(words, path, size, mode, backing_file)
                return
            if secret and encryption.is_encrypted(backing_file, backing_format):
                # qemu-img has no secret for a base: it must not open it.
                words += ["-u"]
                size = size or self.virtual_size(backing_file, backing_format)
        self._make(words, path, format, size, options, mode, secret)

    def _make_overlay(
        self, words: list[str], path: str, size: int | None, mode: int, backing_file: str
    ) -> None:
        """Make an overlay with qemu-img, or copy an equal one that it made before."""
        key = overlay_cache.cache_key([self.path, *words], size, backing_file)
        content = overlay_cache.find(key)
        if content is None:
            self._make(words, path, "qcow2", size, None, mode, None)
            if key:
                overlay_cache.store(key, path)
            return
        with new_image(path, mode) as (handle, _name):
            overlay_cache.write_copy(handle, content)

    def _make(
        self,
        words: list[str],
        path: str,
        format: str,
        size: int | None,
        options: Mapping[str, Any] | None,
        mode: int,
        secret: str | None,
    ) -> None:
        words = words + _creation_words(path, format, options, secret)
        last = [] if size is None else [str(size)]
        preallocation = (options or {}).get("preallocation")
        needed = size if preallocation in ("full", "falloc") else None
        with new_image(path, mode) as (handle, name):
            self._run(
                "create", words, path, last, real=name, pass_fds=(handle,), needed=lambda: needed
            )

    def overlay(
        self,
        path: str,
        backing_file: str,
        backing_format: str | None = None,
        size: int | None = None,
        options: Mapping[str, Any] | None = None,
        secret: str | None = None,
    ) -> None:
        """Make a qcow2 overlay on backing_file; see create()."""
        self.create(path, "qcow2", size, options, backing_file, backing_format, secret=secret)

    def layer(self, path: str, backing_file: str, size: int) -> None:
        """Make a qcow2 overlay on a qcow2 image that a running QEMU may have open.

        A new overlay that a killed run has left at path stays.
        """
        words = ["-u", "-f", "qcow2", "-F", "qcow2", "-b", os.path.abspath(backing_file)]
        if not os.path.lexists(path) or not self._is_new(path, words, size):
            self._make(words, path, "qcow2", size, None, 0o600, None)

    def _is_new(self, path: str, words: list[str], size: int) -> bool:
        """Return whether an image is what qemu-img makes: nothing has been written to it."""
        handle = os.memfd_create("qemu-img")
        try:
            name = "/proc/self/fd/%d" % handle
            self._run("create", words, path, [str(size)], real=name, pass_fds=(handle,))
            if os.path.islink(path) or os.path.getsize(path) != os.fstat(handle).st_size:
                return False
            return filecmp.cmp(path, name, shallow=False)
        except OSError as error:
            raise error_of(path, error)
        finally:
            os.close(handle)

    def convert(
        self,
        source: str,
        target: str,
        format: str,
        options: Mapping[str, Any] | None = None,
        source_format: str | None = None,
        compress: bool = False,
        mode: int = 0o600,
        size: int | None = None,
        secret: str | None = None,
        source_secret: str | None = None,
    ) -> None:
        """Make a full copy of source in format, atomically; refuse if target exists.

        size: the virtual size of the copy; default: that of the source. secret: encrypt the copy
        with it.
        """
        self._copy(
            lambda: new_image(target, mode),
            source,
            target,
            format,
            _creation_words(target, format, options, secret) + (["-c"] if compress else []),
            source_format,
            size,
            secret,
            source_secret,
        )

    def convert_and_replace(
        self,
        path: str,
        format: str,
        options: Mapping[str, Any] | None = None,
        compress: bool = False,
        secret: str | None = None,
    ) -> None:
        """Replace an image by a full copy in format, atomically; keep its mode and owner."""
        self._copy(
            lambda: replaced_image(path),
            path,
            path,
            format,
            _creation_words(path, format, options, secret) + (["-c"] if compress else []),
            secret=secret,
            source_secret=secret if encryption.is_encrypted(path) else None,
        )

    def _copy(
        self,
        new_file: NewFile,
        source: str,
        target: str,
        format: str,
        words: list[str],
        source_format: str | None = None,
        size: int | None = None,
        secret: str | None = None,
        source_secret: str | None = None,
    ) -> None:
        """Copy source into a new file; see convert()."""
        source_format = source_format or probe(source).format
        opened, source_name = _opened(source, source_format, source_secret, _SOURCE_SECRET)
        with new_file() as (handle, name):
            self._run(
                "convert",
                [*opened, "-O", format, *words],
                source,
                [name],
                real=source_name,
                pass_fds=(handle,),
                written=target,
                needed=lambda: self._measure(opened, source_name, format),
            )
            if size is not None:
                resized, new_name = _opened(name, format, secret)
                self._run(
                    "resize",
                    [*resized, "--shrink"],
                    target,
                    [str(size)],
                    real=new_name,
                    pass_fds=(handle,),
                )

    def _measure(self, opened: list[str], name: str, format: str) -> int | None:
        """Return how many bytes a copy in format takes, None if that is not known."""
        words = [self.path, "measure", "--output=json", *opened, "-O", format, "--", name]
        try:
            _code, out, _err = run_program(
                words, timeout=self.timeout, accept=(0,), purpose="qemu-img measure", pass_fds=()
            )
            report = json.loads(out)
            return int(report["required"])
        except (VlabError, ValueError, KeyError):
            return None

    def virtual_size(self, path: str, format: str | None = None) -> int:
        """Return the size that a guest sees.

        format: of the image. The size of a raw one is that of the file, whatever a guest wrote.
        """
        header = probe(path)
        if format == "raw" and header.format != "raw":
            with open(path, "rb") as stream:
                return stream.seek(0, os.SEEK_END)
        if header.virtual_size is not None and format in (None, header.format):
            return header.virtual_size
        return int(self.info(path, format=format or header.format)["virtual-size"])

    def resize(
        self,
        path: str,
        size: int,
        shrink: bool = False,
        format: str | None = None,
        secret: str | None = None,
    ) -> None:
        """Change the virtual size of an image; make it smaller only with shrink."""
        format = format or probe(path).format
        current = self.virtual_size(path, format)
        if size < current and not shrink:
            raise ImageError(
                "%s has %s: making it %s would cut off its end. Set allow_shrink to do that"
                % (path, format_size(current), format_size(size)),
                path=str(path),
            )
        words, name = _opened(path, format, secret)
        words += ["--shrink"] if size < current else []
        self._run("resize", words, path, [str(size)], real=name)

    def rebase(
        self,
        path: str,
        backing_file: str | None,
        backing_format: str | None = None,
        unsafe: bool = False,
        secret: str | None = None,
    ) -> None:
        """Change the backing file of an overlay; None or "": copy all it needs and have no base.

        unsafe: change only the name, for a backing file that was moved and has the same content.
        """
        words, name = _opened(path, probe(path).format, secret, with_bases=not unsafe)
        words += ["-u"] if unsafe else []
        if backing_file:
            backing_file, backing_format = self._backing(path, backing_file, backing_format)
            words += ["-b", backing_file, "-F", backing_format]
            if not unsafe and encryption.is_encrypted(backing_file, backing_format):
                raise ImageError(
                    "%s cannot be moved to %s, because that is encrypted: make a new overlay over"
                    " it" % (path, backing_file),
                    path=str(path),
                )
        else:
            words += ["-b", ""]
        self._run("rebase", words, path, real=name)

    def commit(self, path: str, base: str | None = None, secret: str | None = None) -> None:
        """Write the content of an overlay into its backing file and empty the overlay.

        base: write into this file of the chain, and do not empty the overlay.
        """
        words, name = _opened(path, probe(path).format, secret)
        words += ["-b", os.path.abspath(base)] if base else []
        self._run("commit", words, path, real=name)

    def check(
        self,
        path: str,
        repair: str | None = None,
        format: str | None = None,
        secret: str | None = None,
    ) -> dict[str, Any]:
        """Check an image.

        Return a dict with supported, ok, and the numbers errors, corruptions, leaks,
        corruptions_fixed, leaks_fixed.
        repair: None, leaks or all. A format without checks, such as raw, is not supported, but ok.
        """
        opened, name = _opened(path, format or probe(path).format, secret)
        words = ["--output=json", *opened] + (["-r", repair] if repair else [])
        code, out, _err = self._run("check", words, path, real=name, accept=(0, 2, 3, 63))
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

    def snapshot_create(self, path: str, name: str, secret: str | None = None) -> None:
        """Take an internal snapshot; refuse a name in use, which qemu-img would accept."""
        if any(item["name"] == name for item in self.snapshots(path)):
            raise ImageError(
                "%s has a snapshot %s already: delete it first, or choose another name"
                % (path, name),
                path=str(path),
            )
        self._snapshot(["-c", name], path, secret)

    def snapshot_apply(self, path: str, name: str, secret: str | None = None) -> None:
        """Go back to an internal snapshot. By its id: qemu-img takes a name of digits for one."""
        self._snapshot(["-a", self._find_snapshot(path, name)["id"]], path, secret)

    def snapshot_delete(self, path: str, name: str, secret: str | None = None) -> None:
        """Delete an internal snapshot."""
        self._find_snapshot(path, name)
        self._snapshot(["-d", name], path, secret)

    def _snapshot(self, words: list[str], path: str, secret: str | None) -> None:
        opened, image = _opened(path, "qcow2", secret) if secret else ([], None)
        self._run("snapshot", opened + words, path, real=image)

    def is_empty_overlay(self, path: str, secret: str | None = None) -> bool:
        """Return whether an overlay has no data and no snapshot of its own.

        Works on an image in use.
        """
        header = probe(path)
        if header.backing_file is None or header.snapshots:
            return False
        # qemu-img counts what is beyond the end of the base as zeroes of the overlay.
        base_size = self.info(path, chain=True)[1]["virtual-size"]
        opened, name = _opened(path, header.format, secret)
        parts = json.loads(self._run("map", ["--output=json", "-U", *opened], path, real=name)[1])
        return all(
            part["depth"] > 0 or part["start"] >= base_size and part["zero"] and not part["data"]
            for part in parts
        )

    def _find_snapshot(self, path: str, name: str) -> dict[str, Any]:
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

    def _run(
        self,
        command: str,
        words: list[str],
        path: str,
        last: Sequence[str] = (),
        real: str | None = None,
        accept: Collection[int] = (0,),
        pass_fds: Collection[int] = (),
        written: str | None = None,
        needed: Callable[[], int | None] = lambda: None,
    ) -> tuple[int, str, str]:
        """Run a command on path. real: the name to use for path. last: words after it.

        written: the image that it writes, default path. needed: return about how many bytes that
        takes; called if there is no space.
        """
        purpose = "qemu-img %s of %s" % (command, path)
        argv = [self.path, command, *words, "--", real or os.path.abspath(path), *last]
        try:
            return _run_calibrated(
                argv, timeout=self.timeout, accept=accept, purpose=purpose, pass_fds=pass_fds
            )
        except ProgramError as error:
            error.facts["path"] = str(path)
            output = error.facts.get("stderr", "")
            if "Failed to get" in output and "lock" in output:
                raise ImageError(
                    "%s is not possible: it, or an image under it, is in use by a running QEMU. "
                    "Stop that VM. qemu_disk with vm takes snapshots and backups while it runs. "
                    "qemu-img said: %s" % (purpose, output.strip()),
                    **error.facts,
                )
            if any(text in output for text in _FULL):
                raise ImageError(
                    "%s failed: %s. qemu-img said: %s"
                    % (purpose, space_text(written or path, needed()), output.strip()),
                    **error.facts,
                )
            raise


def _run_calibrated(argv: list[str], **how: Any) -> tuple[int, str, str]:
    """Run qemu-img; again if it could not measure how fast this host derives a key from a secret.

    Source: QEMU, crypto/pbkdf.c: it fails if its thread seems to have used no processor time, which
    happens by chance.
    """
    for _try in range(_CALIBRATIONS - 1):
        try:
            return run_program(argv, **how)
        except ProgramError as error:
            if _NOT_CALIBRATED not in error.facts.get("stderr", ""):
                raise
    return run_program(argv, **how)


def _opened(
    path: str,
    format: str,
    secret: str | None,
    identifier: str = _SECRET,
    with_bases: bool = True,
) -> tuple[list[str], str]:
    """Return the words by which a command opens an image, and the name of the image."""
    path = os.path.abspath(path)
    if not secret:
        return ["-f", format], path
    words = ["--object", qom_object(encryption.secret(identifier, secret))[1], "--image-opts"]
    node = encryption.node_options(path, format, identifier, with_bases)
    return words, keyval(None, node)


def _creation_words(
    path: str, format: str, options: Mapping[str, Any] | None, secret: str | None
) -> list[str]:
    """Return the words with the format options of a new image. Raises ImageError."""
    options = dict(options or {})
    words = []
    if format == "vmdk" and options.get("subformat") in _SPLIT_VMDK:
        raise ImageError(
            "%s: a vmdk of subformat %s is several files: use monolithicSparse or "
            "streamOptimized" % (path, options["subformat"]),
            path=str(path),
        )
    if format == "vpc":  # without it the size is rounded to whole cylinders
        options.setdefault("force_size", True)
    if secret:
        options.update(encryption.creation_options(format, _SECRET))
        words += ["--object", qom_object(encryption.secret(_SECRET, secret))[1]]
    if options:
        words += ["-o", keyval(None, dict(sorted(options.items())))]
    return words
