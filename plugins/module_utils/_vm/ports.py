# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Host ports: allocated once, kept in a registry of the host, checked against sockets in use.

Two QEMUs can bind one UDP port without an error, and the port of a stopped VM must not be allocated
to another VM. So a port belongs to a VM for as long as its definition needs it.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from typing import TYPE_CHECKING, Any, Collection, Dict, Iterator, NamedTuple, Union

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    read_json,
    read_text,
    remove_file,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.locks import file_lock

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

_RANGES = {"tcp": range(20000, 26000), "udp": range(26000, 32000)}
_VNC_RANGE = range(5900, 6900)
_PORT = re.compile(r"\d{1,5}", re.ASCII)
_TCP_LISTEN = "0A"  # TCP_LISTEN in include/net/tcp_states.h

# {"udp/26000": {"vms": [...], "key": ..., "address": ...}}: the VMs that rely on a port; both VMs
# of a cable for the port of each end.
_Registry = Dict[str, Dict[str, Any]]


class PortRequest(NamedTuple):
    """A port that a definition needs.

    key: its purpose within the VM, or within the host if it starts with "/". protocol: tcp or udp.
    address: to listen on. port: a number, or "auto". option: the option that asks, for errors.
    """

    key: str
    protocol: str
    address: str
    port: Union[int, str]
    option: str


def port_number(path: str, value: str | int) -> int | str:
    """Return the value of a port option: "auto", or a number. Raises OptionError."""
    if str(value) == "auto":
        return "auto"
    if not _PORT.fullmatch(str(value)) or not 0 < int(value) < 65536:
        raise OptionError(path, "%r is not a port: give a number from 1 to 65535, or auto" % value)
    return int(value)


@contextlib.contextmanager
def _registry(host_folder: str) -> Iterator[_Registry]:
    """Lock and yield the registry of the host, and save it."""

    def remake() -> None:
        make_folder(os.path.dirname(host_folder))
        make_folder(host_folder)

    path, lock = (os.path.join(host_folder, name) for name in ("ports.json", "ports.lock"))
    with file_lock(lock, remake=remake):
        held = read_json(path) or {}
        before = dict(held)
        yield held
        if not held:
            # An empty registry leaves no files; a run that waits for the lock creates them again.
            remove_file(path)
            remove_file(lock)
            with contextlib.suppress(OSError):
                os.rmdir(host_folder)
        elif held != before:
            write_json(path, held)


def claim(folder: Folder, port_requests: Collection[PortRequest]) -> dict[str, int]:
    """Allocate the requested ports to a VM: {key: port}. Its other ports are released.

    Raises OptionError naming the holder of a port that is in use.
    """
    with _registry(folder.host) as held:
        return _claim(folder, port_requests, held)


def _claim(
    folder: Folder, port_requests: Collection[PortRequest], held: _Registry
) -> dict[str, int]:
    owner = _owner(folder)
    claimed, kept = {}, set()
    key_ports = {
        entry["key"]: name
        for name, entry in held.items()
        if owner in entry["vms"] or entry["key"].startswith("/%s/" % folder.lab)
    }
    keys = {request.key for request in port_requests}
    for request in port_requests:
        old = key_ports.get(request.key)
        if request.port == "auto" and old and _split(old)[0] == request.protocol:
            name = old
        else:
            port = _find(request, held) if request.port == "auto" else request.port
            name = "%s/%s" % (request.protocol, port)
            _check_holder(request, name, held.get(name), owner, keys)
        claimed[request.key] = _split(name)[1]
        vms = held[name]["vms"] if name == old else []
        held[name] = {"vms": sorted({owner, *vms}), "key": request.key, "address": request.address}
        kept.add(name)
    _release(held, owner, kept)
    return claimed


def _check_holder(
    request: PortRequest,
    name: str,
    holder: dict[str, Any] | None,
    owner: str,
    requested: Collection[str],
) -> None:
    """Raise OptionError if another VM, purpose or process has a port."""
    if holder and (
        holder["vms"] != [owner] or holder["key"] != request.key and holder["key"] in requested
    ):
        raise OptionError(
            request.option,
            "port %s is taken by the VM %s (%s): choose another, or auto"
            % (name, " and ".join(holder["vms"]), holder["key"]),
        )
    protocol, port = _split(name)
    if not holder and not _is_free(protocol, request.address, port):
        raise OptionError(
            request.option,
            "port %s on %s is taken by %s: choose another, or auto"
            % (name, request.address, who_has(protocol, port)),
        )


def _release(held: _Registry, owner: str, kept: Collection[str] = ()) -> None:
    """Remove a VM from the ports that it does not keep, and the ports that no VM relies on."""
    for name, entry in list(held.items()):
        if owner in entry["vms"] and name not in kept:
            others = [vm for vm in entry["vms"] if vm != owner]
            if others:
                held[name] = dict(entry, vms=others)
            else:
                del held[name]


def _owner(folder: Folder) -> str:
    return "%s/%s" % (folder.lab, folder.name)


def release(folder: Folder) -> None:
    """Release all ports of a VM."""
    if os.path.exists(os.path.join(folder.host, "ports.json")):
        with _registry(folder.host) as held:
            _release(held, _owner(folder))


def check_free(definition: Definition, port_requests: Collection[PortRequest]) -> None:
    """Check before a start that the VM's ports are free. Raises HostError naming the process."""
    own_ends = "/%s/%s/" % (definition["lab"], definition["name"])
    for request in port_requests:
        port = definition["ports"][request.key]
        # The other VM of a cable listens on the port of its end.
        is_own = not request.key.startswith("/") or request.key.startswith(own_ends)
        if is_own and not _is_free(request.protocol, request.address, port):
            raise HostError(
                "%s: port %s/%d on %s is taken by %s: stop that, or choose another port"
                % (
                    request.option,
                    request.protocol,
                    port,
                    request.address,
                    who_has(request.protocol, port),
                )
            )


def _split(name: str) -> tuple[str, int]:
    protocol, port = name.split("/")
    return protocol, int(port)


def _find(request: PortRequest, held: _Registry) -> int:
    """Return a port that is neither allocated nor in use. Raises HostError."""
    for port in _VNC_RANGE if request.key == "display" else _RANGES[request.protocol]:
        if "%s/%d" % (request.protocol, port) not in held and _is_free(
            request.protocol, request.address, port
        ):
            return port
    raise HostError("%s: no free %s port is left on this host" % (request.option, request.protocol))


def _is_free(protocol: str, address: str, port: int) -> bool:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as probe:
        if protocol == "tcp":
            # Connections in TIME_WAIT do not keep QEMU from listening.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def who_has(protocol: str, port: int) -> str:
    """Return who listens on a port of this host: "process 12 (sshd)", or "another process"."""
    inodes = _sockets_at(protocol, port)
    for pid in filter(str.isdigit, os.listdir("/proc") if inodes else ()):
        with contextlib.suppress(OSError):
            for handle in os.scandir("/proc/%s/fd" % pid):
                with contextlib.suppress(OSError):
                    if os.readlink(handle.path) in inodes:
                        name = (read_text("/proc/%s/comm" % pid) or "").strip()
                        return "process %s (%s)" % (pid, re.sub(r"[^\x20-\x7e]", "?", name))
    return "another process"


def _sockets_at(protocol: str, port: int) -> set[str]:
    """Return the sockets that listen on a port, as /proc/PID/fd names them (proc(5))."""
    found = set()
    for name in (protocol, protocol + "6"):
        for line in (read_text("/proc/net/%s" % name) or "").splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and (
                protocol == "udp" or fields[3] == _TCP_LISTEN
            ):
                found.add("socket:[%s]" % fields[9])
    return found
