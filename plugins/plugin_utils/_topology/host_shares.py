# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Slices: what each hypervisor has to do for the lab, as the options of its VMs."""

from __future__ import annotations

import hashlib
import itertools
import json
import re

from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import macs
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.machine import derived_uuid
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.network import NIC_SPEC
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kinds import merge
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Link

# Below Linux's range for outgoing connections; the registry of qemu_vm takes ports from 20000 on.
_FIRST_PORT, _PORTS = 10000, 10000
# Suboptions of a NIC that the topology determines; the others are passed on unchanged.
_NIC_FROM_TOPOLOGY = ("mac", "model", "index", "link", "link_down", "capture")
_NAMED = 16  # data NICs whose names a guest learns at its start at least


def apply_images(topology, images, problems):
    """Give each node its image. images: {name: {kernel, initrd, cmdline, memory (MiB)} or {disk, format}}."""
    for node in topology.nodes.values():
        settings, asked = node.settings, node.settings.get("image")
        name = asked or node.shape["image"]
        image = {"disk": name} if asked and asked.startswith("/") else images.get(name)
        if image is None:
            if not asked and (
                settings.get("kernel") or settings.get("disks") != node.shape["vm"].get("disks")
            ):
                continue
            problems.add(
                "nodes.%s.image" % node.name,
                "there is no image %r among those that qemu_lab was given (%s)",
                name,
                ", ".join(sorted(images)) or "none",
            )
            continue
        if image.get("disk"):
            # It comes before the config drive, which some firmware would try else.
            root = merge(
                {"name": "root", "backing_file": image["disk"], "boot_index": 1}, node.shape["disk"]
            )
            if image.get("format"):
                root["backing_format"] = image["format"]
            own = {disk.get("name"): disk for disk in settings.get("disks") or ()}
            settings["disks"] = [merge(root, own.pop("root", {})), *own.values()]
        if image.get("memory") and settings.get("memory") == node.shape["vm"].get("memory"):
            # Nobody asked for another amount: the guest gets what its image needs.
            settings["memory"] = max(int(settings.get("memory") or 0), int(image["memory"]))
        for option in ("kernel", "initrd"):
            if image.get(option) and not settings.get(option):
                settings[option] = image[option]
        if image.get("cmdline"):
            settings["cmdline"] = " ".join(
                part for part in (image["cmdline"], settings.get("cmdline")) if part
            )


def end_address(lab, node, nic):
    """The loopback address and port of a NIC whose link stays on its host: one of its own, from its names."""
    digest = hashlib.sha256("\0".join((lab, node, nic)).encode("utf-8")).digest()
    return "127.%d.%d.%d" % (
        64 + digest[0] % 128,
        digest[1],
        1 + digest[2] % 254,
    ), _FIRST_PORT + int.from_bytes(digest[3:5], "big") % _PORTS


class Wires:
    """Addresses and ports of all ends of links and hubs. addresses: {host: the address that others reach it at}."""

    def __init__(self, topology, placed, addresses):
        self.topology, self.placed, self.addresses = topology, placed, addresses
        self.used = {}
        self.remote = {}
        # Ports towards other hosts: by the hash of their names, the next free one in the order of names.
        for link in topology.links:
            if self._hosts(link.ends) > 1:
                for end in link.ends:
                    self.remote[str(end)] = placed[end.node]
        for segment in topology.segments.values():
            home = self.home(segment)
            for end in segment.ends:
                if placed[end.node] != home:
                    self.remote[str(end)] = placed[end.node]
                    self.remote["hub %s %s" % (segment.name, end)] = home
        self.ports = {key: self._port(key, host) for key, host in sorted(self.remote.items())}

    def ports_between(self):
        """The ports of NICs towards other hosts: {host: {port: (node, what for)}}."""
        found = {}
        for key, host in self.remote.items():
            if not key.startswith("hub "):
                found.setdefault(host, {})[self.ports[key]] = (key.partition(":")[0], key)
        return found

    def _hosts(self, ends):
        return len({self.placed[end.node] for end in ends})

    def _port(self, key, host):
        start = int.from_bytes(
            hashlib.sha256(("%s\0%s" % (self.topology.name, key)).encode("utf-8")).digest()[:4],
            "big",
        )
        for step in range(_PORTS):
            port = _FIRST_PORT + (start + step) % _PORTS
            if (host, port) not in self.used:
                self.used[host, port] = key
                return port
        raise OverflowError("no port is left on %s" % host)

    def home(self, segment):
        """The host that a segment's hub runs on."""
        wanted = segment.settings.get("hypervisor")
        hosts = [self.placed[end.node] for end in segment.ends]
        return wanted if wanted else max(sorted(set(hosts)), key=hosts.count)

    def address(self, key, node, nic):
        """Where an end listens: (address, port)."""
        if key in self.ports:
            return self.addresses[self.remote[key]], self.ports[key]
        return end_address(self.topology.name, node, nic)

    def link(self, wire, end):
        """The link of the NIC at an end, as qemu_vm takes it."""
        local = self.address(str(end), end.node, end.nic)
        if isinstance(wire, Link):
            other = wire.other(end.node, end.nic)
            remote = self.address(str(other), other.node, other.nic)
        else:
            remote = self.hub_port(wire, end)
        return {
            "type": "udp",
            "local_address": local[0],
            "local_port": str(local[1]),
            "remote_address": remote[0],
            "remote_port": str(remote[1]),
        }

    def hub_port(self, segment, end):
        """Where the hub of a segment listens for an end."""
        return self.address("hub %s %s" % (segment.name, end), "hub " + segment.name, str(end))


def bridge_name(lab, segment):
    """The Linux bridge of a segment: interface names have 15 characters at most (IFNAMSIZ)."""
    return "vl" + hashlib.sha256(("%s\0%s" % (lab, segment)).encode("utf-8")).hexdigest()[:10]


def hosts_with_addresses(topology, placed):
    """The hosts that others must reach, because a link or segment crosses between them."""
    crossing = set()
    for link in topology.links:
        hosts = {placed[end.node] for end in link.ends}
        crossing |= hosts if len(hosts) > 1 else set()
    for segment in topology.segments.values():
        hosts = {placed[end.node] for end in segment.ends} | (
            {segment.settings["hypervisor"]} if segment.settings.get("hypervisor") else set()
        )
        crossing |= hosts if len(hosts) > 1 else set()
    return crossing


def share_for(topology, placed, host, wires, states, runs, render):
    """What a host has to do: {"lab", "vms", "segments"}.

    states: {node: its state in this run}. runs: {node: whether it runs then}.
    render(node, text or {template}): the content of a file on a node's config drive.
    """
    vms = [
        _vm(topology, node, wires, states, runs, render)
        for node in topology.nodes.values()
        if placed[node.name] == host
    ]
    # Nodes of other hosts wait for these.
    awaited = {
        name
        for node in topology.nodes.values()
        for name, what in node.after.items()
        if what == "ready" and placed[node.name] != placed[name]
    }
    for vm in vms:
        vm["awaited"] = vm["name"] in awaited
    segments = [
        _segment(topology, segment, wires)
        for segment in topology.segments.values()
        if wires.home(segment) == host
    ]
    return {"lab": topology.name, "vms": vms, "segments": segments}


def _segment(topology, segment, wires):
    if segment.kind == "bridge":
        return {
            "name": segment.name,
            "bridge": segment.settings.get("bridge") or bridge_name(topology.name, segment.name),
        }
    ports = {}
    for end in segment.ends:
        hub, nic = wires.hub_port(segment, end), wires.address(str(end), end.node, end.nic)
        ports[str(end)] = {
            "local_address": hub[0],
            "local_port": hub[1],
            "remote_address": nic[0],
            "remote_port": nic[1],
        }
    return {"name": segment.name, "ports": ports}


def _vm(topology, node, wires, states, runs, render):
    settings = node.settings
    options = {
        name: settings[name]
        for name in OPTIONS
        if settings.get(name) is not None and name != "nics"
    }
    for name, alias in (("vcpus", "cpus"), ("arch", "platform")):
        if settings.get(alias) is not None and name not in options:
            options[name] = settings[alias]
    options = _filled(options, _words(topology, node))
    options["nics"] = [_nic(topology, node, nic, wires, runs) for nic in node.nics.values()]
    files = config_files(topology, node, render)
    if files:
        shape = node.shape["config"]
        options["config_drive"] = {
            "files": files,
            "update": "next_start",
            **{key: shape[key] for key in ("label", "format", "bus") if key in shape},
        }
    return {
        "name": node.name,
        "state": states[node.name],
        "options": options,
        "ready": settings["ready"] or {},
        "after": {
            name: what
            for name, what in node.after.items()
            if wires.placed[name] == wires.placed[node.name]
        },
    }


_WORD = re.compile(r"\{(name|lab|uuid|management|loopback|vars\.[^{}]+)\}")


def _words(topology, node):
    """What the names in braces of a kind's vm stand for."""
    words = {
        "name": node.name,
        "lab": topology.name,
        "uuid": derived_uuid(topology.name, node.name),
        "management": node.management,
        "loopback": node.loopback,
    }
    words.update(("vars.%s" % name, value) for name, value in node.settings["vars"].items())
    return {name: "" if value is None else str(value) for name, value in words.items()}


def _filled(value, words):
    if isinstance(value, str):
        return _WORD.sub(lambda match: words.get(match.group(1), ""), value)
    if isinstance(value, list):
        return [_filled(entry, words) for entry in value]
    return (
        {key: _filled(entry, words) for key, entry in value.items()}
        if isinstance(value, dict)
        else value
    )


def vm_nic_name(name):
    """What a NIC is called as one of a VM, where it may become a file's name."""
    return name.replace("/", "_")


def _nic(topology, node, nic, wires, runs):
    made = {
        "name": vm_nic_name(nic.name),
        "mac": nic.mac,
        "model": nic.settings.get("model")
        or node.settings.get("nic_model")
        or node.shape["nic"].get("model", "virtio-net-pci"),
    }
    if nic.position is not None:
        made["index"] = nic.position
    for key in NIC_SPEC:
        if key not in _NIC_FROM_TOPOLOGY and nic.settings.get(key) is not None:
            made[key] = nic.settings[key]
    down, capture = bool(nic.settings.get("link_down")), nic.settings.get("capture")
    if nic.wire is None:
        made["link"] = nic.settings.get("link") or {"type": "none"}
        if nic.name not in (node.settings.get("nics") or {}):
            made["spare"] = True
    else:
        end = next(end for end in nic.wire.ends if (end.node, end.nic) == (node.name, nic.name))
        if not isinstance(nic.wire, Link) and nic.wire.kind == "bridge":
            made["segment"] = nic.wire.name
        else:
            made["link"] = wires.link(nic.wire, end)
        if isinstance(nic.wire, Link):
            other = nic.wire.other(node.name, nic.name)
            down = down or bool(nic.wire.settings.get("down"))
            # A cable into a machine that is off carries nothing; of those on the same host the module itself knows.
            if wires.placed[other.node] == wires.placed[node.name]:
                made["peer"] = other.node
            else:
                down = down or not runs[other.node]
            if nic.wire.ends[0] is end and nic.wire.settings.get("capture") is not None:
                capture = nic.wire.settings["capture"]
    made["link_down"] = down
    made["capture"] = (
        {"enabled": bool(capture)}
        if isinstance(capture, bool) or capture is None
        else {"enabled": True, **capture}
    )
    return made


def config_files(topology, node, render):
    """The files on a node's config drive, by name."""
    files = {name: render(node, content) for name, content in node.settings["files"].items()}
    made = {"shell": _shell_files, "cloud_init": _cloud_init_files}.get(
        node.shape["config"].get("addresses")
    )
    if made:
        for name, content in made(topology, node, files).items():
            files.setdefault(name, content)
    return files


def _shell_files(topology, node, files):
    named = {nic.name: nic.mac for nic in node.nics.values()}
    if node.cards.block_size > 1:
        # Also those that links may bring while it runs; so a link does not change the drive for the names' sake.
        for name in itertools.islice(node.cards.names(), _NAMED):
            named.setdefault(name, macs.derived(topology.name, node.name, name))
    made = {
        "hostname": node.name + "\n",
        "interfaces": "".join(
            "%s %s\n" % (name, named[name]) for name in sorted(named, key=node.cards.order)
        ),
    }
    if "frr.conf" not in files:
        lines = [
            "ip address add %s dev %s" % (address, nic.name)
            for nic in node.nics.values()
            for address in nic.addresses
        ]
        lines += [
            "ip address add %s dev lo" % address
            for address in (node.loopback, node.loopback6)
            if address
        ]
        if lines:
            made["start.sh"] = "".join(line + "\n" for line in lines)
    return made


def _cloud_init_files(topology, node, files):
    """A NoCloud seed (cloud-init, data source NoCloud; network configuration version 2). Vars of the node: user, password, ssh_keys."""
    known = node.settings["vars"]
    user = {
        "name": known.get("user") or "lab",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "lock_passwd": not known.get("password"),
    }
    if known.get("shell"):
        user["shell"] = known["shell"]
    if known.get("password"):
        user["plain_text_passwd"] = str(known["password"])
    keys = known.get("ssh_keys") or []
    user["ssh_authorized_keys"] = [keys] if isinstance(keys, str) else keys
    data = {
        "hostname": node.name,
        "users": [user],
        "ssh_pwauth": bool(known.get("password")),
        # Also what a link brought that was added after the first start.
        "updates": {"network": {"when": ["boot"]}},
    }
    loopbacks = [address for address in (node.loopback, node.loopback6) if address]
    if loopbacks:
        # Not in the network configuration, whose renderers differ about lo.
        data["bootcmd"] = [
            [
                "sh",
                "-c",
                "ip address replace %s dev lo || ifconfig lo0 %s %s alias"
                % (address, "inet6" if ":" in address else "inet", address),
            ]
            for address in loopbacks
        ]
    # A management NIC that leads outside gets its address from there.
    ethernets = {
        nic.name: {
            "match": {"macaddress": nic.mac},
            "set-name": nic.name,
            "optional": True,
            "addresses": nic.addresses,
            "dhcp4": not nic.addresses and (nic.settings.get("link") or {}).get("type") == "user",
        }
        for nic in node.nics.values()
    }
    return {
        "meta-data": _json(
            {"instance-id": derived_uuid(topology.name, node.name), "local-hostname": node.name}
        ),
        "user-data": "#cloud-config\n" + _json(data),
        "network-config": _json({"version": 2, "ethernets": ethernets}),
    }


def _json(data):
    """JSON is YAML."""
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


def variables(topology, node):
    """What a template sees of a node: plain data."""
    nics = []
    for nic in node.nics.values():
        peer = nic.wire.other(node.name, nic.name) if isinstance(nic.wire, Link) else None
        other = topology.nodes[peer.node] if peer else None
        nics.append(
            {
                "name": nic.name,
                "mac": nic.mac,
                "addresses": list(nic.addresses),
                "wire": nic.wire.name if nic.wire is not None else None,
                "peer": {
                    "node": peer.node,
                    "nic": peer.nic,
                    "addresses": list(other.nics[peer.nic].addresses),
                    "asn": other.asn,
                    "groups": other.groups,
                    "loopback": other.loopback,
                }
                if peer
                else None,
                "vars": (nic.wire.settings.get("vars") or {}) if nic.wire is not None else {},
            }
        )
    return {
        "name": node.name,
        "kind": node.kind,
        "groups": node.groups,
        "loopback": node.loopback,
        "loopback6": node.loopback6,
        "management": node.management,
        "asn": node.asn,
        "nics": nics,
        "vars": node.settings.get("vars") or {},
    }
