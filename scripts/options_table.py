# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the table of a VM's options in docs/concepts.md: defaults, and the effect of a change.

    python scripts/options_table.py            write it into docs/concepts.md
    python scripts/options_table.py --check    only report whether it is up to date

The effect comes from the parts: they compare two definitions that differ in one option.
"""

from __future__ import annotations

import copy
import json
import pathlib
import sys
from typing import Any, Optional

ROOT = pathlib.Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / ".collections"))

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import (
    FILE,
    LIVE,
    RESTART,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import disk_options, disks
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.media import media
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import nic_options
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import storage
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS, PARTS

PAGE = ROOT / "docs/concepts.md"
BEGIN, END = "<!-- options: begin -->\n", "<!-- options: end -->\n"

ITEMS = {
    "disks": disk_options.DISK_DEFAULTS,
    "cdroms": media._CDROM_DEFAULTS,
    "floppies": media._FLOPPY_DEFAULTS,
    "nics": nic_options.NIC_DEFAULTS,
}
NO_EFFECT = "none"
WORDS = {LIVE: "live", RESTART: "restart", FILE: NO_EFFECT}
# The default of a new VM where the table of the part has none.
DERIVED = {
    "uuid": "derived from lab and name",
    "arch": "that of the hypervisor",
    "qemu_binary": "`qemu-system-ARCH`",
    "machine": "`pc`, `virt`, ...",
    "cpu": "`host` with KVM, otherwise the default of QEMU",
    "disks": "`disk0`, 8 GiB, if there is no boot source",
    "memory": "256 MiB",
    "disks[].path": "`NAME.FORMAT` in the VM's folder",
    "disks[].format": "detected, otherwise `qcow2`",
    "disks[].backing_format": "detected",
    "disks[].size": "that of the base image",
    "disks[].index": "next free",
    "cdroms[].index": "next free",
    "floppies[].index": "next free",
    "nics[].index": "number in the name, otherwise next free",
    "cdroms[].bus": "`ide`, `sata` or `scsi`, as the machine supports",
    "nics[].mac": "derived from lab, VM and NIC",
    "consoles": "one, on a UNIX socket",
    "vga": "`none`, with a display `std`",
}


def definition() -> dict[str, Any]:
    """Return a new definition with one item of each list."""
    made = {name: copy.deepcopy(option.default) for name, option in OPTIONS.items()}
    for option, defaults in ITEMS.items():
        made[option] = [dict(copy.deepcopy(defaults), name="x")]
    made["disks"][0]["format"] = "qcow2"
    made.update(
        family="i440fx",
        ports={},
        bases={},
        slots={
            "disks/x": {"kind": "pci", "index": 0},
            "cdroms/x": {"kind": "ide", "index": 0},
            "floppies/x": {"kind": "floppy", "index": 0},
            "nics/x": {"kind": "nic", "index": 0},
        },
    )
    return made


def change(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return in one word how the only difference of two definitions reaches a running VM."""
    changes = [found for part in PARTS for found in part.compare(before, after)]
    assert len(changes) == 1, changes
    # A live change without an action concerns the next start, or existing files.
    if changes[0].how == LIVE and changes[0].verb == "none":
        return NO_EFFECT
    return WORDS[changes[0].how]


def of_option(name: str) -> str:
    """Return how a change of an option without named items reaches a running VM."""
    before = definition()
    drive = {"kind": name, "label": "another", "format": "iso", "bus": "virtio", "files": {}}
    drive["nic"] = "another"
    has_files = name in ("cloud_init", "config_drive", "tftp_files")
    return change(before, dict(before, **{name: drive if has_files else ["another"]}))


def of_controller(name: str) -> str:
    """Return how another controller reaches a running VM that has a drive on it."""
    before = definition()
    before["slots"]["disks/x"] = {"kind": "scsi", "index": 0}
    return change(before, {**before, name: "another"})


def of_suboption(option: str, key: str, old: Any = None, new: Any = "another") -> Optional[str]:
    """Return how a change of a suboption reaches a running VM; None if it is not possible."""
    before = definition()
    if old is not None:
        before[option][0][key] = old
    after = copy.deepcopy(before)
    after[option][0][key] = new
    if option == "disks":
        try:
            storage._check_unchanged("x", before["disks"][0], after["disks"][0], False)
        except OptionError:
            return None
    return change(before, after)


def of_presence(option: str, slot: dict[str, Any], **item: Any) -> tuple[str, str]:
    """Return how an item is added to a running VM and how it is removed."""
    one = definition()
    two = copy.deepcopy(one)
    two[option].append(dict(two[option][0], name="y", **item))
    two["slots"][option + "/y"] = slot
    return change(one, two), change(two, one)


def _json(value: Any) -> str:
    return "`%s`" % (value if isinstance(value, str) else json.dumps(value))


def _default(name: str, value: Any) -> str:
    return DERIVED.get(name) or ("" if value in (None, "") else _json(value))


def rows() -> list[tuple[str, str, str]]:
    """Return the rows of the table: (option, default, effect)."""
    made = []
    for name, option in OPTIONS.items():
        if name in ITEMS:
            made += _rows_of_items(name)
        else:
            how = of_option(name)
            if name == "config_drive":
                how += "; `update: next_start` defers it to the next start"
            if name == "tftp_files":
                how += "; changed files at the next start"
            if name == "scsi_controller":
                how += "; with a drive on scsi: %s" % of_controller(name)
            made.append(("`%s`" % name, _default(name, option.default), how))
    return made


def _rows_of_items(option: str) -> list[tuple[str, str, str]]:
    made = [("`%s`: add, remove" % option, _default(option, None), _presence(option))]
    for key, default in ITEMS[option].items():
        name = "%s[].%s" % (option, key)
        made.append(("`%s`" % name, _default(name, default), _effect(option, key)))
    return made


def _presence(option: str) -> str:
    if option == "disks":
        lives = [
            bus
            for bus in disk_options.BUSES
            if of_presence("disks", {"kind": disks.slot_kind(bus, "i440fx"), "index": 1}, bus=bus)[
                1
            ]
            == WORDS[LIVE]
        ]
        return "live on %s if a slot is free; otherwise restart" % ", ".join(lives)
    slot = {
        "nics": {"kind": "nic", "index": 1},
        "cdroms": {"kind": "ide", "index": 1},
        "floppies": {"kind": "floppy", "index": 1},
    }[option]
    come, go = of_presence(option, slot)
    assert come == go
    return "live if a slot is free; otherwise restart" if come == WORDS[LIVE] else come


def _effect(option: str, key: str) -> str:
    if (option, key) == ("disks", "size"):
        assert of_suboption(option, key, 2 << 30, 1 << 30) is None
        return "%s, growing only" % of_suboption(option, key, 1 << 30, 2 << 30)
    if (option, key) == ("disks", "limits"):
        return "%s; adding the first or removing the last limit: %s" % (
            of_suboption(option, key, {"iops_total": 2}, {"iops_total": 1}),
            of_suboption(option, key, {}, {"iops_total": 1}),
        )
    if (option, key) == ("disks", "backing_file"):
        assert of_suboption(option, key) is None
        return "%s, only to the new path of a moved base image" % of_suboption(
            option, key, "/a", "/b"
        )
    if (option, key) == ("nics", "link"):
        return "%s; with vhost or several queues: %s" % (
            of_suboption(option, key, None, {"type": "user"}),
            of_suboption(option, key, None, {"type": "tap", "vhost": True}),
        )
    return of_suboption(option, key) or "never"


def table() -> str:
    """Return the table in Markdown."""
    lines = ["| option | default of a new VM | effect on a running VM |", "|---|---|---|"]
    return "\n".join(lines + ["| %s | %s | %s |" % row for row in rows()]) + "\n"


def main(words: list[str]) -> int:
    """Write the table, or with --check report whether it is up to date."""
    head, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    old, end, tail = rest.partition(END)
    new = "\n" + table() + "\n"
    if old == new:
        return 0
    if "--check" in words:
        print("%s is not up to date: run python scripts/options_table.py" % PAGE.relative_to(ROOT))
        return 1
    PAGE.write_text(head + begin + new + end + tail, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
