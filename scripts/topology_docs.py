# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the reference in docs/topology.md, the table in docs/kinds.md, and the schema for editors.

python scripts/topology_docs.py            write all
python scripts/topology_docs.py --check    only report whether they are up to date
"""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Container, Iterable
from typing import Any, Optional

ROOT = pathlib.Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / ".collections"))

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import kinds, schema
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.nic_naming import naming_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.placeholders import used_in
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems
from ansible_collections.vlab.qemu.scripts import topology_schema
from ansible_collections.vlab.qemu.scripts.return_docs import (
    documented_options,
    first_sentence,
    suboptions,
)

BEGIN, END = "<!-- generated: begin -->\n", "<!-- generated: end -->\n"
TYPES = {
    "string": "string",
    "object": "mapping",
    "array": "list",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
}


def type_of(entry: dict[str, Any]) -> str:
    """Return the type of an entry of the schema in words."""
    if "enum" in entry:
        return ", ".join("`%s`" % value for value in entry["enum"])
    if "oneOf" in entry:
        return " or ".join(
            dict.fromkeys(type_of(form) for form in entry["oneOf"] if form.get("type") != "null")
        )
    given = entry.get("type", "anything")
    words = " or ".join(
        TYPES.get(name, name) for name in (given if isinstance(given, list) else [given])
    )
    if given == "array" and "items" in entry:
        words = "list of %s" % " or ".join(
            name + "s" for name in type_of(entry["items"]).split(" or ")
        )
    limits = [
        "%s %s" % (word, entry[key])
        for key, word in (("minimum", "from"), ("maximum", "to"))
        if key in entry
    ]
    return " ".join([words] + limits)


def table(
    entry: dict[str, Any],
    skipped: Container[str] = (),
    where: str = "",
    documented: Optional[dict[str, Any]] = None,
) -> str:
    """Return the settings of a mapping as a table.

    Each setting must have a description, in the schema or in `documented`.
    """
    texts = {name: in_markdown(first_sentence(text)) for name, text in (documented or {}).items()}
    lines = ["| setting | type | meaning |", "|---|---|---|"]
    for name, inner in entry["properties"].items():
        if name not in skipped:
            description = inner.get("description") or texts.get(name)
            if not description:
                raise ValueError("%s%s has no description in the schema" % (where, name))
            needed = " Required." if name in entry.get("required", ()) else ""
            lines.append(
                "| `%s` | %s | %s%s |"
                % (name, type_of(inner), description.replace("|", "\\|"), needed)
            )
    return "\n".join(lines) + "\n"


def in_markdown(text: str) -> str:
    """Return text of a module's documentation in Markdown."""
    return re.sub(r"\b[CEOV]\(([^)]*)\)", r"`\1`", text)


# A title, a text below it, and a table.
_Part = tuple[str, str, str]


def reference() -> str:
    """Return the reference in Markdown."""
    top = schema.topology_schema()["properties"]
    parts = [("The file", "", table(schema.topology_schema()))]
    parts += _node_parts(top) + _network_parts(top) + _kind_parts()
    parts.append(
        (
            "Options of qemu_vm",
            "Nodes, `defaults`, groups, and `vm` of kinds accept: %s." % _names(_vm_options(top)),
            "",
        )
    )
    return (
        "\n".join(
            "### %s\n\n%s%s" % (title, text + "\n\n" if text else "", body)
            for title, text, body in parts
        ).rstrip()
        + "\n"
    )


def _mapping(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the form of an entry that is a mapping."""
    return entry["oneOf"][1] if "oneOf" in entry else entry


def _vm_options(top: dict[str, Any]) -> list[str]:
    node = _mapping(top["nodes"]["additionalProperties"])
    return sorted(name for name in schema.vm_options() if name in node["properties"])


def _names(names: Iterable[str]) -> str:
    return ", ".join("`%s`" % name for name in names)


def _node_parts(top: dict[str, Any]) -> list[_Part]:
    node, defaults = _mapping(top["nodes"]["additionalProperties"]), top["defaults"]["properties"]
    options = _vm_options(top)
    own = [name for name in defaults if name not in options]
    group = top["groups"]["additionalProperties"]
    return [
        (
            "nodes.NAME",
            "A node may be empty: `r1:`. In addition to these settings, it accepts the options of "
            "[qemu_vm](../plugins/modules/qemu_vm.py) listed below.",
            table(node, options, "nodes.NAME."),
        ),
        (
            "defaults",
            "Settings of all nodes: %s, and the options of qemu_vm." % _names(own),
            "",
        ),
        (
            "groups.NAME",
            "The settings of `defaults`, and:",
            table(group, defaults, "groups.NAME."),
        ),
        (
            "nodes.NAME.nics.NIC",
            "",
            table(
                node["properties"]["nics"]["additionalProperties"],
                where="nics.NIC.",
                documented=suboptions("nics"),
            ),
        ),
        ("ready", "", table(node["properties"]["ready"], where="ready.")),
    ]


def _network_parts(top: dict[str, Any]) -> list[_Part]:
    link = _mapping(top["links"]["items"])
    endpoint = _mapping(link["properties"]["endpoints"]["items"])
    segment = top["segments"]["additionalProperties"]
    member = _mapping(segment["properties"]["members"]["items"])
    uplink = segment["properties"]["uplink"]
    return [
        (
            "links[]",
            "The short form `NODE:NIC -- NODE:NIC`, or a mapping:",
            table(link, where="links[]."),
        ),
        (
            "endpoints[] and members[]",
            "The short form `NODE:NIC` or `NODE`, or a mapping:",
            table(endpoint, where="endpoints[]."),
        ),
        ("segments.NAME", "", table(segment, where="segments.NAME.")),
        (
            "segments.NAME.members[]",
            "The settings of `endpoints[]`, and of ports of switches:",
            table(member, endpoint["properties"], "members[]."),
        ),
        (
            "segments.NAME.uplink",
            "These settings, and the VLANs of `members[]`:",
            table(uplink, member["properties"], "uplink."),
        ),
        *(
            (name, "", table(_mapping(top[name]), where=name + "."))
            for name in ("addressing", "management", "placement", "limits")
        ),
    ]


def _kind_parts() -> list[_Part]:
    kind = schema.kind_schema()
    return [
        ("kinds.NAME", "", table(kind, where="kinds.NAME.")),
        *(
            (path, "", table(kind["properties"][path.rpartition(".")[2]], where=path + "."))
            for path in ("kinds.NAME.nic", "kinds.NAME.config", "kinds.NAME.running_config")
        ),
        *_script_parts(kind["properties"]["bootstrap"]),
    ]


def _script_parts(entry: dict[str, Any]) -> list[_Part]:
    """Return the tables of a script, which has the documentation of qemu_console."""
    path, steps = "kinds.NAME.bootstrap", suboptions("steps")
    step = entry["properties"]["steps"]["items"]
    parts = [
        (path, "", table(entry, where=path, documented=documented_options("console_script"))),
        (path + ".steps[]", "", table(step, where=path, documented=steps)),
    ]
    for name in ("login", "answer", "retry"):
        inner = step["properties"][name]
        documented = steps[name]["suboptions"]
        title = "%s.steps[].%s%s" % (path, name, "[]" if "items" in inner else "")
        parts.append((title, "", table(inner.get("items", inner), (), path, documented)))
    return parts


def _by_tftp(config: dict[str, Any]) -> str:
    """Return the file that a system fetches, and the DHCP options that announce it."""
    codes = ", ".join(str(code) for code in config.get("dhcp_options") or ())
    return "TFTP%s: `%s`" % (", DHCP option %s" % codes if codes else "", config["file"])


def _row(name: str, spec: kinds.KindSpec) -> list[str]:
    """Return the cells of a kind."""
    naming, vm, facts = naming_of(spec), spec["vm"], spec["facts"]
    nics = naming.management + [naming.name(naming.first)] * bool(naming.maximum)
    config = spec["config"]
    first = _by_tftp(config) if config.get("delivery") == "tftp" else ""
    drive = (
        "%s, %s, label `%s`%s"
        % (
            config.get("format", "iso"),
            config.get("bus", "virtio"),
            config["label"],
            ": `%s`" % config["file"] if config.get("file") else "",
        )
        if config.get("label")
        else ""
    )
    return [
        "`%s`" % name,
        spec["description"],
        " + ".join(
            "%s MiB, %s" % (each["memory"], each.get("vcpus", 1))
            for each in [vm, *(module["vm"] for module in spec["modules"].values())]
        ),
        "%s %s"
        % (
            spec["nic"].get("model", "virtio-net-pci"),
            ", ".join("`%s`" % nic for nic in nics) + " ..." * bool(naming.maximum),
        ),
        spec["disk"].get("bus", "virtio")
        if spec["image"] not in ("tiny", "frr", "linux")
        else "none",
        vm.get("firmware", "bios"),
        first or drive,
        facts.get("ansible_network_os") or "",
    ]


def _first_boot(spec: kinds.KindSpec) -> str:
    """Return how the script of a kind is used, empty without one."""
    script = spec["bootstrap"]
    if not script:
        return ""
    needed = sorted(
        name[5:]
        for name in set(used_in(script["steps"]))
        if name.startswith("vars.") and spec["vars"].get(name[5:]) is None
    )
    is_fetched = spec["config"].get("delivery") == "tftp"
    return "a script on the console types `config`%s%s" % (
        ", unless `bootstrap: false` lets the system fetch it by TFTP"
        if is_fetched
        else " with `bootstrap: true`"
        if spec["config"].get("file")
        else "",
        "; it needs %s" % ", ".join("`vars.%s`" % name for name in needed) if needed else "",
    )


def _aliases(name: str) -> list[str]:
    """Return the other names of a kind."""
    return list(kinds.shipped()[name].get("aliases", ()))


def _modules(spec: kinds.KindSpec) -> str:
    """Return the modules of a kind with their images, empty without any."""
    return ", ".join(
        "`%s` (image `%s`)" % (name, module["image"]) for name, module in spec["modules"].items()
    )


def _shown_config(spec: kinds.KindSpec) -> str | None:
    """Return the command of a kind that shows its running configuration, with its source."""
    shown = spec["running_config"]
    return "`%s` (%s)" % (shown["command"], shown["source"]) if shown else None


def all_kinds() -> str:
    """Return the kinds in Markdown: a table, and the details of each."""
    lines = [
        "| kind | description | memory, vCPUs | NICs | root disk | firmware "
        "| first configuration | `ansible_network_os` |",
        "|---" * 8 + "|",
    ]
    more = []
    for name in sorted(kinds.shipped()):
        spec = kinds.resolve(name, {}, Problems(), name)
        assert spec is not None, "shipped kinds exist"
        lines.append("| %s |" % " | ".join(_row(name, spec)))
        facts = spec["facts"]
        if facts.get("source"):  # the others have a section of their own
            words = [
                ("Other names", ", ".join("`%s`" % one for one in _aliases(name))),
                ("Modules", _modules(spec)),
                ("Login", facts.get("credentials")),
                ("First boot", _first_boot(spec)),
                ("Ready when the console shows", "`%s`" % spec["ready"]["console"]),
                ("Hint", spec["ready"].get("hint")),
                ("Note", facts.get("notes")),
                ("Shows its configuration", _shown_config(spec)),
                ("Source", facts.get("source")),
            ]
            more.append(
                "### %s\n\n%s"
                % (
                    name,
                    "".join(
                        "- %s: %s\n" % (word, str(text).strip()) for word, text in words if text
                    ),
                )
            )
    return "\n".join(lines) + "\n\n## Details\n\n" + "\n".join(more)


PAGES = {"docs/topology.md": reference, "docs/kinds.md": all_kinds}


def main(words: list[str]) -> int:
    """Write the pages and the schema, or with --check report those that are not up to date."""
    status = topology_schema.main(words)
    for page, make in PAGES.items():
        path = ROOT / page
        head, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
        old, end, tail = rest.partition(END)
        new = "\n" + make() + "\n"
        if not begin or not end:
            print("%s does not contain %s and %s" % (page, BEGIN.strip(), END.strip()))
            status = 1
        elif old != new and "--check" in words:
            print("%s is not up to date: run python scripts/topology_docs.py" % page)
            status = 1
        elif old != new:
            path.write_text(head + begin + new + end + tail, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
