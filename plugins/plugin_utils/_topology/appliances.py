# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Kinds of a topology that are appliances of GNS3, and the images that these need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Optional

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kinds import merge
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Topology
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

# Returns the kind of (file, version). Raises OptionError with the option appliance or version.
ReadAppliance = Callable[[str, Optional[str]], Mapping[str, Any]]
_KEYS = ("appliance", "version")


def with_appliances(
    own_kinds: Mapping[str, Any], read: ReadAppliance | None, problems: Problems
) -> dict[str, Any]:
    """Return the kinds of a topology, where those that are appliances have what their files say.

    read: None where files cannot be read. Then only what the topology itself says is known.
    """
    return {name: _kind(name, own, read, problems) for name, own in own_kinds.items()}


def _kind(
    name: str, own: Mapping[str, Any], read: ReadAppliance | None, problems: Problems
) -> Mapping[str, Any]:
    path = "kinds.%s." % name
    rest = {key: value for key, value in own.items() if key not in _KEYS}
    if not own.get("appliance"):
        if "version" in own:
            problems.add(path + "version", "give appliance: this is a version of it")
        return rest
    if own.get("extends"):
        problems.add(path + "extends", "a kind is an appliance or extends another kind, not both")
        return {key: value for key, value in rest.items() if key != "extends"}
    if read is None:
        return rest
    try:
        kind = read(own["appliance"], own.get("version"))
    except OptionError as error:
        problems.add(path + error.option, "%s", error.reason)
        return rest
    arguments = kind["needs"]["arguments"]
    if arguments and (rest.get("vm") or {}).get("extra_args") is None:
        problems.add(
            path + "appliance",
            "%s: options: %s can read files or run programs on the hypervisor; give "
            "vm.extra_args of the kind to say which arguments to use, [] for none",
            own["appliance"],
            " ".join(arguments),
        )
    return merge(kind, rest)


def needed_images(topology: Topology, message: str) -> str:
    """Return the images of the appliances that an error message is about, a line each.

    They follow the message, and say where the files come from. Empty if it names none of them.
    """
    lines: dict[str, None] = {}
    for node in topology.nodes.values():
        files = node.kind_spec["needs"].get("files", [])
        if any(needed["file"] in message for needed in files):
            lines.update((_line(node.kind, needed), None) for needed in files)
    if not lines:
        return ""
    text = "\nIts appliance needs these files, in image_dir of the hypervisor:\n  %s"
    return text % "\n  ".join(lines)


def _line(kind: str, needed: Mapping[str, Any]) -> str:
    facts = ["in %s" % needed["archive"]] if "archive" in needed else []
    if "md5" in needed:
        facts.append("md5 %s" % needed["md5"])
    if "size" in needed:
        facts.append("%d bytes" % needed["size"])
    if "url" in needed:
        packed = " (%s)" % needed["compression"] if "compression" in needed else ""
        facts.append(needed["url"] + packed)
    elif "page" in needed:
        facts.append("from the page %s" % needed["page"])
    return "%s: %s" % (needed["file"], ", ".join(facts) or "of the kind %s" % kind)
