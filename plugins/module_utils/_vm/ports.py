# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Host ports: found once, kept in a registry of the host, checked against what is bound.

Two QEMUs can bind one UDP port without an error, and a port that a stopped VM will want must not go to another: so a port
belongs to its VM from its definition to its removal.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from typing import NamedTuple, Union

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    read_json,
    read_text,
    remove_file,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.locks import file_lock

# Below Linux's range for outgoing connections (ip_local_port_range, 32768 and up), away from well-known services.
_RANGES = {"tcp": range(20000, 26000), "udp": range(26000, 32000)}
_VNC_RANGE = range(5900, 6900)
_PORT = re.compile(r"\d{1,5}", re.ASCII)


class PortRequest(NamedTuple):
    """A port that a definition needs.

    key: what it is for within the VM, or within the lab when it starts with "/". protocol: tcp or udp. address: to listen on.
    port: a number, or "auto". option: the option that asks.
    """

    key: str
    protocol: str
    address: str
    port: Union[int, str]
    option: str


def port_number(path, value):
    """A port as an option has it: "auto", or a number as an int. Raises OptionError."""
    if str(value) == "auto":
        return "auto"
    if not _PORT.fullmatch(str(value)) or not 0 < int(value) < 65536:
        raise OptionError(path, "%r is not a port: give a number from 1 to 65535, or auto" % value)
    return int(value)


@contextlib.contextmanager
def _registry(host_folder):
    def remake():
        make_folder(os.path.dirname(host_folder))
        make_folder(host_folder)

    path, lock = (os.path.join(host_folder, name) for name in ("ports.json", "ports.lock"))
    with file_lock(lock, remake=remake):
        held = read_json(path) or {}
        before = dict(held)
        yield held
        if not held:
            # The last one leaves nothing behind; who waits for the lock makes it anew.
            remove_file(path)
            remove_file(lock)
            with contextlib.suppress(OSError):
                os.rmdir(host_folder)
        elif held != before:
            write_json(path, held)


def claim(folder, port_requests):
    """Give each wish its port, for good: {key: port}. Raises OptionError naming the holder of a port that is taken.

    folder: the VM's. What the VM held before and does not wish any more is given back.
    """
    with _registry(folder.host) as held:
        return _claim(folder, port_requests, held)


def _claim(folder, port_requests, held):
    """An entry of the registry names the VMs that count on its port: one, or both VMs of a cable for each of its ends."""
    owner = _owner(folder)
    granted, kept = {}, set()
    known = {
        entry["key"]: place
        for place, entry in held.items()
        if owner in entry["vms"] or entry["key"].startswith("/%s/" % folder.lab)
    }
    for wish in port_requests:
        old = known.get(wish.key)
        if wish.port == "auto" and old and _split(old)[0] == wish.protocol:
            place = old
        else:
            port = _find(wish, held) if wish.port == "auto" else wish.port
            place = "%s/%d" % (wish.protocol, port)
            _check_taken(
                wish, place, held.get(place), owner, {other.key for other in port_requests}
            )
        granted[wish.key] = _split(place)[1]
        vms = held[place]["vms"] if place == old else []
        held[place] = {"vms": sorted({owner, *vms}), "key": wish.key, "address": wish.address}
        kept.add(place)
    _leave(held, owner, kept)
    return granted


def _check_taken(wish, place, holder, owner, wished):
    if holder and (
        holder["vms"] != [owner] or holder["key"] != wish.key and holder["key"] in wished
    ):
        raise OptionError(
            wish.option,
            "port %s is taken by the VM %s (%s): choose another, or auto"
            % (place, " and ".join(holder["vms"]), holder["key"]),
        )
    protocol, port = _split(place)
    if not holder and not _is_free(protocol, wish.address, port):
        raise OptionError(
            wish.option,
            "port %s on %s is taken by %s: choose another, or auto"
            % (place, wish.address, who_has(protocol, port)),
        )


def _leave(held, owner, kept=()):
    """Take owner from the ports that are not kept; a port that no VM counts on goes."""
    for place in [
        place for place, entry in held.items() if owner in entry["vms"] and place not in kept
    ]:
        others = [vm for vm in held[place]["vms"] if vm != owner]
        if others:
            held[place] = dict(held[place], vms=others)
        else:
            del held[place]


def _owner(folder):
    return "%s/%s" % (folder.lab, folder.name)


def release(folder):
    """Give back all ports of a VM."""
    if os.path.exists(os.path.join(folder.host, "ports.json")):
        with _registry(folder.host) as held:
            _leave(held, _owner(folder))


def check_free(definition, port_requests):
    """Before a start: raise HostError naming who took a port of ours meanwhile."""
    my_ends = "/%s/%s/" % (definition["lab"], definition["name"])
    for wish in port_requests:
        port = definition["ports"][wish.key]
        # The other end of a cable is taken by the VM that has it.
        mine = not wish.key.startswith("/") or wish.key.startswith(my_ends)
        if wish.address is not None and mine and not _is_free(wish.protocol, wish.address, port):
            raise HostError(
                "%s: port %s/%d on %s is taken by %s: stop that, or choose another port"
                % (wish.option, wish.protocol, port, wish.address, who_has(wish.protocol, port))
            )


def _split(place):
    protocol, port = place.split("/")
    return protocol, int(port)


def _find(wish, held):
    for port in _VNC_RANGE if wish.key == "display" else _RANGES[wish.protocol]:
        if "%s/%d" % (wish.protocol, port) not in held and _is_free(
            wish.protocol, wish.address, port
        ):
            return port
    raise HostError("%s: no free %s port is left on this host" % (wish.option, wish.protocol))


def _is_free(protocol, address, port):
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as probe:
        if protocol == "tcp":
            # A connection that ended a minute ago is no listener.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def who_has(protocol, port):
    """Who listens at a port of this host, as far as we may see: "process 12 (sshd)", or "another process"."""
    inodes = set()
    for name in (protocol, protocol + "6"):
        for line in (read_text("/proc/net/%s" % name) or "").splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and (
                protocol == "udp" or fields[3] == "0A"
            ):
                inodes.add("socket:[%s]" % fields[9])
    for pid in filter(str.isdigit, os.listdir("/proc") if inodes else ()):
        with contextlib.suppress(OSError):
            for handle in os.scandir("/proc/%s/fd" % pid):
                with contextlib.suppress(OSError):
                    if os.readlink(handle.path) in inodes:
                        name = re.sub(
                            r"[^\x20-\x7e]", "?", (read_text("/proc/%s/comm" % pid) or "").strip()
                        )
                        return "process %s (%s)" % (pid, name)
    return "another process"
