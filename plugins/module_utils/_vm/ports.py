# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This room is private to the vlab.qemu collection: it may change with any release.

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
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import make_folder, read_json, read_text, write_json
from ansible_collections.vlab.qemu.plugins.module_utils._common.locks import file_lock

# Below Linux's range for outgoing connections (ip_local_port_range, 32768 and up), away from well-known services.
_RANGES = {"tcp": range(20000, 26000), "udp": range(26000, 32000)}
_VNC_RANGE = range(5900, 6900)
_PORT = re.compile(r"\d{1,5}", re.ASCII)


class Wish(NamedTuple):
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
    make_folder(os.path.dirname(host_folder))
    make_folder(host_folder)
    with file_lock(os.path.join(host_folder, "ports.lock")):
        path = os.path.join(host_folder, "ports.json")
        held = read_json(path) or {}
        before = dict(held)
        yield held
        if held != before:
            write_json(path, held)


def claim(folder, wishes):
    """Give each wish its port, for good: {key: port}. Raises OptionError naming the holder of a port that is taken.

    folder: the VM's. What the VM held before and does not wish any more is given back.
    """
    with _registry(folder.host) as held:
        return _claim(folder, wishes, held)


def _claim(folder, wishes, held):
    mine, granted = {}, {}
    owner = "%s/%s" % (folder.lab, folder.name)
    owned = {entry["key"]: place for place, entry in held.items() if entry["vm"] == owner}
    shared = {entry["key"]: place for place, entry in held.items() if entry["key"].startswith("/%s/" % folder.lab)}
    for wish in wishes:
        old = (shared if wish.key.startswith("/") else owned).get(wish.key)
        old_protocol, old_port = _split(old) if old else (None, None)
        if wish.port == "auto" and old and old_protocol == wish.protocol:
            granted[wish.key] = old_port
            mine[old] = held[old]
            continue
        port = _find(wish, held) if wish.port == "auto" else wish.port
        place = "%s/%d" % (wish.protocol, port)
        holder = held.get(place)
        if holder and (holder["vm"] != owner or holder["key"] != wish.key and holder["key"] in {w.key for w in wishes}):
            raise OptionError(wish.option, "port %s is taken by the VM %s (%s): choose another, or auto"
                              % (place, holder["vm"], holder["key"]))
        if not holder and not _is_free(wish.protocol, wish.address, port):
            raise OptionError(wish.option, "port %s on %s is taken by %s: choose another, or auto"
                              % (place, wish.address, who_has(wish.protocol, port)))
        granted[wish.key] = port
        mine[place] = held[place] = {"vm": _vm_of(wish.key, owner), "key": wish.key, "address": wish.address}
    for place in [place for place, entry in held.items() if entry["vm"] == owner and place not in mine]:
        # The other end of a cable may still count on a port that the lab shares.
        if not held[place]["key"].startswith("/"):
            del held[place]
    return granted


def _vm_of(key, owner):
    return key[1:].rpartition("/")[0] if key.startswith("/") else owner


def release(folder):
    """Give back all ports of a VM."""
    if os.path.exists(os.path.join(folder.host, "ports.json")):
        owner = "%s/%s" % (folder.lab, folder.name)
        with _registry(folder.host) as held:
            for place in [place for place, entry in held.items() if entry["vm"] == owner]:
                del held[place]


def check_free(definition, wishes):
    """Before a start: raise HostError naming who took a port of ours meanwhile."""
    for wish in wishes:
        port = definition["ports"][wish.key]
        if wish.address is not None and not wish.key.startswith("/") and not _is_free(wish.protocol, wish.address, port):
            raise HostError("%s: port %s/%d on %s is taken by %s: stop that, or choose another port"
                            % (wish.option, wish.protocol, port, wish.address, who_has(wish.protocol, port)))


def _split(place):
    protocol, port = place.split("/")
    return protocol, int(port)


def _find(wish, held):
    for port in _VNC_RANGE if wish.key == "display" else _RANGES[wish.protocol]:
        if "%s/%d" % (wish.protocol, port) not in held and _is_free(wish.protocol, wish.address, port):
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
            if int(fields[1].rpartition(":")[2], 16) == port and (protocol == "udp" or fields[3] == "0A"):
                inodes.add("socket:[%s]" % fields[9])
    for pid in filter(str.isdigit, os.listdir("/proc") if inodes else ()):
        with contextlib.suppress(OSError):
            for handle in os.scandir("/proc/%s/fd" % pid):
                with contextlib.suppress(OSError):
                    if os.readlink(handle.path) in inodes:
                        name = re.sub(r"[^\x20-\x7e]", "?", (read_text("/proc/%s/comm" % pid) or "").strip())
                        return "process %s (%s)" % (pid, name)
    return "another process"
