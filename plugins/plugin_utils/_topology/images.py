# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Give nodes their images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kinds import merge
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node, Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems


def apply_images(
    topology: Topology, images: Mapping[str, Mapping[str, Any]], problems: Problems
) -> None:
    """Complete the settings of each node with its image.

    images: {name: {kernel, initrd, cmdline, memory (MiB)} or {disk, format}}.
    """
    for node in topology.nodes.values():
        requested = node.settings.get("image")
        if requested and requested.startswith("/"):
            _apply(node, {"disk": requested})
            continue
        name = requested or node.kind_spec["image"]
        if name in images:
            _apply(node, images[name])
        elif requested or not _boots_without_image(node):
            problems.add(
                "nodes.%s.image" % node.name,
                "there is no image %r in the images of qemu_lab (%s)",
                name,
                ", ".join(sorted(images)) or "none",
            )


def _boots_without_image(node: Node) -> bool:
    """Return whether the node has a kernel or disks of its own."""
    settings = node.settings
    return bool(
        settings.get("kernel") or settings.get("disks") != node.kind_spec["vm"].get("disks")
    )


def _apply(node: Node, image: Mapping[str, Any]) -> None:
    settings, kind_vm = node.settings, node.kind_spec["vm"]
    if image.get("disk"):
        # It comes before the config drive, which some firmware would try to boot otherwise.
        root = {"name": "root", "backing_file": image["disk"], "boot_index": 1}
        root = merge(root, node.kind_spec["disk"])
        if image.get("format"):
            root["backing_format"] = image["format"]
        disks = {disk.get("name"): disk for disk in settings.get("disks") or ()}
        settings["disks"] = [merge(root, disks.pop("root", {})), *disks.values()]
    if image.get("memory") and settings.get("memory") == kind_vm.get("memory"):
        # Only the kind sets the amount: the image may need more.
        settings["memory"] = max(int(settings.get("memory") or 0), int(image["memory"]))
    for option in ("kernel", "initrd"):
        if image.get(option) and not settings.get(option):
            settings[option] = image[option]
    if image.get("cmdline"):
        settings["cmdline"] = " ".join(filter(None, [image["cmdline"], settings.get("cmdline")]))
