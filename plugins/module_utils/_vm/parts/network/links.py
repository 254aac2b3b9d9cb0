# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Links: what the other side of a NIC is plugged into, and the QEMU backends they become.

Every NIC sits on a hub port of its own; a link is a backend plugged into that hub, so that it can be plugged, moved and pulled
while the guest keeps its card. vhost and several queues do not pass a hub: such a link is the NIC's own backend.
"""

from __future__ import annotations

import collections
import ipaddress
import os
import re

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import (
    check_address,
    check_number,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import check_name
from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import PortRequest, port_number

_TYPES = ["none", "user", "udp", "unix", "stream", "mcast", "tap", "bridge", "vde", "passt"]
_MODE = re.compile(r"0?[0-7]{3}")
_SUN_PATH = 107  # unix(7): 108 bytes with the end

# Suboptions by the types that understand them; type itself apart.
_UNDERSTOOD = {
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

SPEC = {
    "type": {"type": "str", "choices": _TYPES},
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
    "vde_group": {"type": "str"},
    "mode": {"type": "str"},
}

_NEEDED = {
    "udp": ("local_port", "remote_port"),
    "unix": ("path", "remote_path"),
    "bridge": ("bridge",),
    "mcast": ("group", "port"),
}


def normalise(path, given):
    """A link as the definition keeps it: its type and what was said. Raises OptionError naming the suboption under path."""
    link = {key: value for key, value in given.items() if value not in (None, "")}
    kind = link.setdefault("type", _guess(link))
    for key in link:
        if key != "type" and key not in _UNDERSTOOD[kind]:
            raise OptionError("%s.%s" % (path, key), "a link of type %s does not have it" % kind)
    if "peer" in link:
        _check_peer(path + ".peer", link)
    else:
        for key in _NEEDED.get(kind, ()):
            if not link.get(key):
                raise OptionError("%s.%s" % (path, key), "a link of type %s needs it" % kind)
    for key in ("local_port", "remote_port"):
        if key in link:
            link[key] = port_number("%s.%s" % (path, key), link[key])
            if link[key] == "auto" and not (key == "local_port" and kind == "stream"):
                raise OptionError(
                    "%s.%s" % (path, key),
                    "auto does not work here: the other side could not know it; use peer, or a number",
                )
    for key in ("local_address", "remote_address", "group", "host_address", "dhcp_start", "dns"):
        if key in link:
            check_address(
                "%s.%s" % (path, key), link[key], 4 if kind in ("user", "mcast") else None
            )
    if "network" in link:
        _check_network(path + ".network", link["network"])
    if kind == "mcast":
        check_number(path + ".port", link["port"], 1, 65535, "a port")
    if "reconnect" in link:
        check_number(path + ".reconnect", link["reconnect"], 1, 1000000, "a time in seconds")
    if "mode" in link and not _MODE.fullmatch(link["mode"]):
        raise OptionError(
            path + ".mode", "%r is not the mode of a socket, such as 0700" % link["mode"]
        )
    for key in ("path", "remote_path"):
        if key in link:
            link[key] = os.path.abspath(link[key])
            if len(os.fsencode(link[key])) > _SUN_PATH:
                raise OptionError(
                    "%s.%s" % (path, key), "a socket's path has %d bytes at most" % _SUN_PATH
                )
    if kind == "stream":
        _check_stream(path, link)
    if kind == "passt" and "path" in link and link.get("forwards"):
        raise OptionError(
            path + ".forwards",
            "the passt that listens at path was told its own forwards when it was started",
        )
    if "interface" in link and (
        len(link["interface"].encode()) > 15
        or "/" in link["interface"]
        or not link["interface"].strip()
    ):
        raise OptionError(
            path + ".interface", "%r is not the name of a network interface" % link["interface"]
        )
    if "queues" in link:
        check_number(path + ".queues", link["queues"], 1, 256, "a number of queues")
    link["forwards"] = [
        _forward("%s.forwards[%d]" % (path, n), forward)
        for n, forward in enumerate(link.get("forwards", ()))
    ]
    if not link["forwards"]:
        del link["forwards"]
    else:
        _check_twice(path, link["forwards"])
    return link


def _check_twice(path, forwards):
    observation = {}
    for number, forward in enumerate(forwards):
        first = observation.setdefault(forward_key("", forward), number)
        if first != number:
            raise OptionError(
                "%s.forwards[%d].guest_port" % (path, number),
                "forwards[%d] has the same port of the guest" % first,
            )


def _guess(link):
    return "udp" if "peer" in link else "none"


def _check_peer(path, link):
    machine, colon, nic = link["peer"].rpartition(":")
    if not colon or not machine or not nic:
        raise OptionError(path, "%r is not VM:NIC, such as r2:eth1" % link["peer"])
    check_name(path, machine)
    check_name(path, nic)
    for key in ("local_address", "local_port", "remote_address", "remote_port"):
        if key in link:
            raise OptionError(path, "it cannot be given with %s" % key)


def _check_stream(path, link):
    listens, connects = "local_port" in link, "remote_port" in link
    if (
        sum(
            (
                listens,
                connects,
                "path" in link and "reconnect" not in link,
                "path" in link and "reconnect" in link,
            )
        )
        != 1
    ):
        raise OptionError(
            path,
            "a stream has one end: path (listens; with reconnect it connects), local_port (listens) or remote_port",
        )


def _check_network(path, text):
    try:
        ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        raise OptionError(path, "%r is not a network, such as 10.0.2.0/24" % text)


def _forward(path, given):
    forward = {
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
            check_address("%s.%s" % (path, key), forward[key], 4)  # QEMU forwards no other
    forward["host_port"] = port_number(path + ".host_port", forward["host_port"])
    check_number(path + ".guest_port", forward["guest_port"], 1, 65535, "a port")
    return forward


def forward_key(nic, forward):
    """What a forwarded port is for: stable as long as the same guest port is forwarded."""
    return "nics/%s/%s/%s%d" % (
        nic,
        forward["protocol"],
        forward.get("guest_address", "") and forward["guest_address"] + ":",
        forward["guest_port"],
    )


def end_key(lab, vm, nic):
    """The name of one end of a cable within a host: both VMs of the cable know it."""
    return "/%s/%s/%s" % (lab, vm, nic)


def _ends(lab, vm, nic, link):
    machine, _colon, other = link["peer"].rpartition(":")
    return end_key(lab, vm, nic), end_key(lab, machine, other)


def _is_private(address):
    """Whether a loopback address is a NIC's own: nobody else comes upon its ports, so they need not be registered."""
    return address.startswith("127.") and address != "127.0.0.1"


def port_wishes(lab, vm, nic, link, option):
    """The host ports that a link needs."""
    port_requests = []
    if "peer" in link:
        port_requests += [
            PortRequest(key, "udp", "127.0.0.1", "auto", option + ".peer")
            for key in _ends(lab, vm, nic, link)
        ]
    elif (
        link["type"] in ("udp", "stream")
        and "local_port" in link
        and not _is_private(link.get("local_address", ""))
    ):
        protocol = "udp" if link["type"] == "udp" else "tcp"
        port_requests.append(
            PortRequest(
                "nics/%s/local" % nic,
                protocol,
                link.get("local_address", "127.0.0.1"),
                link["local_port"],
                option + ".local_port",
            )
        )
    for number, forward in enumerate(link.get("forwards", ())):
        port_requests.append(
            PortRequest(
                forward_key(nic, forward),
                forward["protocol"],
                forward["host_address"],
                forward["host_port"],
                "%s.forwards[%d].host_port" % (option, number),
            )
        )
    return port_requests


def check(link, capabilities, option):
    """Raise OptionError when the QEMU at hand cannot make the link."""
    backend("", "", "", "", link, collections.defaultdict(int), capabilities, option)


def check_host(link, option):
    """Raise HostError when the host lacks what the link needs: some QEMUs abort for want of it."""
    if link.get("vhost") and not os.path.exists("/dev/vhost-net"):
        raise HostError(
            "%s.vhost: this host has no /dev/vhost-net: load the kernel module vhost_net, or leave vhost out"
            % option
        )


def is_direct(link):
    """Whether the link is the NIC's own backend, without a hub between: vhost and several queues need that."""
    return bool(link.get("vhost") or link.get("queues", 1) > 1)


def runs_programs(link):
    """Whether QEMU starts a program for the link."""
    return link["type"] in ("bridge", "passt") or bool(
        link.get("script") or link.get("down_script")
    )


def backend(identifier, lab, vm, nic, link, ports, capabilities, option):
    """The backend of a link, as netdev_add takes it. Raises OptionError when the QEMU at hand does not have it."""
    made = _BACKENDS[link["type"]](link, _Place(lab, vm, nic, ports, capabilities, option))
    if not capabilities.has_netdev(made["type"]):
        raise OptionError(
            option + ".type",
            "this QEMU (%s) was built without the backend %s that a link of type %s needs"
            % (capabilities.version_text, made["type"], link["type"]),
        )
    made["id"] = identifier
    return {key: value for key, value in made.items() if value is not None}


class _Place:
    def __init__(self, lab, vm, nic, ports, capabilities, option):
        self.lab, self.vm, self.nic, self.ports, self.capabilities, self.option = (
            lab,
            vm,
            nic,
            ports,
            capabilities,
            option,
        )


def _joined(address, port):
    return "%s:%d" % ("[%s]" % address if ":" in address else address, port)


def _user(link, place):
    return {
        "type": "user",
        "net": link.get("network"),
        "host": link.get("host_address"),
        "dhcpstart": link.get("dhcp_start"),
        "dns": link.get("dns"),
        "hostname": link.get("hostname"),
        "domainname": link.get("domain"),
        "dnssearch": [{"str": name} for name in link.get("dns_search", ())] or None,
        "restrict": link.get("restrict"),
        "tftp": link.get("tftp"),
        "bootfile": link.get("bootfile"),
        "ipv6": link.get("ipv6"),
        "hostfwd": [
            {
                "str": "%s:%s:%d-%s:%d"
                % (
                    f["protocol"],
                    f["host_address"],
                    place.ports[forward_key(place.nic, f)],
                    f.get("guest_address", ""),
                    f["guest_port"],
                )
            }
            for f in link.get("forwards", ())
        ]
        or None,
    }


def _udp(link, place):
    if "peer" in link:
        local, remote = (place.ports[key] for key in _ends(place.lab, place.vm, place.nic, link))
    else:
        local, remote = link["local_port"], link["remote_port"]
    return {
        "type": "socket",
        "udp": _joined(link.get("remote_address", "127.0.0.1"), remote),
        "localaddr": _joined(link.get("local_address", "127.0.0.1"), local),
    }


def _unix(link, place):
    return {
        "type": "dgram",
        "local": {"type": "unix", "path": link["path"]},
        "remote": {"type": "unix", "path": link["remote_path"]},
    }


def _stream(link, place, connects=False):
    listens = "local_port" in link or "path" in link and not connects and "reconnect" not in link
    if "reconnect" in link and not place.capabilities.at_least(8, 0):
        raise OptionError(
            place.option + ".reconnect",
            "it needs QEMU 8.0; this is %s" % place.capabilities.version_text,
        )
    if "path" in link:
        address = {"type": "unix", "path": link["path"]}
    else:
        side = "local" if listens else "remote"
        port = place.ports["nics/%s/local" % place.nic] if listens else link["remote_port"]
        address = {
            "type": "inet",
            "host": link.get(side + "_address", "127.0.0.1"),
            "port": str(port),
        }
        if not place.capabilities.has_netdev("stream"):
            return {
                "type": "socket",
                "listen" if listens else "connect": _joined(address["host"], port),
            }
    made = {"type": "stream", "server": listens, "addr": address}
    if "reconnect" in link:
        made.update(
            {"reconnect-ms": link["reconnect"] * 1000}
            if place.capabilities.at_least(9, 2)
            else {"reconnect": link["reconnect"]}
        )
    return made


def _mcast(link, place):
    return {
        "type": "socket",
        "mcast": _joined(link["group"], link["port"]),
        "localaddr": link.get("local_address", "127.0.0.1"),
    }


def _tap(link, place):
    return {
        "type": "tap",
        "ifname": link.get("interface"),
        "script": link.get("script", "no"),
        "downscript": link.get("down_script", "no"),
        "vhost": link.get("vhost"),
        "queues": link.get("queues"),
    }


def _bridge(link, place):
    return {"type": "bridge", "br": link["bridge"], "helper": link.get("helper")}


def _vde(link, place):
    return {
        "type": "vde",
        "sock": link.get("path"),
        "port": link.get("port"),
        "group": link.get("vde_group"),
        "mode": int(link["mode"], 8) if "mode" in link else None,
    }


def _passt(link, place):
    if "path" in link:
        # passt serves one client on its socket and keeps it: QEMU documentation, "Using passt as the user mode network stack".
        reconnect = {"reconnect": 1} if place.capabilities.at_least(8, 0) else {}
        return _stream({"path": link["path"], **reconnect}, place, connects=True)
    return {
        "type": "passt",
        "tcp-ports": _passt_ports(link, place, "tcp"),
        "udp-ports": _passt_ports(link, place, "udp"),
    }


def _passt_ports(link, place, protocol):
    return [
        {
            "str": "%s/%d:%d"
            % (f["host_address"], place.ports[forward_key(place.nic, f)], f["guest_port"])
        }
        for f in link.get("forwards", ())
        if f["protocol"] == protocol
    ] or None


_BACKENDS = {
    "user": _user,
    "udp": _udp,
    "unix": _unix,
    "stream": _stream,
    "mcast": _mcast,
    "tap": _tap,
    "bridge": _bridge,
    "vde": _vde,
    "passt": _passt,
}
