# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The share of a lab that each hypervisor runs: options of VMs, and segments."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, TypedDict

from ansible_collections.vlab.qemu.plugins.module_utils._lab.segments import UPLINK_SUFFIX
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_options import (
    NIC_SPEC,
)
from ansible_collections.vlab.qemu.plugins.module_utils._wire.switching import DEFAULT_AGEING
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import impairments
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.bootstrap import script_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.commands import commands_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.config_drive import (
    Render,
    config_files,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.endpoints import (
    Endpoint,
    UdpEndpoints,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import (
    End,
    Link,
    Nic,
    Node,
    Segment,
    Topology,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.placeholders import (
    filled,
    placeholder_values,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.tftp_delivery import (
    announced_link,
    boot_text,
    serving_nic,
)

# Suboptions of a NIC that the topology determines; the others are passed on unchanged.
_FROM_TOPOLOGY = ("mac", "model", "index", "link", "link_down", "capture")
_DEFAULT_NIC_MODEL = "virtio-net-pci"


class VmShare(TypedDict):
    """What the hypervisor does with one node.

    after: the nodes of the same host that come first. awaited: nodes of other hosts wait for
    this one to be ready. warm: whether it starts from a template, or auto. shutdown: what of the
    policy of the lab is different for it. bootstrap: what is typed on its console, see Bootstrap.
    exec: what is run once it is ready, see Commands.
    """

    name: str
    state: str
    options: dict[str, Any]
    ready: dict[str, Any]
    after: dict[str, str]
    awaited: bool
    warm: bool | str
    shutdown: dict[str, Any]
    bootstrap: dict[str, Any]
    exec: dict[str, Any]


class HostShare(TypedDict):
    """What one hypervisor does for the lab."""

    lab: str
    vms: list[VmShare]
    segments: list[dict[str, Any]]


def share_for(
    topology: Topology,
    placed: Mapping[str, str],
    host: str,
    endpoints: UdpEndpoints,
    states: Mapping[str, str],
    runs: Mapping[str, bool],
    render: Render,
) -> HostShare:
    """Return the share of a host.

    states: {node: its state in this run}. runs: {node: whether it runs after that}.
    render(node, text or {template: path}): returns the content of a file of the config drive.
    """
    # Nodes of other hosts wait for these.
    awaited = {
        name
        for node in topology.nodes.values()
        for name, condition in node.after.items()
        if condition == "ready" and placed[node.name] != placed[name]
    }
    vms: list[VmShare] = [
        {
            "name": node.name,
            "state": states[node.name],
            "options": _vm_options(topology, node, endpoints, runs, render),
            "ready": node.settings["ready"] or {},
            "after": {
                name: condition
                for name, condition in node.after.items()
                if placed[name] == placed[node.name]
            },
            "awaited": node.name in awaited,
            "warm": node.settings["warm"],
            "shutdown": node.settings.get("shutdown") or {},
            "bootstrap": script_of(topology, node, render),
            "exec": commands_of(topology, node),
        }
        for node in topology.nodes.values()
        if placed[node.name] == host
    ]
    segments = [
        entry
        for segment in topology.segments.values()
        if endpoints.home(segment) == host
        for entry in _segment(topology, segment, endpoints)
    ]
    return {"lab": topology.name, "vms": vms, "segments": segments}


def _segment(topology: Topology, segment: Segment, endpoints: UdpEndpoints) -> list[dict[str, Any]]:
    """Return a segment as the share of a lab has it, and the hub that is the uplink of a switch."""
    if segment.kind == "bridge":
        bridge = segment.settings.get("bridge")
        if bridge:
            return [{"name": segment.name, "bridge": bridge, "is_shared": True}]
        return [{"name": segment.name, "bridge": _bridge_name(topology.name, segment.name)}]
    ports = {
        str(end): _port(endpoints.hub_port(segment, end), endpoints.nic(end))
        for end in segment.ends
    }
    if segment.kind == "switch":
        return _switch(segment, ports, endpoints)
    uplink = {"uplink": segment.uplink} if segment.uplink else {}
    return [{"name": segment.name, "ports": ports, **uplink}]


def _switch(
    segment: Segment, ports: dict[str, dict[str, Any]], endpoints: UdpEndpoints
) -> list[dict[str, Any]]:
    for end in segment.ends:
        ports[str(end)]["vlans"] = segment.port_vlans(segment.vlans.get(end, {}))
        if segment.received.get(end):
            ports[str(end)]["impair"] = segment.received[end]
    for other, vlans in segment.cables.items():
        ports["switch " + other] = {
            **_port(*endpoints.cable(segment, other)),
            "vlans": segment.port_vlans(vlans, is_cable=True),
        }
    ageing = segment.settings.get("ageing", DEFAULT_AGEING)
    entries = [{"name": segment.name, "ports": ports, "ageing": ageing}]
    if segment.uplink:
        inner, outer = endpoints.uplink(segment)
        vlans = segment.port_vlans(segment.uplink_vlans)
        ports["uplink"] = {**_port(inner, outer), "vlans": vlans}
        uplink_ports = {"switch": _port(outer, inner)}
        name = segment.name + UPLINK_SUFFIX
        entries.append({"name": name, "ports": uplink_ports, "uplink": segment.uplink})
    return entries


def _port(local: Endpoint, remote: Endpoint) -> dict[str, Any]:
    return {
        "local_address": local.address,
        "local_port": local.port,
        "remote_address": remote.address,
        "remote_port": remote.port,
    }


def _bridge_name(lab: str, segment: str) -> str:
    """Return the name of a Linux bridge, which has at most 15 characters (IFNAMSIZ)."""
    return "vl" + hashlib.sha256(("%s\0%s" % (lab, segment)).encode("utf-8")).hexdigest()[:10]


def given_options(topology: Topology, node: Node) -> dict[str, Any]:
    """Return the options of qemu_vm that the node and its kind set, without NICs."""
    settings = node.settings
    options = {
        name: settings[name]
        for name in OPTIONS
        if settings.get(name) is not None and name != "nics"
    }
    for name, alias in (("vcpus", "cpus"), ("arch", "platform")):
        if settings.get(alias) is not None and name not in options:
            options[name] = settings[alias]
    values = {**placeholder_values(topology, node), "boot": boot_text(node)}
    return {name: filled(value, values) for name, value in options.items()}


def _vm_options(
    topology: Topology,
    node: Node,
    endpoints: UdpEndpoints,
    runs: Mapping[str, bool],
    render: Render,
) -> dict[str, Any]:
    """Return the options of qemu_vm for a node."""
    options = given_options(topology, node)
    options["nics"] = [nic_options(node, nic, endpoints, runs) for nic in node.nics.values()]
    files = config_files(topology, node, render)
    nic = serving_nic(node)
    if files and nic:
        options["tftp_files"] = {"files": files, "nic": nic.vm_name}
    elif files:
        config = node.kind_spec["config"]
        options["config_drive"] = {
            "files": files,
            "update": "next_start",
            **{key: config[key] for key in ("label", "format", "bus") if key in config},
        }
    return options


def nic_options(
    node: Node, nic: Nic, endpoints: UdpEndpoints, runs: Mapping[str, bool]
) -> dict[str, Any]:
    """Return a NIC as an item of nics of qemu_vm."""
    settings, network = nic.settings, nic.network
    options: dict[str, Any] = {
        "name": nic.vm_name,
        "mac": nic.mac,
        "model": settings.get("model")
        or node.settings.get("nic_model")
        or node.kind_spec["nic"].get("models", {}).get(nic.name)
        or node.kind_spec["nic"].get("model", _DEFAULT_NIC_MODEL),
    }
    if nic.position is not None:
        options["index"] = nic.position
    for key in NIC_SPEC:
        if key not in _FROM_TOPOLOGY and settings.get(key) is not None:
            options[key] = settings[key]
    capture = settings.get("capture")
    options["link_down"] = bool(settings.get("link_down"))
    if network is None:
        options["link"] = announced_link(node, nic, settings.get("link") or {"type": "none"})
        if nic.name not in node.nic_settings:
            options["spare"] = True
    elif isinstance(network, Segment) and network.kind == "bridge":
        options["segment"] = network.name
    else:
        end = End(node.name, nic.name)
        options["link"] = endpoints.link_of(network, end)
        impaired = impairments.impairment(network, end, settings)
        if impaired:
            options["link"] = dict(options["link"], impair=impaired)
    if isinstance(network, Link):
        _add_peer(options, network, network.other(node.name, nic.name), node, endpoints, runs)
        if network.ends[0] == (node.name, nic.name) and network.settings.get("capture") is not None:
            capture = network.settings["capture"]
    if isinstance(capture, dict):
        options["capture"] = {"enabled": True, **capture}
    else:
        options["capture"] = {"enabled": bool(capture)}
    return options


def _add_peer(
    options: dict[str, Any],
    link: Link,
    peer: End,
    node: Node,
    endpoints: UdpEndpoints,
    runs: Mapping[str, bool],
) -> None:
    """Add to the options of a NIC what depends on the other end of its link."""
    if link.settings.get("down"):
        options["link_down"] = True
    # A link to a VM that does not run has no carrier. The hypervisor knows about its own VMs.
    if endpoints.placed[peer.node] == endpoints.placed[node.name]:
        options["peer"] = peer.node
    elif not runs[peer.node]:
        options["link_down"] = True
