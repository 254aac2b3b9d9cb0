# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Host ports: allocated once, kept in a registry of the host, checked against sockets in use.

Two QEMUs can bind one UDP port without an error, and the port of a stopped VM must not be allocated
to another VM. So a port belongs to a VM for as long as its definition needs it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    NamedTuple,
    Union,
)

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.port_registry import (
    Registry,
    entry_name,
    open_registry,
    read_registry,
    registry_path,
    rivals,
    split_name,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.port_sockets import (
    Reservation,
    bind_error,
    canonical,
    is_free,
    overlap,
    refusal,
    who_has,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

SYSTEM_ROOT = "/var/lib/vlab"
_RANGES = {"tcp": range(20000, 26000), "udp": range(26000, 32000)}
_VNC_RANGE = range(5900, 6900)
_PORT = re.compile(r"\d{1,5}", re.ASCII)
_PORT_RANGE = re.compile(r"\d{1,5}[-:]\d{1,5}", re.ASCII)


class PortRequest(NamedTuple):
    """A port that a definition needs.

    key: its purpose within the VM, or within the host if it starts with "/". protocol: tcp or udp.
    address: to listen on. port: a number, or "auto". option: the option that asks, for errors.
    is_shared: whether QEMU binds it so that another process can bind it as well.
    """

    key: str
    protocol: str
    address: str
    port: Union[int, str]
    option: str
    is_shared: bool = False

    @property
    def is_cable(self) -> bool:
        """Whether it is the port of one end of a cable, which both VMs of the cable use."""
        return self.key.startswith("/")


def port_number(path: str, value: str | int) -> int | str:
    """Return the value of a port option: "auto", or a number. Raises OptionError."""
    if str(value) == "auto":
        return "auto"
    if _PORT_RANGE.fullmatch(str(value)):
        raise OptionError(path, "%r is a range: give an entry of its own for each port" % value)
    if not _PORT.fullmatch(str(value)) or not 0 < int(value) < 65536:
        raise OptionError(path, "%r is not a port: give a number from 1 to 65535, or auto" % value)
    return int(value)


def clashes(requests: Iterable[PortRequest]) -> Iterator[tuple[PortRequest, PortRequest]]:
    """Yield each request for a port by number with an earlier one that excludes it."""
    earlier: dict[tuple[str, Union[int, str]], list[PortRequest]] = {}
    for request in requests:
        others = earlier.setdefault((request.protocol, request.port), [])
        for other in others:
            addresses = canonical(request.address), canonical(other.address)
            if request.port != "auto" and overlap(*addresses):
                yield request, other
                break
        others.append(request)


def check_distinct(requests: Iterable[PortRequest]) -> None:
    """Raise OptionError for a port that one VM requests twice."""
    for request, other in clashes(requests):
        raise OptionError(
            request.option,
            "port %s/%s on %s is also that of %s (on %s): choose another port or address, or auto"
            % (request.protocol, request.port, request.address, other.option, other.address),
        )


def claim(folder: Folder, port_requests: Collection[PortRequest]) -> dict[str, int]:
    """Allocate the requested ports to a VM: {key: port}. Its other ports are released.

    Raises OptionError naming the holder of a port that is in use.
    """
    with open_registry(folder.host) as held:
        return _claim(folder, port_requests, held)


def _claim(
    folder: Folder, port_requests: Collection[PortRequest], held: Registry
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
        request = request._replace(address=_address(request, folder))
        old = key_ports.get(request.key)
        port = request.port
        if port == "auto":
            port = _kept_port(request, old, held) or _find(
                request, folder, held, functools.partial(_is_free, request)
            )
        name = entry_name(request.protocol, request.address, int(port))
        if request.port != "auto":
            for rival in rivals(held, request.protocol, request.address, int(port)):
                _drop_stale(folder, held, rival)
            _check_holders(request, int(port), held, owner, keys)
        claimed[request.key] = int(port)
        vms = held[name]["vms"] if name == old else []
        held[name] = dict(_entry(request), vms=sorted({owner, *vms}))
        kept.add(name)
    _release(held, owner, kept)
    return claimed


def _kept_port(request: PortRequest, old: str | None, held: Registry) -> int | None:
    """Return the port that an auto port has, or keeps at another address; None if it cannot.

    old: its entry in the registry.
    """
    if old is None or split_name(old)[0] != request.protocol:
        return None
    _protocol, address, port = split_name(old)
    if address == canonical(request.address):
        return port
    others = rivals(held, request.protocol, request.address, port)
    # The VM itself may listen on the port at the old address.
    is_own = overlap(address, canonical(request.address))
    if set(others) - {old} or not is_own and not _is_free(request, port):
        return None
    return port


def _is_free(request: PortRequest, port: int) -> bool:
    return is_free(request.protocol, request.address, port)


def preview(folder: Folder, port_requests: Collection[PortRequest]) -> dict[str, int]:
    """Return the ports that claim would allocate now, and allocate none. Raises VlabError."""
    return _claim(folder, port_requests, read_registry(folder.host))


def _drop_stale(folder: Folder, held: Registry, name: str) -> None:
    """Remove a port whose VMs do not exist: a run was killed after it had removed them."""
    entry = held.get(name, {"vms": ["."]})
    files = [
        os.path.join(folder.root, vm, file) for vm in entry["vms"] for file in ("vm.json", "lock")
    ]
    if name in held and _owner(folder) not in entry["vms"] and not any(map(os.path.exists, files)):
        del held[name]


def _check_holders(
    request: PortRequest, port: int, held: Registry, owner: str, requested: Collection[str]
) -> None:
    """Raise OptionError if another VM, purpose or process has a port, or none can have it."""
    others = rivals(held, request.protocol, request.address, port)
    for name in others:
        holder = held[name]
        if holder["vms"] != [owner] or holder["key"] != request.key and holder["key"] in requested:
            raise OptionError(
                request.option,
                "port %s/%d on %s is taken by the VM %s (%s): choose another, or auto"
                % (
                    request.protocol,
                    port,
                    split_name(name)[1],
                    " and ".join(holder["vms"]),
                    holder["key"],
                ),
            )
    error = None if others else bind_error(request.protocol, request.address, port)
    if error:
        raise OptionError(
            request.option,
            "port %s/%d on %s %s: choose another, or auto"
            % (
                request.protocol,
                port,
                request.address,
                refusal(error, request.protocol, request.address, port),
            ),
        )


def _release(held: Registry, owner: str, kept: Collection[str] = ()) -> None:
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
    if not os.path.exists(registry_path(folder.host)):
        return
    try:
        read_registry(folder.host)
    except HostError:
        return  # A damaged registry does not keep a VM from its removal.
    with open_registry(folder.host) as held:
        _release(held, _owner(folder))


def restore(folder: Folder, requests: Collection[PortRequest], held: Mapping[str, int]) -> None:
    """Register the ports that a definition holds, where the registry has lost them.

    A port that another VM has by now is not taken back: the next start allocates another one.
    """
    owner = _owner(folder)
    try:
        registry = read_registry(folder.host)
    except HostError:
        return  # the runs that need the registry report it
    if _is_registered(registry, folder, requests, held):
        return
    with open_registry(folder.host) as registry:
        registered = {entry["key"] for entry in registry.values() if owner in entry["vms"]}
        for request in requests:
            port, address = held.get(request.key, 0), _address(request, folder)
            name = entry_name(request.protocol, address, port)
            entry = registry.get(name, _entry(request))
            is_same = entry["key"] == request.key and (request.is_cable or not entry["vms"])
            is_same &= not set(rivals(registry, request.protocol, address, port)) - {name}
            if request.key in held and request.key not in registered and is_same:
                registry[name] = dict(entry, vms=sorted({owner, *entry["vms"]}))


def _entry(request: PortRequest) -> dict[str, Any]:
    return {"vms": [], "key": request.key}


def are_registered(
    folder: Folder, requests: Collection[PortRequest], held: Mapping[str, int]
) -> bool:
    """Whether the registry has the ports that a VM holds, at the addresses that it needs."""
    return not requests or _is_registered(read_registry(folder.host), folder, requests, held)


def _is_registered(
    registry: Registry, folder: Folder, requests: Collection[PortRequest], held: Mapping[str, int]
) -> bool:
    """Whether the registry has the ports that a VM holds, for the same purposes."""
    owner = _owner(folder)
    for request in requests:
        name = entry_name(request.protocol, _address(request, folder), held.get(request.key, 0))
        entry = registry.get(name)
        if entry is None or entry["key"] != request.key or owner not in entry["vms"]:
            return False
    return True


@contextlib.contextmanager
def ports_for_start(
    folder: Folder,
    requests: Collection[PortRequest],
    held: Mapping[str, int],
    private: Collection[PortRequest] = (),
) -> Iterator[dict[str, int]]:
    """Reserve the ports of a VM until its QEMU has bound them; yield {key: port}.

    An auto port that was taken meanwhile is replaced by another one. private: requests that need
    no registry. Raises HostError naming the process that has a port.
    """
    ports = dict(held)
    if requests:
        restore(folder, requests, ports)
        if not are_registered(folder, requests, ports):
            ports = claim(folder, requests)
    reservation = Reservation()
    try:
        taken = [
            request
            for request in (*requests, *private)
            if _is_own(request, folder)
            and not reservation.add(request, _address(request, folder), _port(request, ports))
        ]
        if taken:
            ports.update(_allocate_again(folder, taken, ports, reservation))
        yield ports
        if any(request.is_cable for request in requests):
            # The start of the other VM may have moved its end before it could see this QEMU.
            with open_registry(folder.host) as registry:
                if not _is_registered(registry, folder, requests, ports):
                    raise HostError(
                        "the ports of a cable of the VM %s were allocated again meanwhile, by the "
                        "start of the VM at its other end: run it again" % folder.name
                    )
    finally:
        reservation.release()


def _is_own(request: PortRequest, folder: Folder) -> bool:
    """Whether this VM listens on a port: the other VM of a cable has the port of its end."""
    return not request.is_cable or request.key.startswith("/%s/%s/" % (folder.lab, folder.name))


def _port(request: PortRequest, held: Mapping[str, int]) -> int:
    return held[request.key] if request.key in held else int(request.port)


def _allocate_again(
    folder: Folder,
    taken: Collection[PortRequest],
    held: Mapping[str, int],
    reservation: Reservation,
) -> dict[str, int]:
    """Allocate other ports where that is possible; return them by key. Raises HostError."""
    found = {}
    with open_registry(folder.host) as registry:
        for request in taken:
            address = _address(request, folder)
            name = entry_name(request.protocol, address, _port(request, held))
            entry = registry.get(name, _entry(request))
            others = [vm for vm in entry["vms"] if vm != _owner(folder) and _runs(folder, vm)]
            if request.port != "auto" or others:
                raise _taken(request, folder, _port(request, held), others)
            request = request._replace(address=address)
            port = _find(
                request, folder, registry, functools.partial(reservation.add, request, address)
            )
            del registry[name]
            registry[entry_name(request.protocol, address, port)] = entry
            found[request.key] = port
    return found


def _runs(folder: Folder, vm: str) -> bool:
    """Whether the QEMU of a VM that uses the same cable runs or starts."""
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder as VmFolder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.process import is_supervised

    return is_supervised(VmFolder(folder.root, *vm.split("/")))


def _taken(request: PortRequest, folder: Folder, port: int, others: list[str]) -> HostError:
    address = _address(request, folder)
    error = bind_error(request.protocol, address, port) or OSError(errno.EADDRINUSE, "")
    if error.errno != errno.EADDRINUSE:
        return HostError(
            "%s: port %s/%d on %s %s"
            % (
                request.option,
                request.protocol,
                port,
                address,
                refusal(error, request.protocol, address, port),
            )
        )
    return HostError(
        "%s: port %s/%d on %s is taken by %s: stop that, or %s"
        % (
            request.option,
            request.protocol,
            port,
            address,
            who_has(request.protocol, port, address),
            "stop the VM %s at the other end of the cable, too" % others[0]
            if others
            else "choose another port",
        )
    )


def reserve_live(
    reservation: Reservation, requests: Iterable[tuple[PortRequest, str, int]], pid: int
) -> None:
    """Reserve UDP ports that a running QEMU is going to bind. Raises HostError.

    pid: of QEMU, which may have the port already if a run was killed.
    """
    for request, address, port in requests:
        if request.is_shared and not reservation.add(request, address, port):
            holder = who_has(request.protocol, port, address)
            if not holder.startswith("process %d (" % pid):
                raise HostError(
                    "%s: port %s/%d on %s is taken by %s: stop that, or choose another port"
                    % (request.option, request.protocol, port, address, holder)
                )


def listeners(
    folder: Folder, requests: Iterable[PortRequest], held: Mapping[str, int]
) -> list[tuple[PortRequest, str, int]]:
    """Return the requests for which this VM listens, with their addresses and ports.

    The record of a killed run may have a link without its port, which was given back already.
    """
    return [
        (request, _address(request, folder), _port(request, held))
        for request in requests
        if _is_own(request, folder) and (request.key in held or request.port != "auto")
    ]


def _address(request: PortRequest, folder: Folder) -> str:
    return cable_address(folder.root) if request.is_cable else request.address


def cable_address(root: str) -> str:
    """Return the loopback address of the cables between the VMs below a root."""
    return address_of_root(root, "127.64.0.1") if root != SYSTEM_ROOT else "127.0.0.1"


def address_of_root(root: str, address: str) -> str:
    """Return the loopback address that is used for another one below a root.

    Two users may have labs of the same names, and each root has a registry of its own. Addresses
    from 127.64.0.0 to 127.191.255.255 are derived from names.
    """
    parts = address.split(".")
    if root == SYSTEM_ROOT or not is_derived(address):
        return address
    digest = hashlib.sha256(os.fsencode(root)).digest()
    second = 64 + ((int(parts[1]) - 64) ^ (digest[0] & 127))
    return "127.%d.%d.%s" % (second, int(parts[2]) ^ digest[1], parts[3])


def is_derived(address: str) -> bool:
    """Whether an address is one of those that qemu_lab derives from names."""
    parts = address.split(".")
    return len(parts) == 4 and parts[0] == "127" and 64 <= int(parts[1]) < 192


def _candidates(request: PortRequest, root: str) -> Iterable[int]:
    """Return the ports that an auto port can be, in the order in which they are tried.

    Each root begins elsewhere: QEMU binds a port some time after it was found free, and the runs of
    other roots have other registries.
    """
    if request.key == "display":
        return _VNC_RANGE
    found = _RANGES[request.protocol]
    digest = hashlib.sha256(os.fsencode(root)).digest()
    first = 0 if root == SYSTEM_ROOT else int.from_bytes(digest[:4], "big") % len(found)
    return (*found[first:], *found[:first])


def _find(
    request: PortRequest, folder: Folder, held: Registry, is_usable: Callable[[int], bool]
) -> int:
    """Return a port that is neither allocated nor in use at its address. Raises HostError."""
    address = canonical(request.address)
    allocated = {
        port
        for protocol, other, port in map(split_name, held)
        if protocol == request.protocol and overlap(other, address)
    }
    error = bind_error(request.protocol, request.address, 0)
    if error:
        raise HostError(
            "%s: cannot listen on %s: it %s"
            % (request.option, address, refusal(error, request.protocol, address, 0))
        )
    for port in _candidates(request, folder.root):
        if port not in allocated and is_usable(port):
            return port
    raise HostError("%s: no free %s port is left on this host" % (request.option, request.protocol))
