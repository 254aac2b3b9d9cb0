# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the shared entries of the modules' RETURN, because Ansible has no fragments for RETURN.

python scripts/return_docs.py            write them into plugins/modules
python scripts/return_docs.py --check    only report whether they are up to date

They are made from the attributes RESULT, NIC_RESULT, DISK_RESULT, SNAPSHOT_RESULT, CHANGES and
FAILURE of the documentation fragments, and from the suboptions of NICs and disks: an entry without
a text of its own takes the type from the part's table and the first sentence of the option's
documentation.
"""

from __future__ import annotations

import importlib
import pathlib
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / ".collections"))

from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.disk_options import (
    DISK_SPEC,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_options import (
    NIC_SPEC,
)

WIDTH = 100
BEGIN, END = 'RETURN = r"""\n', '"""\n'
# The fragments of what qemu_vm returns, in the order of the text.
VM_FRAGMENTS = [
    "vm",
    "machine",
    "memory",
    "consoles",
    "display",
    "storage",
    "media",
    "network",
    "devices",
    "autostart",
]


def fragment(name: str, attribute: str) -> str:
    """Return a text of a documentation fragment."""
    module = importlib.import_module("ansible_collections.vlab.qemu.plugins.doc_fragments." + name)
    return str(getattr(module.ModuleDocFragment, attribute)).lstrip("\n")


def suboptions(option: str) -> dict[str, Any]:
    """Return the documentation of the suboptions of nics or disks, or of steps of a script."""
    name = {"nics": "network", "disks": "storage", "steps": "console_script"}[option]
    found: dict[str, Any] = documented_options(name)[option]["suboptions"]
    return found


def documented_options(name: str) -> dict[str, Any]:
    """Return the documentation of the options of a fragment."""
    found: dict[str, Any] = yaml.safe_load(fragment(name, "DOCUMENTATION"))["options"]
    return found


def first_sentence(documented: dict[str, Any]) -> str:
    """Return the first sentence of an option's description."""
    text = documented["description"]
    text = text if isinstance(text, str) else text[0]
    return re.split(r"(?<=\.) (?=[A-Z])", text)[0]


def entries(text: str) -> dict[str, str]:
    """Split YAML text into its top-level entries by name."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        if line[0] not in " \n":
            name = line.split(":")[0]
        found[name] = found.get(name, "") + line
    return found


def entry(name: str, spec: dict[str, Any], description: str, returned: str) -> str:
    """Return the text of one entry of RETURN."""
    kind = {"path": "str"}.get(spec["type"], spec["type"])
    # In RETURN, O() would link to an option of the current module.
    description = re.sub(r"O\(([^)]*\.)?(\w+)\)", r"C(\2)", description)
    lines = [f"  description: {description}"]
    if yaml.safe_load(f"x: {description}") != {"x": description} or len(lines[0]) > WIDTH - 12:
        lines = textwrap.wrap(description, WIDTH - 20)
        lines = ["  description:", f"    - {lines[0]}", *(f"      {line}" for line in lines[1:])]
    lines += [f"  returned: {returned}", f"  type: {kind}"]
    if "elements" in spec:
        lines.append("  elements: " + spec["elements"])
    return "\n".join([f"{name}:", *lines]) + "\n"


def item_result(option: str, returned: str = "when it is not the default") -> dict[str, str]:
    """Return the entries of one NIC or disk, in the order of the part's table."""
    table = {"nics": NIC_SPEC, "disks": DISK_SPEC}[option]
    name, attribute = {
        "nics": ("network", "NIC_RESULT"),
        "disks": ("storage", "DISK_RESULT"),
    }[option]
    own, documented = entries(fragment(name, attribute)), suboptions(option)
    made = {"name": own["name"]}
    for key, spec in table.items():
        made[key] = own.get(key) or entry(key, spec, first_sentence(documented[key]), returned)
    return {**made, **own}


def vm_result(of_guest: bool = False) -> str:
    """Return what qemu_vm returns of a VM. of_guest: with what the guest agent reports."""
    text = "".join(fragment(name, "RESULT") for name in VM_FRAGMENTS)
    for word, option in (("NIC_RESULT", "nics"), ("DISK_RESULT", "disks")):
        items = "".join(item_result(option).values())
        if of_guest and option == "nics":
            items += fragment("network", "NIC_RESULT_OF_GUEST")
        text = text.replace(
            f"  contains: {word}\n", "  contains:\n" + textwrap.indent(items, "    ")
        )
    return text.replace("RV(vm.", "RV(vms[].") if of_guest else text


def foreign(text: str) -> str:
    """Return text for another module than qemu_vm."""
    return re.sub(r"O\((accel)\)", r"O(vlab.qemu.qemu_vm#module:\1)", text)


def replace_contents(text: str, name: str, contents: str) -> str:
    """Return a RETURN whose top-level entry contains the given entries, keeping its others."""
    found = entries(text)
    head, _contains, old = found[name].partition("  contains:\n")
    kept = entries(textwrap.dedent(old))
    made = {**entries(contents), **{key: kept[key] for key in kept if key not in entries(contents)}}
    found[name] = head + "  contains:\n" + textwrap.indent("".join(made.values()), "    ")
    return "".join(found.values())


def replace_entries(text: str, new: str) -> str:
    """Return a RETURN with these top-level entries in place of those of the same names."""
    return "".join({**entries(text), **entries(new)}.values())


def of_qemu_vm(text: str) -> str:
    """Return the RETURN of qemu_vm."""
    text = replace_entries(text, fragment("vm", "CHANGES") + fragment("vm", "FAILURE"))
    return replace_contents(text, "vm", vm_result())


def of_qemu_vm_info(text: str) -> str:
    """Return the RETURN of qemu_vm_info."""
    return replace_contents(text, "vms", vm_result(of_guest=True))


def of_qemu_nic(text: str) -> str:
    """Return the RETURN of qemu_nic."""
    text = replace_entries(text, foreign(fragment("vm", "CHANGES") + fragment("vm", "FAILURE")))
    return replace_contents(text, "nic", "".join(item_result("nics").values()))


def of_qemu_disk(text: str) -> str:
    """Return the RETURN of qemu_disk, whose entry disk also describes an image without a VM."""
    text = replace_entries(text, foreign(fragment("vm", "CHANGES") + fragment("vm", "FAILURE")))
    disk = entries(textwrap.dedent(entries(text)["disk"].partition("  contains:\n")[2]))
    returned = "with O(vm), when it is not the default"
    made = item_result("disks", returned)
    generated = {key: made[key] for key in made if f"returned: {returned}\n" in made[key]}
    # An entry that also describes an image without a VM keeps its text.
    shared = {key: text for key, text in disk.items() if "without O(vm)" in text}
    return replace_contents(text, "disk", "".join({**disk, **generated, **shared}.values()))


def of_clocks(text: str, option: str) -> str:
    """Return a RETURN with the results of clocks. option: the time that is converted."""
    return replace_entries(text, fragment("clock", "RESULT").replace("TIME", option))


def of_qemu_snapshot(text: str) -> str:
    """Return the RETURN of qemu_snapshot."""
    return of_clocks(of_snapshots(text), "stop_at")


def of_qemu_scenario(text: str) -> str:
    """Return the RETURN of qemu_scenario."""
    return of_clocks(text, "start_at")


def of_snapshots(text: str) -> str:
    """Return the RETURN of qemu_snapshot or qemu_snapshot_info."""
    return replace_contents(text, "snapshots", fragment("vm", "SNAPSHOT_RESULT"))


MODULES = {
    "qemu_vm": of_qemu_vm,
    "qemu_vm_info": of_qemu_vm_info,
    "qemu_nic": of_qemu_nic,
    "qemu_disk": of_qemu_disk,
    "qemu_scenario": of_qemu_scenario,
    "qemu_snapshot": of_qemu_snapshot,
    "qemu_snapshot_info": of_snapshots,
}


def changed() -> Iterator[tuple[pathlib.Path, str]]:
    """Yield the modules that are not up to date, with their new text."""
    for name, make in MODULES.items():
        path = ROOT / "plugins/modules" / (name + ".py")
        head, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
        old, end, tail = rest.partition(END)
        new = make(old)
        if old != new:
            yield path, head + begin + new + end + tail


def main(words: list[str]) -> int:
    """Write the modules, or with --check report those that are not up to date."""
    status = 0
    for path, text in changed():
        if "--check" in words:
            print(f"{path.relative_to(ROOT)} is not up to date: run python scripts/return_docs.py")
            status = 1
        else:
            path.write_text(text, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
