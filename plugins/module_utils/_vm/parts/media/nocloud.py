# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What cloud-init's data source NoCloud expects of the files of a seed."""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.yaml_output import to_yaml

LABEL = "cidata"
USER_DATA, META_DATA = "user-data", "meta-data"
NETWORK_CONFIG, VENDOR_DATA = "network-config", "vendor-data"

# The beginnings by which cloud-init recognises the type of user data, in lower case
# (cloudinit/handlers/__init__.py; it ignores white space before them).
_HEADERS = (
    b"#cloud-config",
    b"#cloud-config-archive",
    b"#cloud-config-jsonp",
    b"#!",
    b"#include",
    b"#cloud-boothook",
    b"#part-handler",
    b"#upstart-job",
    b"## template: jinja",
)
_ALGORITHM = "sha256:"
_GZIP = b"\x1f\x8b"
_MIME_HEADER, _SEARCHED_FOR_MIME = b"mime-version:", 4096

_MAX_HOST_NAME = 63
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)%s(\.%s)*" % (_LABEL, _LABEL))

Files = Dict[str, bytes]


def digest(content: bytes, salt: str) -> str:
    """Return the digest of a file, which the definition keeps: sha256:SALT:DIGEST.

    A file may have a password in it, which could be found by its plain digest.
    """
    return salted(_ALGORITHM + hashlib.sha256(content).hexdigest(), salt)


def salted(plain: str, salt: str) -> str:
    """Return the digest for a plain one, which earlier versions kept: sha256:DIGEST."""
    text = (salt + plain[len(_ALGORITHM) :]).encode("utf-8")
    return "%s%s:%s" % (_ALGORITHM, salt, hashlib.sha256(text).hexdigest())


def is_plain(kept: Any) -> bool:
    """Whether a digest is one that earlier versions kept."""
    return isinstance(kept, str) and kept.startswith(_ALGORITHM) and kept.count(":") == 1


def salt_of(saved: dict[str, Any] | None) -> str:
    """Return the salt of the digests of a saved seed; a new one without any."""
    kept = next(iter(saved["files"].values()), "") if saved else ""
    return kept.split(":")[1] if kept.count(":") > 1 else os.urandom(8).hex()


def header_for(data: Any) -> str:
    """Return the first line of user data that is written from a dictionary or a list."""
    return "#cloud-config-archive\n" if isinstance(data, list) else "#cloud-config\n"


def is_recognised(content: bytes) -> bool:
    """Whether cloud-init does anything with this user data or vendor data."""
    start = content[:_SEARCHED_FOR_MIME].lower()
    return (
        not start.strip()
        or start.startswith(_GZIP)
        or _MIME_HEADER in start
        or start.lstrip().startswith(_HEADERS)
    )


def host_name(name: str) -> str:
    """Return a name as one host name: other characters become hyphens."""
    if _HOST_NAME.fullmatch(name):
        return name
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:_MAX_HOST_NAME].strip("-") or "vm"


def check_meta_data(option: str, meta_data: dict[str, Any]) -> None:
    """Raise OptionError for a host name that no system accepts."""
    name = meta_data.get("local-hostname")
    if name is not None and not (isinstance(name, str) and _HOST_NAME.fullmatch(name)):
        raise OptionError(
            option + ".local-hostname",
            "%r is not one host name: use letters, digits and hyphens, with periods between labels"
            % (name,),
        )


def meta_data_file(given: dict[str, Any] | None, uuid: str, name: str, generation: int) -> bytes:
    """Return meta-data. given: what the user set of it.

    generation: how often the seed was changed. cloud-init runs again what it runs once for each
    instance ID.
    """
    instance = uuid if generation == 0 else "%s-%d" % (uuid, generation)
    defaults = {"instance-id": instance, "local-hostname": host_name(name)}
    if given is None:
        return (
            'instance-id: %(instance-id)s\nlocal-hostname: "%(local-hostname)s"\n' % defaults
        ).encode("ascii")
    return to_yaml(dict(defaults, **given)).encode("utf-8")


def complete(
    drive: dict[str, Any], saved: dict[str, Any] | None, uuid: str, name: str, salt: str
) -> bool:
    """Add the files that a seed must have; return whether cloud-init notices that it has changed.

    drive: the seed; its meta_data, a dictionary or None, becomes a file. Its generation counts the
    changes of what cloud-init reads once for each instance ID. saved: the seed of the last run.
    salt: of its digests.
    """
    files: Files = drive["files"]
    given = drive.pop("meta_data", None)
    files.setdefault(USER_DATA, b"#cloud-config\n{}\n")
    before = saved["files"] if saved else {}
    is_changed = bool(saved) and any(
        before.get(name) != (digest(files[name], salt) if name in files else None)
        for name in _read_once(drive)
    )
    if META_DATA not in files:
        generation = saved.get("generation", 0) if saved else 0
        content = meta_data_file(given, uuid, name, generation)
        if saved and (is_changed or before.get(META_DATA) != digest(content, salt)):
            generation += 1
            content = meta_data_file(given, uuid, name, generation)
        files[META_DATA] = content
        if generation:
            drive["generation"] = generation
    return not is_changed or before.get(META_DATA) != digest(files[META_DATA], salt)


def _read_once(drive: dict[str, Any]) -> tuple[str, ...]:
    """Return the files that cloud-init uses only once for each instance ID.

    Those that topologies write let it apply the network at each boot, see config_drive.py.
    """
    if drive["kind"] == "config_drive":
        return (USER_DATA,)
    return (USER_DATA, NETWORK_CONFIG, VENDOR_DATA)


def ignored(files: Files) -> list[str]:
    """Return the names of the files that cloud-init ignores."""
    return [
        name
        for name in (USER_DATA, VENDOR_DATA)
        if name in files and not is_recognised(files[name])
    ]
