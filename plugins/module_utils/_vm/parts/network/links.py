# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Links: what a NIC is connected to.

Every NIC has a hub port of its own. A link is a backend that is plugged into that hub, so that it
can be connected, changed and disconnected while the guest keeps its card. vhost and more than one
queue do not work through a hub: such a link is the NIC's own backend.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any, Callable, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.paths import absolute_path
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import (
    check_address,
    check_number,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import check_properties
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import check_name
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import (
    dhcp_options,
    tap_rights,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import PortRequest, port_number
from ansible_collections.vlab.qemu.plugins.module_utils._wire import parameters

# A link as the definition keeps it: its type and the suboptions that were set.
Link = Dict[str, Any]

# The addresses to listen on that a forwarded port is moved between without becoming another one.
_COMMON_ADDRESSES = ("127.0.0.1", "0.0.0.0", "::")
_NO_SCRIPT = "no"  # QEMU's word
_MODE = re.compile(r"0?[0-7]{3}")
_MAX_SOCKET_PATH = 107  # unix(7): 108 bytes with the terminating NUL
_MAX_INTERFACE_NAME = 15  # linux/if.h, IFNAMSIZ with the terminating NUL

# The suboptions that each type supports, beside type.
_SUPPORTED: dict[str, tuple[str, ...]] = {
    "none": (),
    "user": (
        "network",
        "host_address",
        "dhcp_start",
        "dns",
        "hostname",
        "domain",
        "dns_search",
        "restrict",
        "tftp",
        "bootfile",
        "dhcp_options",
        "ipv6",
        "forwards",
    ),
    "udp": ("peer", "local_address", "local_port", "remote_address", "remote_port"),
    "unix": ("path", "remote_path"),
    "stream": ("path", "local_address", "local_port", "remote_address", "remote_port", "reconnect"),
    "mcast": ("group", "port", "local_address"),
    "tap": ("interface", "script", "down_script", "vhost", "queues"),
    "bridge": ("bridge", "helper"),
    "vde": ("path", "port", "vde_group", "mode"),
    "passt": ("path", "forwards"),
}

_REQUIRED = {
    "udp": ("local_port", "remote_port"),
    "unix": ("path", "remote_path"),
    "bridge": ("bridge",),
    "mcast": ("group", "port"),
}

SPEC: dict[str, dict[str, Any]] = {
    "type": {"type": "str", "choices": list(_SUPPORTED)},
    "peer": {"type": "str"},
    "local_address": {"type": "str"},
    "local_port": {"type": "str"},
    "remote_address": {"type": "str"},
    "remote_port": {"type": "str"},
    "path": {"type": "path"},
    "remote_path": {"type": "path"},
    "reconnect": {"type": "int"},
    "group": {"type": "str"},
    "port": {"type": "int"},
    "network": {"type": "str"},
    "host_address": {"type": "str"},
    "dhcp_start": {"type": "str"},
    "dns": {"type": "str"},
    "hostname": {"type": "str"},
    "domain": {"type": "str"},
    "dns_search": {"type": "list", "elements": "str"},
    "restrict": {"type": "bool"},
    "tftp": {"type": "path"},
    "bootfile": {"type": "str"},
    "dhcp_options": {"type": "dict"},
    "ipv6": {"type": "bool"},
    "forwards": {
        "type": "list",
        "elements": "dict",
        "options": {
            "protocol": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
            "host_address": {"type": "str", "default": "127.0.0.1"},
            "host_port": {"type": "str", "default": "auto"},
            "guest_address": {"type": "str"},
            "guest_port": {"type": "int", "required": True},
        },
    },
    "interface": {"type": "str"},
    "script": {"type": "path"},
    "down_script": {"type": "path"},
    "vhost": {"type": "bool"},
    "queues": {"type": "int"},
    "bridge": {"type": "str"},
    "helper": {"type": "path"},
    "options": {"type": "dict"},
    "vde_group": {"type": "str"},
    "mode": {"type": "str"},
    "impair": {"type": "dict", "options": parameters.SPEC},
}


def normalise(path: str, given: dict[str, Any]) -> Link:
    """Return a link as the definition keeps it. Raises OptionError naming the suboption.

    path: of the link, such as nics[eth0].link.
    """
    link: Link = {key: value for key, value in given.items() if value not in (None, "")}
    link.setdefault("type", "udp" if "peer" in link else "none")
    _check_supported(path, link)
    for key, normalise_value in _NORMALISE.items():
        if key in link:
            link[key] = normalise_value("%s.%s" % (path, key), link[key], link)
    if not link.get("impair", True):
        del link["impair"]  # it changes nothing
    if link["type"] == "stream":
        _check_stream(path, link)
    if "forwards" in link:
        _check_forwards(path, link)
    for key in ("options", "dhcp_options"):
        if not link.get(key, True):
            del link[key]
    return link


def _check_supported(path: str, link: Link) -> None:
    kind = link["type"]
    if kind != "udp" and any((link.get("impair") or {}).values()):
        raise OptionError(
            path + ".impair",
            "only a link of type udp can be impaired: what QEMU sends on one of type %s cannot be"
            " led through another process" % kind,
        )
    for key in link:
        supported = ("type", "options", "impair", *_SUPPORTED[kind])
        if key not in supported or (key, kind) == ("options", "none"):
            raise OptionError("%s.%s" % (path, key), "a link of type %s does not support it" % kind)
    for key in () if "peer" in link else _REQUIRED.get(kind, ()):
        if not link.get(key):
            raise OptionError("%s.%s" % (path, key), "a link of type %s requires it" % kind)


def _peer(path: str, value: str, link: Link) -> str:
    vm, colon, nic = value.rpartition(":")
    if not colon or not vm or not nic:
        raise OptionError(path, "%r is not VM:NIC, such as r2:eth1" % value)
    check_name(path, vm)
    check_name(path, nic)
    for key in ("local_address", "local_port", "remote_address", "remote_port"):
        if key in link:
            raise OptionError(path, "it cannot be combined with %s" % key)
    return value


def _port(path: str, value: Any, link: Link) -> int | str:
    port: int | str = port_number(path, value)
    if port == "auto" and not (path.endswith(".local_port") and link["type"] == "stream"):
        raise OptionError(
            path,
            "auto does not work here: the other side could not know it; use peer, or a number",
        )
    return port


def _address(path: str, value: str, link: Link) -> str:
    check_address(path, value, 4 if link["type"] in ("user", "mcast") else None)
    return value


def _network(path: str, value: str, link: Link) -> str:
    try:
        ipaddress.IPv4Network(value, strict=False)
    except ValueError:
        raise OptionError(path, "%r is not a network, such as 10.0.2.0/24" % value)
    return value


def _multicast_port(path: str, value: int, link: Link) -> int:
    if link["type"] == "mcast":
        check_number(path, value, 1, 65535, "a port")
    return value


def _reconnect(path: str, value: int, link: Link) -> int:
    check_number(path, value, 1, 1000000, "a time in seconds")
    return value


def _options(path: str, value: dict[str, Any], link: Link) -> dict[str, Any]:
    check_properties(path, value, reserved=("type", "id"))
    return {key: entry for key, entry in value.items() if entry is not None}


def _mode(path: str, value: str, link: Link) -> str:
    if not _MODE.fullmatch(value):
        raise OptionError(path, "%r is not the mode of a socket, such as 0700" % value)
    return value


def _socket_path(path: str, value: str, link: Link) -> str:
    value = absolute_path(path, value)
    if len(os.fsencode(value)) > _MAX_SOCKET_PATH:
        raise OptionError(path, "the path of a socket has %d bytes at most" % _MAX_SOCKET_PATH)
    return value


def _path(path: str, value: str, link: Link) -> str:
    return absolute_path(path, value)


def _script(path: str, value: str, link: Link) -> str:
    return value if value == _NO_SCRIPT else absolute_path(path, value)


def _interface(path: str, value: str, link: Link) -> str:
    if len(value.encode()) > _MAX_INTERFACE_NAME or "/" in value or not value.strip():
        raise OptionError(path, "%r is not the name of a network interface" % value)
    return value


def _queues(path: str, value: int, link: Link) -> int:
    check_number(path, value, 1, 256, "a number of queues")
    return value


def _dhcp_options(path: str, value: dict[Any, Any], link: Link) -> dict[str, str] | None:
    return dhcp_options.normalise(path, value)


def _forwards(path: str, value: list[dict[str, Any]], link: Link) -> list[dict[str, Any]]:
    return [_forward("%s[%d]" % (path, number), given, link) for number, given in enumerate(value)]


def _forward(path: str, given: dict[str, Any], link: Link) -> dict[str, Any]:
    forward: dict[str, Any] = {
        key: entry["default"]
        for key, entry in SPEC["forwards"]["options"].items()
        if "default" in entry
    }
    forward.update(
        (key, value)
        for key, value in given.items()
        if value is not None and (key, value) != ("guest_address", "")
    )
    if forward["host_address"] in ("", "*"):
        forward["host_address"] = "0.0.0.0"
    for key in ("host_address", "guest_address"):
        if key in forward:
            # QEMU's own network forwards IPv4 only; passt does both.
            is_passt = link["type"] == "passt"
            check_address("%s.%s" % (path, key), forward[key], None if is_passt else 4)
    forward["host_port"] = port_number(path + ".host_port", forward["host_port"])
    check_number(path + ".guest_port", forward["guest_port"], 1, 65535, "a port")
    return forward


def _impair(path: str, value: dict[str, Any], link: Link) -> dict[str, Any] | None:
    normalised = parameters.normalise(path, value)
    return normalised if parameters.is_impaired(normalised) else None


# How the value of a suboption is checked and normalised: called with its path, the value and the
# link.
_NORMALISE: dict[str, Callable[[str, Any, Link], Any]] = {
    "peer": _peer,
    "local_port": _port,
    "remote_port": _port,
    "local_address": _address,
    "remote_address": _address,
    "group": _address,
    "host_address": _address,
    "dhcp_start": _address,
    "dns": _address,
    "network": _network,
    "port": _multicast_port,
    "reconnect": _reconnect,
    "mode": _mode,
    "path": _socket_path,
    "remote_path": _socket_path,
    "tftp": _path,
    "helper": _path,
    "script": _script,
    "down_script": _script,
    "interface": _interface,
    "options": _options,
    "dhcp_options": _dhcp_options,
    "queues": _queues,
    "forwards": _forwards,
    "impair": _impair,
}


def _check_stream(path: str, link: Link) -> None:
    # Each of these makes one end of the connection.
    ends = ("local_port" in link, "remote_port" in link, "path" in link)
    if sum(ends) != 1:
        raise OptionError(
            path,
            "a stream has one end: path (listens; with reconnect it connects), local_port (listens)"
            " or remote_port",
        )


def _check_forwards(path: str, link: Link) -> None:
    if not link["forwards"]:
        del link["forwards"]
        return
    if link["type"] == "passt" and "path" in link:
        raise OptionError(
            path + ".forwards",
            "the passt that listens at path has its own forwards; set them when you start it",
        )
    numbers: dict[str, int] = {}
    for number, forward in enumerate(link["forwards"]):
        if link["type"] == "passt" and "guest_address" in forward:
            raise OptionError(
                "%s.forwards[%d].guest_address" % (path, number),
                "passt has one guest: leave it out",
            )
        first = numbers.setdefault(forward_key("", forward), number)
        if first != number:
            raise OptionError(
                "%s.forwards[%d].guest_port" % (path, number),
                "forwards[%d] has the same port of the guest at the same host address: give it a "
                "host_address of its own, such as 127.0.0.2" % first,
            )


def forward_key(nic: str, forward: dict[str, Any]) -> str:
    """Return the key of a forwarded port: the same as long as the guest port is the same.

    A host address of its own makes it another port.
    """
    guest, host = forward.get("guest_address", ""), forward.get("host_address", "127.0.0.1")
    return "nics/%s/%s/%s%d%s" % (
        nic,
        forward["protocol"],
        guest and guest + ":",
        forward["guest_port"],
        "" if host in _COMMON_ADDRESSES else "@" + host,
    )


def end_key(lab: str, vm: str, nic: str) -> str:
    """Return the key of one end of a cable within a host: both VMs of the cable use it."""
    return "/%s/%s/%s" % (lab, vm, nic)


def cable_ends(lab: str, vm: str, nic: str, link: Link) -> tuple[str, str]:
    """Return the keys of this and the other end of a cable to a peer."""
    other_vm, _colon, other_nic = link["peer"].rpartition(":")
    return end_key(lab, vm, nic), end_key(lab, other_vm, other_nic)


def local_key(nic: str) -> str:
    """Return the key of the port that a link listens on."""
    return "nics/%s/local" % nic


def wire_key(nic: str) -> str:
    """Return the key of the port of an impaired link, which QEMU sends to."""
    return "nics/%s/wire" % nic


def wire_address(link: Link) -> str:
    """Return the loopback address of that port."""
    return "::1" if ":" in link.get("local_address", "") else "127.0.0.1"


def is_only_impaired(given: dict[str, Any] | None) -> bool:
    """Return whether a user gives the impairment of a link and nothing else of it."""
    values = {key for key, value in (given or {}).items() if value not in (None, "")}
    return values == {"impair"}


def without_impairment(link: Link) -> Link:
    """Return a link as it is for the other side."""
    return {key: value for key, value in link.items() if key != "impair"}


def backend_of(link: Link) -> Link:
    """Return a link without what processes beside QEMU do for it."""
    return {key: value for key, value in link.items() if key not in ("impair", "dhcp_options")}


def _is_private(address: str) -> bool:
    """Return whether a loopback address belongs to one NIC, so that its ports need no registry."""
    return address.startswith("127.") and address != "127.0.0.1"


def port_requests(
    lab: str, vm: str, nic: str, link: Link, option: str, private: bool = False
) -> list[PortRequest]:
    """Return the host ports that a link needs; with private, those that need no registry."""
    requests = []
    address = link.get("local_address", "127.0.0.1")
    if "peer" in link and not private:
        requests += [
            PortRequest(key, "udp", "127.0.0.1", "auto", option + ".peer", True)
            for key in cable_ends(lab, vm, nic, link)
        ]
    elif (
        link["type"] in ("udp", "stream")
        and "local_port" in link
        and _is_private(address) == private
    ):
        is_udp = link["type"] == "udp"
        protocol = "udp" if is_udp else "tcp"
        requests.append(
            PortRequest(
                local_key(nic),
                protocol,
                address,
                link["local_port"],
                option + ".local_port",
                is_udp,
            )
        )
    if private:
        return requests
    if "impair" in link:
        # Not shared: the process of the wires binds it, and may still run after a killed run.
        requests.append(
            PortRequest(wire_key(nic), "udp", wire_address(link), "auto", option + ".impair")
        )
    for number, forward in enumerate(link.get("forwards", ())):
        requests.append(
            PortRequest(
                forward_key(nic, forward),
                forward["protocol"],
                forward["host_address"],
                forward["host_port"],
                "%s.forwards[%d].host_port" % (option, number),
            )
        )
    return requests


def check_host(link: Link, option: str, has_wrapper: bool) -> None:
    """Raise HostError if the host lacks what the link needs: some QEMUs abort without it.

    has_wrapper: whether another program starts QEMU, which then may have other rights than we.
    """
    if link.get("vhost") and not os.path.exists("/dev/vhost-net"):
        raise HostError(
            "%s.vhost: this host has no /dev/vhost-net: load the kernel module vhost_net, or leave"
            " vhost out" % option
        )
    if link["type"] == "tap" and not has_wrapper:
        tap_rights.check_tap(link.get("interface"), option)


def is_direct(link: Link) -> bool:
    """Return whether the link is the NIC's own backend, without a hub."""
    return bool(link.get("vhost") or link.get("queues", 1) > 1)


def restart_reason(old: Link, new: Link, may_spawn: bool) -> str:
    """Return why a link cannot be changed while QEMU runs; empty if it can.

    may_spawn: whether the running QEMU may start programs.
    """
    if is_direct(old) or is_direct(new):
        return "vhost and several queues cannot be changed live"
    return spawn_reason(new, may_spawn)


def spawn_reason(link: Link, may_spawn: bool) -> str:
    """Return why a running QEMU cannot make the backend of a link; empty if it can."""
    if runs_programs(link) and not may_spawn:
        return "QEMU starts a program for this link, which its sandbox forbids now"
    return ""


def runs_programs(link: Link) -> bool:
    """Return whether QEMU starts a program for the link."""
    return link["type"] in ("bridge", "passt") or bool(
        link.get("script") or link.get("down_script")
    )
