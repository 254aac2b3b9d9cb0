# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the reference in docs/topology.md, from the schema, and the table in docs/kinds.md.

python scripts/topology_docs.py            write both
python scripts/topology_docs.py --check    only report whether they are up to date
"""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any, Optional

ROOT = pathlib.Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / ".collections"))

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import kinds, schema
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.nic_naming import NicNaming
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems
from ansible_collections.vlab.qemu.scripts.return_docs import first_sentence, suboptions

BEGIN, END = "<!-- generated: begin -->\n", "<!-- generated: end -->\n"
TYPES = {
    "string": "text",
    "object": "mapping",
    "array": "list",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
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
        words = "list of %s" % {"text": "texts", "text or mapping": "texts or mappings"}.get(
            type_of(entry["items"]), type_of(entry["items"])
        )
    limits = [
        "%s %s" % (word, entry[key])
        for key, word in (("minimum", "from"), ("maximum", "to"))
        if key in entry
    ]
    return " ".join([words] + limits)


def table(
    entry: dict[str, Any],
    but: Sequence[str] = (),
    where: str = "",
    documented: Optional[dict[str, Any]] = None,
) -> str:
    """Return the settings of a mapping as a table.

    Each setting must have a description, in the schema or in `documented`.
    """
    texts = {name: in_markdown(first_sentence(text)) for name, text in (documented or {}).items()}
    lines = ["| setting | type | meaning |", "|---|---|---|"]
    for name, inner in entry["properties"].items():
        if name not in but:
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


def reference() -> str:
    """Return the reference in Markdown."""
    top = schema.topology_schema()["properties"]
    form = {
        name: entry["oneOf"][1] if "oneOf" in entry else entry
        for name, entry in (
            ("node", top["nodes"]["additionalProperties"]),
            ("link", top["links"]["items"]),
        )
    }
    node, kind = form["node"], schema.kind_schema()
    options = [name for name in schema.vm_options() if name in node["properties"]]
    own = [name for name in node["properties"] if name not in options]
    defaults = [name for name in top["defaults"]["properties"] if name in own]
    parts = [
        ("The file", "", table(schema.topology_schema())),
        (
            "nodes.NAME",
            "A node may be empty: `r1:`. Besides these it takes the options of "
            "[qemu_vm](../plugins/modules/qemu_vm.py), see below.",
            table(node, options, "nodes.NAME."),
        ),
        (
            "defaults",
            "Settings of all nodes: "
            + ", ".join("`%s`" % name for name in defaults)
            + ", and the options of qemu_vm.",
            "",
        ),
        (
            "groups.NAME",
            "What `defaults` takes, and:",
            table(
                {
                    "properties": {
                        name: entry
                        for name, entry in top["groups"]["additionalProperties"][
                            "properties"
                        ].items()
                        if name not in top["defaults"]["properties"]
                    }
                },
                (),
                "groups.NAME.",
            ),
        ),
        (
            "nodes.NAME.nics.NIC",
            "",
            table(
                node["properties"]["nics"]["additionalProperties"],
                (),
                "nics.NIC.",
                suboptions("nics"),
            ),
        ),
        ("ready", "", table(node["properties"]["ready"], (), "ready.")),
        (
            "links[]",
            "Short, `NODE:NIC -- NODE:NIC`, or a mapping:",
            table(form["link"], (), "links[]."),
        ),
        (
            "endpoints[] and members[]",
            "Short, `NODE:NIC` or `NODE`, or a mapping:",
            table(form["link"]["properties"]["endpoints"]["items"]["oneOf"][1], (), "endpoints[]."),
        ),
        ("segments.NAME", "", table(top["segments"]["additionalProperties"], (), "segments.NAME.")),
        ("addressing", "", table(top["addressing"], (), "addressing.")),
        ("placement", "", table(top["placement"], (), "placement.")),
        ("limits", "", table(top["limits"], (), "limits.")),
        ("kinds.NAME", "", table(kind, (), "kinds.NAME.")),
        ("kinds.NAME.nic", "", table(kind["properties"]["nic"], (), "kinds.NAME.nic.")),
        ("kinds.NAME.config", "", table(kind["properties"]["config"], (), "kinds.NAME.config.")),
        (
            "Options of qemu_vm",
            "Of a node, of `defaults`, of groups, and of a kind's `vm`: "
            + ", ".join("`%s`" % name for name in sorted(options))
            + ".",
            "",
        ),
    ]
    return (
        "\n".join(
            "### %s\n\n%s%s" % (title, text + "\n\n" if text else "", body)
            for title, text, body in parts
        ).rstrip()
        + "\n"
    )


def _row(name: str, shape: dict[str, Any]) -> list[str]:
    """Return the cells of a kind."""
    naming, vm, facts = NicNaming(shape["nic"]), shape["vm"], shape["facts"]
    config = shape["config"]
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
        shape["description"],
        "%s MiB, %s" % (vm["memory"], vm.get("vcpus", 1)),
        "%s %s"
        % (
            shape["nic"].get("model", "virtio-net-pci"),
            ", ".join("`%s`" % nic for nic in naming.management + [naming.name(naming.first)])
            + " ...",
        ),
        shape["disk"].get("bus", "virtio")
        if shape["image"] not in ("tiny", "frr", "linux")
        else "none",
        vm.get("firmware", "bios"),
        drive,
        facts.get("ansible_network_os") or "",
    ]


def all_kinds() -> str:
    """Return the kinds in Markdown: a table, and the details of each."""
    lines = [
        "| kind | what it is | memory, vCPUs | NICs | root disk | firmware "
        "| first configuration | `ansible_network_os` |",
        "|---" * 8 + "|",
    ]
    more = []
    for name in sorted(kinds.shipped()):
        shape = kinds.resolve(name, {}, Problems(), name)
        lines.append("| %s |" % " | ".join(_row(name, shape)))
        facts = shape["facts"]
        if facts:
            words = [
                ("Login", facts.get("credentials")),
                ("Ready when its console shows", "`%s`" % shape["ready"]["console"]),
                ("Hint", shape["ready"].get("hint")),
                ("Note", facts.get("notes")),
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
    return "\n".join(lines) + "\n\n## Each of them\n\n" + "\n".join(more)


PAGES = {"docs/topology.md": reference, "docs/kinds.md": all_kinds}


def main(words: list[str]) -> int:
    """Write the pages, or with --check report those that are not up to date."""
    status = 0
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
