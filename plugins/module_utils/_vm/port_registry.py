# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The registry of host ports: a file in the folder of the host that has the VMs of each port."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any, Dict, Iterator, Mapping

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    read_json,
    remove_file,
    remove_temporary,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.locks import file_lock
from ansible_collections.vlab.qemu.plugins.module_utils._vm.port_sockets import (
    canonical,
    overlap,
)

_NAME = re.compile(r"(tcp|udp)/([0-9a-f.:]+/)?[0-9]{1,5}", re.ASCII)

# {"udp/127.0.0.1/26000": {"vms": [...], "key": ...}}: the VMs that rely on a port at an address;
# both VMs of a cable for the port of each end.
Registry = Dict[str, Dict[str, Any]]


def registry_path(host_folder: str) -> str:
    """Return the path of the registry."""
    return os.path.join(host_folder, "ports.json")


def read_registry(host_folder: str) -> Registry:
    """Return the content of the registry. Raises HostError for one of another shape."""
    path = registry_path(host_folder)
    held: Any = read_json(path) or {}
    is_valid = isinstance(held, dict) and all(
        _NAME.fullmatch(name)
        and isinstance(entry, dict)
        and isinstance(entry.get("vms"), list)
        and all(isinstance(vm, str) for vm in entry["vms"])
        and isinstance(entry.get("key"), str)
        for name, entry in held.items()
    )
    if not is_valid:
        raise HostError(
            "%s is damaged: it is not a registry of ports. Restore it, or remove it while no VM "
            "of this root runs" % path,
            path=path,
        )
    return {_with_address(name, entry): entry for name, entry in held.items()}


def _with_address(name: str, entry: Mapping[str, Any]) -> str:
    """Return the name of an entry; earlier registries had the address in the entry only."""
    if name.count("/") == 2:
        return name
    protocol, port = name.split("/")
    address = entry.get("address")
    return entry_name(protocol, address if isinstance(address, str) else "0.0.0.0", int(port))


def entry_name(protocol: str, address: str, port: int) -> str:
    """Return the name of the entry of a port at an address."""
    return "%s/%s/%d" % (protocol, canonical(address), port)


def split_name(name: str) -> tuple[str, str, int]:
    """Return the protocol, the address and the port of an entry."""
    protocol, address, port = name.split("/")
    return protocol, address, int(port)


def rivals(held: Registry, protocol: str, address: str, port: int) -> list[str]:
    """Return the entries that exclude a port at an address, this one of its own included."""
    return [
        name
        for name in held
        if name.startswith(protocol + "/")
        and name.endswith("/%d" % port)
        and overlap(split_name(name)[1], canonical(address))
    ]


@contextlib.contextmanager
def open_registry(host_folder: str) -> Iterator[Registry]:
    """Lock and yield the registry of the host, and save it."""

    def remake() -> None:
        make_folder(os.path.dirname(host_folder))
        make_folder(host_folder)

    path, lock = registry_path(host_folder), os.path.join(host_folder, "ports.lock")
    with file_lock(lock, remake=remake):
        held = read_registry(host_folder)
        before = dict(held)
        yield held
        if not held:
            # An empty registry leaves no files; a run that waits for the lock creates them again.
            remove_file(path)
            remove_temporary(path)
            remove_file(lock)
            with contextlib.suppress(OSError):
                os.rmdir(host_folder)
        elif held != before:
            write_json(path, held)
