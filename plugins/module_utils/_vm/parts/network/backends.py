# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The QEMU network backends that links become."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import endpoint
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.links import (
    cable_ends,
    forward_key,
    local_key,
    wire_address,
    wire_key,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import (
    SYSTEM_ROOT,
    cable_address,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import Capabilities
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.links import Link

# The arguments of netdev_add.
Backend = Dict[str, Any]


class LinkContext(NamedTuple):
    """What a backend depends on beside its link.

    ports: {key of a PortRequest: port}. option: the path of the link, for errors.
    root: the folder of all labs.
    """

    lab: str
    vm: str
    nic: str
    ports: Mapping[str, int]
    capabilities: Capabilities
    option: str
    root: str = SYSTEM_ROOT


def backend(identifier: str, link: Link, context: LinkContext) -> Backend:
    """Return the backend of a link as netdev_add takes it.

    Raises OptionError if this QEMU does not support it.
    """
    arguments = _BACKENDS[link["type"]](link, context)
    if not context.capabilities.has_netdev(arguments["type"]):
        raise OptionError(
            context.option + ".type",
            "this QEMU (%s) was built without the backend %s that a link of type %s needs"
            % (context.capabilities.version_text, arguments["type"], link["type"]),
        )
    for key, value in link.get("options", {}).items():
        if key in arguments:
            raise OptionError(
                "%s.options.%s" % (context.option, key),
                "the module sets it, from the other suboptions of the link",
            )
        arguments[key] = value
    arguments["id"] = identifier
    return {key: value for key, value in arguments.items() if value is not None}


def check(link: Link, capabilities: Capabilities, option: str) -> str:
    """Return the type of the backend. Raises OptionError if this QEMU does not support the link."""
    any_ports: Mapping[str, int] = collections.defaultdict(int)
    kind: str = backend("", link, LinkContext("", "", "", any_ports, capabilities, option))["type"]
    return kind


def _user(link: Link, context: LinkContext) -> Backend:
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
            {"str": _host_forward(forward, context)} for forward in link.get("forwards", ())
        ]
        or None,
    }


def _host_forward(forward: dict[str, Any], context: LinkContext) -> str:
    return "%s:%s:%d-%s:%d" % (
        forward["protocol"],
        forward["host_address"],
        context.ports[forward_key(context.nic, forward)],
        forward.get("guest_address", ""),
        forward["guest_port"],
    )


class UdpEnds(NamedTuple):
    """Where a cable begins and ends, and the port in between that impairs what QEMU sends."""

    local: Tuple[str, int]
    remote: Tuple[str, int]
    wire: Optional[Tuple[str, int]]


def udp_ends(link: Link, context: LinkContext) -> UdpEnds:
    """Return the addresses of a cable."""
    if "peer" in link:
        ends = cable_ends(context.lab, context.vm, context.nic, link)
        local, remote = (context.ports[key] for key in ends)
        default_address = cable_address(context.root)
    else:
        local, remote = link["local_port"], link["remote_port"]
        default_address = "127.0.0.1"
    wire = None
    if "impair" in link:
        wire = (wire_address(link), context.ports[wire_key(context.nic)])
    return UdpEnds(
        (link.get("local_address", default_address), local),
        (link.get("remote_address", default_address), remote),
        wire,
    )


def _udp(link: Link, context: LinkContext) -> Backend:
    ends = udp_ends(link, context)
    return {
        "type": "socket",
        "udp": endpoint(*(ends.wire or ends.remote)),
        "localaddr": endpoint(*ends.local),
    }


def _unix(link: Link, context: LinkContext) -> Backend:
    return {
        "type": "dgram",
        "local": {"type": "unix", "path": link["path"]},
        "remote": {"type": "unix", "path": link["remote_path"]},
    }


def _stream(link: Link, context: LinkContext) -> Backend:
    if "reconnect" in link and not context.capabilities.at_least(8, 0):
        raise OptionError(
            context.option + ".reconnect",
            "it requires QEMU 8.0; this is %s" % context.capabilities.version_text,
        )
    if "path" in link:
        address = {"type": "unix", "path": link["path"]}
        return _stream_backend(link, address, "reconnect" not in link, context)
    listens = "local_port" in link
    port = context.ports[local_key(context.nic)] if listens else link["remote_port"]
    host = link.get("local_address" if listens else "remote_address", "127.0.0.1")
    if not context.capabilities.has_netdev("stream"):
        return {"type": "socket", "listen" if listens else "connect": endpoint(host, port)}
    address = {"type": "inet", "host": host, "port": str(port)}
    return _stream_backend(link, address, listens, context)


def _stream_backend(
    link: Link, address: dict[str, str], listens: bool, context: LinkContext
) -> Backend:
    arguments: Backend = {"type": "stream", "server": listens, "addr": address}
    if "reconnect" in link:
        arguments.update(
            {"reconnect-ms": link["reconnect"] * 1000}
            if context.capabilities.at_least(9, 2)
            else {"reconnect": link["reconnect"]}
        )
    return arguments


def _mcast(link: Link, context: LinkContext) -> Backend:
    return {
        "type": "socket",
        "mcast": endpoint(link["group"], link["port"]),
        "localaddr": link.get("local_address", "127.0.0.1"),
    }


def _tap(link: Link, context: LinkContext) -> Backend:
    return {
        "type": "tap",
        "ifname": link.get("interface"),
        "script": link.get("script", "no"),
        "downscript": link.get("down_script", "no"),
        "vhost": link.get("vhost"),
        "queues": link.get("queues"),
    }


def _bridge(link: Link, context: LinkContext) -> Backend:
    return {"type": "bridge", "br": link["bridge"], "helper": link.get("helper")}


def _vde(link: Link, context: LinkContext) -> Backend:
    return {
        "type": "vde",
        "sock": link.get("path"),
        "port": link.get("port"),
        "group": link.get("vde_group"),
        "mode": int(link["mode"], 8) if "mode" in link else None,
    }


def _passt(link: Link, context: LinkContext) -> Backend:
    if "path" in link:
        # passt serves one client on its socket and keeps it: QEMU documentation, "Using passt as
        # the user mode network stack".
        reconnect = {"reconnect": 1} if context.capabilities.at_least(8, 0) else {}
        address = {"type": "unix", "path": link["path"]}
        return _stream_backend({**link, **reconnect}, address, False, context)
    return {
        "type": "passt",
        "tcp-ports": _passt_ports(link, context, "tcp"),
        "udp-ports": _passt_ports(link, context, "udp"),
    }


def _passt_ports(link: Link, context: LinkContext, protocol: str) -> list[dict[str, str]] | None:
    ports = [
        {
            "str": "%s/%d:%d"
            % (
                forward["host_address"],
                context.ports[forward_key(context.nic, forward)],
                forward["guest_port"],
            )
        }
        for forward in link.get("forwards", ())
        if forward["protocol"] == protocol
    ]
    return ports or None


_BACKENDS: dict[str, Callable[[Link, LinkContext], Backend]] = {
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
