# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Find what two nodes of one hypervisor cannot both have: host ports, images and devices."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host_devices import is_exclusive
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image_folder import with_image_paths
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import BY_NAME, OPTIONS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import links
from ansible_collections.vlab.qemu.plugins.module_utils._vm.port_sockets import (
    canonical,
    overlap,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import PortRequest
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.host_shares import given_options
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node, Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems


class _Use(NamedTuple):
    """A use of something on a host by a node.

    option: its path. thing: what is used, for messages. exclusive: no other node may use it.
    running: whether only running nodes use it.
    """

    node: str
    option: str
    thing: str
    exclusive: bool = True
    running: bool = False


def check_conflicts(
    topology: Topology,
    placed: Mapping[str, str],
    runs: Mapping[str, bool],
    problems: Problems,
    image_dir: str,
) -> None:
    """Record what two nodes of one hypervisor cannot both have.

    placed: {node: host}. runs: {node: whether it runs after this task}. image_dir: the folder of
    relative paths of images.
    """
    uses: dict[tuple[str, str], list[tuple[str, _Use]]] = {}
    for node in topology.nodes.values():
        host = placed[node.name]
        for key, address, use in _uses(topology, node, image_dir):
            if use.running and not runs[node.name]:
                continue
            others = uses.setdefault((host, key), [])
            for other_address, other in others:
                if _collide(use, address, other, other_address):
                    problems.add(
                        use.option,
                        "%s is also used by the node %s (%s) on the same hypervisor, %s",
                        use.thing,
                        other.node,
                        other.option,
                        host,
                    )
                    break
            others.append((address, use))


def _collide(use: _Use, address: str, other: _Use, other_address: str) -> bool:
    """Return whether two uses of one thing exclude each other. address: empty except for ports."""
    if use.node == other.node and not address or not (use.exclusive or other.exclusive):
        return False
    return overlap(address, other_address)


def _uses(topology: Topology, node: Node, image_dir: str) -> Iterator[tuple[str, str, _Use]]:
    """Yield (what is used, the address of a port, the use) for a node."""
    path = "nodes.%s" % node.name
    given = given_options(topology, node)
    with contextlib.suppress(OptionError):
        given = with_image_paths(given, image_dir)
    options = _normalised(given)
    requests: list[PortRequest] = []
    for part in ("consoles", "display"):
        requests += BY_NAME[part].port_requests(options)
    requests = [entry._replace(option="%s.%s" % (path, entry.option)) for entry in requests]
    for nic in node.nics.values():
        nic_path = "%s.nics.%s" % (path, nic.name)
        link = {} if nic.network else _link(nic.settings.get("link"))
        if link:
            option = nic_path + ".link"
            requests += links.port_requests(topology.name, node.name, nic.name, link, option)
            yield from _link_uses(node.name, option, link)
    for request in requests:
        if isinstance(request.port, int):
            port = "port %s/%d" % (request.protocol, request.port)
            address = canonical(request.address)
            yield port, address, _Use(node.name, request.option, "%s on %s" % (port, address))
    yield from _image_uses(node.name, path, options["disks"])
    for device in filter(is_exclusive, options["passthrough"]):
        use = _Use(node.name, path + ".passthrough", "the device %s" % device, running=True)
        yield "device " + device, "", use


def _normalised(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as a definition keeps them. The hypervisor reports those it cannot use."""
    options: dict[str, Any] = {}
    for name in ("consoles", "display", "disks", "passthrough"):
        option = OPTIONS[name]
        options[name] = copy.deepcopy(option.default)
        if given.get(name):
            value = copy.deepcopy(given[name])
            with contextlib.suppress(OptionError):
                options[name] = option.normalise(name, value) if option.normalise else value
    return options


def _link(given: Any) -> links.Link:
    """Return a link of a NIC as a definition keeps it; empty if the hypervisor will reject it."""
    try:
        return links.normalise("link", copy.deepcopy(given)) if given else {}
    except OptionError:
        return {}


def _link_uses(node: str, path: str, link: links.Link) -> Iterator[tuple[str, str, _Use]]:
    """Yield the uses of interfaces and sockets by a link."""
    if link["type"] == "tap" and link.get("interface"):
        thing = "the interface %s" % link["interface"]
        yield thing, "", _Use(node, path + ".interface", thing, running=True)
    listens = link["type"] == "unix" or link["type"] == "stream" and not link.get("reconnect")
    if listens and link.get("path"):
        thing = "the socket %s" % link["path"]
        yield thing, "", _Use(node, path + ".path", thing, running=True)


def _image_uses(
    node: str, path: str, disks: list[dict[str, Any]]
) -> Iterator[tuple[str, str, _Use]]:
    """Yield the images that the disks write, and those that must not change."""
    for disk in disks:
        option = "%s.disks[%s]" % (path, disk.get("name"))
        backing = "backing_file" if disk.get("backing_file") else "backing_store"
        if disk.get("path") and not disk.get("read_only") and not disk.get("snapshot"):
            image = disk["path"]
            yield "image " + image, "", _Use(node, option + ".path", "the image " + image)
        if disk.get(backing):
            image = disk[backing]
            use = _Use(node, "%s.%s" % (option, backing), "the image " + image, exclusive=False)
            yield "image " + image, "", use
