# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Encrypted images: QEMU and qemu-img read the passphrase from a file, never from their argv.

Sources: QEMU, docs/system/secrets; qapi/block-core.json, BlockdevOptionsLUKS and
BlockdevOptionsQcow2; qapi/crypto.json, SecretProperties.
"""

from __future__ import annotations

import os
import stat
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    ImageError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.image_files import (
    backing_path,
    files_needed,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.images import (
    ImageHeader,
    check_readable,
    probe,
)

# The formats in which a new image can be encrypted.
ENCRYPTED_FORMATS = ("qcow2", "luks")
_UNSUPPORTED = {
    "aes": "with AES, which QEMU no longer opens: copy it with qemu-img of QEMU 2.x",
    "luks2": "with LUKS2, and QEMU opens LUKS1 only. If the guest itself opens it, set format: raw;"
    " otherwise convert it: cryptsetup convert --type luks1 %s",
}


def secret(identifier: str, path: str) -> dict[str, Any]:
    """Return the secret with the passphrase in the file at path, as object-add takes it."""
    return {"qom-type": "secret", "id": identifier, "file": path}


def creation_options(format: str, identifier: str) -> dict[str, str]:
    """Return the format options of qemu-img for a new encrypted image."""
    if format == "luks":
        return {"key-secret": identifier}
    return {"encrypt.format": "luks", "encrypt.key-secret": identifier}


def encryption_of(path: str, format: str | None) -> str | None:
    """Return how the image at path is encrypted itself: luks, aes, luks2 or None."""
    if format == "raw" or not (os.path.isfile(path) or is_block_device(path)):
        return None
    header = probe(path)
    return header.encryption if format in (None, header.format) else None


def is_encrypted(path: str, format: str | None = None) -> bool:
    """Return whether an image, or any base under it, is encrypted."""
    return encryption_of(path, format) is not None or any(
        needed.is_base and encryption_of(needed.path, needed.format)
        for needed in files_needed(path, format)
    )


def check_secret_file(option: str, path: str) -> None:
    """Raise an error for a file that cannot hold a passphrase."""
    if not check_readable(option, path).st_size:
        raise OptionError(option, "%s is empty: write the passphrase of the image to it" % path)


def check_encryption(
    option: str,
    path: str,
    format: str | None,
    secret_file: str | None,
    secret_option: str = "secret_file",
) -> None:
    """Raise ImageError for an existing image that cannot be opened.

    option: of the image, such as disks[root].path. secret_option: what secret_file is called.
    """
    files = [(path, format)]
    files += [(n.path, n.format) for n in files_needed(path, format) if n.is_base]
    for file, its_format in files:
        found = encryption_of(file, its_format)
        if found is None:
            continue
        what = _UNSUPPORTED.get(found)
        if what is None and not secret_file:
            what = (
                "with LUKS: give %s, a file on the hypervisor with its passphrase. If the"
                " guest itself opens it, set format: raw" % secret_option
            )
        if what:
            what = what.replace("%s", file)
            raise ImageError(
                "%s: %s is encrypted %s" % (option, file, what), option=option, path=file
            )


def node_options(
    path: str, format: str, identifier: str, with_bases: bool = True
) -> dict[str, Any]:
    """Return the options of a block node whose image, or a base under it, is encrypted.

    identifier: of the secret. The bases are named one by one, because QEMU takes secrets only with
    the whole node that they belong to.
    """
    header = probe(path) if format != "raw" and os.path.exists(path) else ImageHeader(format)
    node: dict[str, Any] = {"driver": format, "file": file_node(path)}
    if format == "luks":
        node["key-secret"] = identifier
    elif format == "qcow2" and header.encrypted:
        node["encrypt"] = {"format": "luks", "key-secret": identifier}
    base = backing_path(path, header) if header.format == format else None
    if base and with_bases:
        node["backing"] = node_options(
            base, header.backing_format or probe(base).format, identifier
        )
    return node


def file_node(path: str) -> dict[str, Any]:
    """Return the protocol node of a file or block device."""
    return {"driver": "host_device" if is_block_device(path) else "file", "filename": path}


def is_block_device(path: str) -> bool:
    """Return whether the image is a block device of the host."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False
