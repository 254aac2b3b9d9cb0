# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Files that a node fetches by TFTP at its first boot: who serves and who announces them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import dhcp_options
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.kinds import KindSpec
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.model import Nic, Node
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.placeholders import filled
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.user_link import (
    user_link,
    user_network,
)

TFTP = "tftp"


def uses_tftp(spec: KindSpec) -> bool:
    """Whether the files of nodes of a kind are served by TFTP, and not on a drive."""
    return bool(spec["config"].get("delivery") == TFTP)


def check_kind(path: str, spec: KindSpec, problems: Problems) -> None:
    """Record what is wrong with the delivery of a kind. path: of the kind."""
    config = spec["config"]
    path += ".config"
    if uses_tftp(spec):
        if config.get("addresses", "none") != "none":
            problems.add(path + ".addresses", "its files need a drive, not delivery: tftp")
        try:
            dhcp_options.normalise(path + ".dhcp_options", config.get("dhcp_options") or {})
        except OptionError as error:
            problems.add(error.option, "%s", error.reason)
        return
    for key in ("dhcp_options", "boot"):
        if config.get(key):
            problems.add("%s.%s" % (path, key), "it needs delivery: tftp")


def check_nodes(nodes: Iterable[Node], problems: Problems) -> None:
    """Record nodes with files that no link serves. Their NICs have their links."""
    for node in nodes:
        if _is_served(node) and serving_nic(node) is None:
            names = node.nic_naming.management or ["NIC"]
            problems.add(
                "nodes.%s.nics.%s.link" % (node.name, names[0]),
                "the files of kind %s are served by TFTP on a link of type user: give this one, or "
                "set management: true in the topology",
                node.kind,
            )


def _is_served(node: Node) -> bool:
    return uses_tftp(node.kind_spec) and bool(node.settings["files"])


def serving_nic(node: Node) -> Nic | None:
    """Return the NIC whose link serves the files of a node; None without one, or without files."""
    names = node.nic_naming.management[:1] or list(node.nics)
    nics = (node.nics[name] for name in names if name in node.nics)
    return next((nic for nic in nics if _is_served(node) and user_link(nic.settings)), None)


def boot_text(node: Node) -> str:
    """Return what the placeholder {boot} of a kind stands for; empty without files to fetch."""
    nic = serving_nic(node)
    text: str = node.kind_spec["config"].get("boot") or ""
    return str(filled(text, _values(node, nic))) if nic else ""


def announced_link(node: Node, nic: Nic, link: Any) -> Any:
    """Return the link of a NIC, with the DHCP options that announce the files it serves."""
    given = node.kind_spec["config"].get("dhcp_options")
    if not given or serving_nic(node) is not nic:
        return link
    options = {str(code): filled(value, _values(node, nic)) for code, value in given.items()}
    own = {str(code): value for code, value in (link.get("dhcp_options") or {}).items()}
    return {**link, "dhcp_options": {**options, **own}}


def _values(node: Node, nic: Nic) -> Mapping[str, str]:
    network = user_network(nic.settings)
    return {
        "tftp": network.gateway if network else "",
        "address": network.address if network else "",
        "file": str(node.kind_spec["config"].get("file") or ""),
    }
