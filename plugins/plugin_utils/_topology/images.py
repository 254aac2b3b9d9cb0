# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Give nodes their images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.sizes import parse_size
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import suggestion
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kinds import merge
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Node, Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.schema import images_schema
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.validation import valid_part


_ROOT = "root"  # the disk that an image becomes


def apply_images(topology: Topology, images: Any, problems: Problems) -> None:
    """Complete the settings of each node with its image.

    images: {name: {kernel, initrd, cmdline, memory (MiB)} or {disk, format}}, not yet checked.
    """
    checked = _checked(images, problems)
    if checked is None:
        return
    for node in topology.nodes.values():
        requested = node.settings.get("image")
        name = requested or node.kind_spec["image"]
        if name.startswith("/"):
            _apply(node, {"disk": name})
            continue
        # The files of an appliance, by their names in the folder of images.
        needed = None if requested else node.kind_spec["needs"].get("image")
        if name in checked:
            image = {**(needed or {}), **checked[name]}
            if not _can_boot(image) and not _boots_without_image(node):
                problems.add("images.%s" % name, "give kernel or disk: %s boots it", node.name)
            _apply(node, image)
        elif needed is not None:
            _apply(node, needed)
        elif requested or not _boots_without_image(node):
            problems.add(
                "nodes.%s.image" % node.name,
                "there is no image %r in the images of qemu_lab (%s)%s",
                name,
                ", ".join(sorted(checked)) or "none",
                suggestion(name, checked),
            )


def _checked(images: Any, problems: Problems) -> dict[str, dict[str, Any]] | None:
    """Return the images without empty settings. Record errors and return None if there are any."""
    if isinstance(images, Mapping):
        images = {
            name: {key: value for key, value in image.items() if value not in (None, "")}
            if isinstance(image, Mapping)
            else image
            for name, image in images.items()
        }
    wrong = Problems()
    schema = {"type": "object", "properties": {"images": images_schema()}}
    valid_part({"images": images or {}}, wrong, schema)
    if not wrong.found:
        for name, image in (images or {}).items():
            try:
                parse_size("images.%s.memory" % name, image.get("memory", 1), unit="m")
            except OptionError as error:
                wrong.add(error.option, "%s", error.reason)
    problems.found += wrong.found
    return None if wrong.found else images or {}


def _can_boot(image: Mapping[str, Any]) -> bool:
    return bool(image.get("kernel") or image.get("disk"))


def _boots_without_image(node: Node) -> bool:
    """Return whether the node or its kind has a kernel, a root disk, or disks of its own."""
    settings = node.settings
    has_root = any(disk.get("name") == _ROOT for disk in settings.get("disks") or ())
    is_own = settings.get("disks") != node.kind_spec["vm"].get("disks")
    return bool(settings.get("kernel") or has_root or is_own)


def _apply(node: Node, image: Mapping[str, Any]) -> None:
    settings, kind_vm = node.settings, node.kind_spec["vm"]
    if image.get("disk"):
        # It comes before the config drive, which some firmware would try to boot otherwise.
        root = {"name": _ROOT, "backing_file": image["disk"], "boot_index": 1}
        root = merge(root, node.kind_spec["disk"])
        if image.get("format"):
            root["backing_format"] = image["format"]
        disks = {disk.get("name"): disk for disk in settings.get("disks") or ()}
        settings["disks"] = [merge(root, disks.pop(_ROOT, {})), *disks.values()]
    if image.get("memory") and settings.get("memory") == kind_vm.get("memory"):
        # Only the kind sets the amount: the image may need more.
        settings["memory"] = max(
            _mebibytes(settings.get("memory") or 0), _mebibytes(image["memory"])
        )
    for option in ("kernel", "initrd"):
        if image.get(option) and not settings.get(option):
            settings[option] = image[option]
    if image.get("cmdline"):
        settings["cmdline"] = " ".join(filter(None, [image["cmdline"], settings.get("cmdline")]))


def _mebibytes(memory: Any) -> int:
    return parse_size("memory", memory, unit="m") >> 20
