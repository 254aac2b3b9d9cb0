# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Which images are copied to which hypervisors: what they need against what they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.natural import natural_key
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.placement import (
    Placement,
    image_paths,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

CONTROLLER = ""  # the source of an image that comes from the controller


class Found(NamedTuple):
    """What a host has of an image. size: None without it, -1 for a block device.

    device, free: the file system of its folder, and the free bytes there.
    """

    path: str
    size: int | None
    device: int = 0
    free: int = 0


# {host: {image: what it has}}; CONTROLLER is a host.
Hosts = Mapping[str, Mapping[str, Found]]


class Copy(NamedTuple):
    """An image that is missing on hosts. source: a host that has it. targets: in natural order."""

    image: str
    source: str
    size: int
    targets: list[str]


def needed_images(topology: Topology, placed: Placement) -> dict[str, list[str]]:
    """Return the hosts that need each image: {image: hosts}."""
    found: dict[str, set[str]] = {}
    for name, node in topology.nodes.items():
        for path in image_paths(node):
            found.setdefault(path, set()).add(placed[name])
    return {image: sorted(found[image], key=natural_key) for image in sorted(found)}


def plan_copies(needed: Mapping[str, Sequence[str]], hosts: Hosts) -> list[Copy]:
    """Return what is to be copied. Raises TopologyError if an image is nowhere.

    An image of the controller is the source; otherwise the first host that has it.
    """
    problems, copies = Problems(), []
    for image, targets in needed.items():
        owners = [host for host in hosts if _size(hosts, host, image) is not None]
        missing = [host for host in targets if host not in owners]
        if not missing:
            continue
        sources = [host for host in owners if _size(hosts, host, image) != -1]
        if CONTROLLER in sources:
            sources = [CONTROLLER]
        if not sources:
            problems.add(
                "images",
                "%s needs %s, which neither another hypervisor of the play nor the folder source "
                "on the controller has as a file",
                ", ".join(missing),
                image,
            )
            continue
        size = _size(hosts, sources[0], image)
        copies.append(Copy(image, sources[0], size or 0, missing))
    problems.check()
    return copies


def check_space(
    copies: Sequence[Copy], hosts: Hosts, partial: Mapping[tuple[str, str], int]
) -> None:
    """Check that each host has the space. Raises TopologyError.

    partial: the bytes that an earlier run has copied: {(host, image): bytes}.
    """
    problems = Problems()
    needed: dict[tuple[str, int], int] = {}
    free: dict[tuple[str, int], int] = {}
    for copy in copies:
        for host in copy.targets:
            found = hosts[host][copy.image]
            key = host, found.device
            needed[key] = needed.get(key, 0) + copy.size - partial.get((host, copy.image), 0)
            free[key] = found.free
    for (host, device), size in needed.items():
        if size > free[host, device]:
            problems.add(
                "images",
                "%s needs %d MiB for them, but has %d MiB of free space in their folder",
                host,
                -(-size >> 20),
                free[host, device] >> 20,
            )
    problems.check()


def same_images(needed: Mapping[str, Sequence[str]], hosts: Hosts) -> dict[str, list[str]]:
    """Return the images that several hosts have which need them: {image: hosts}.

    They are compared. Block devices are not.
    """
    found = {}
    for image, targets in needed.items():
        sizes = {host: _size(hosts, host, image) for host in [CONTROLLER, *targets]}
        owners = [host for host, size in sizes.items() if size is not None and size >= 0]
        if len(owners) > 1:
            found[image] = owners
    return found


def _size(hosts: Hosts, host: str, image: str) -> int | None:
    found = hosts.get(host, {}).get(image)
    return None if found is None else found.size
