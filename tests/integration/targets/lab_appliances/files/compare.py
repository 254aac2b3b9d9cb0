# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare what QEMU reports about VMs with the facts of their appliances: compare.py PART VMS.

PART: as for public_appliances.py. VMS: {name: [pid, path of the monitor]}.
"""

from __future__ import annotations

import json
import re
import sys

# In the same folder as this when it runs.
import ask
import public_appliances

ask.COMMANDS["cpus"] = {"execute": "query-cpus-fast"}
CARD = re.compile(r"(nic\d+): index=\d+,type=nic,model=([^,]+),")


def stated(name):
    """Return what an appliance says, in the words of QEMU."""
    facts = public_appliances.APPLIANCES[name]
    block = facts["qemu"]
    model = {"virtio": "virtio-net-pci"}.get(block["adapter_type"], block["adapter_type"])
    models = dict.fromkeys(range(block["adapters"]), model)
    for own in facts.get("custom_adapters", block.get("custom_adapters", [])):
        if "adapter_type" in own:
            models[own["adapter_number"]] = own["adapter_type"]
    processors = re.search(r"-smp (?:cpus=)?(\d+)", block.get("options", ""))
    images = public_appliances.images(name)
    slots = [slot[:3] for slot in images if slot.startswith("hd")]
    # Where there is no IDE.
    moved = {"ide": "sata"} if "q35" in block.get("options", "") else {}
    buses = [block.get(slot + "_disk_interface", "ide") for slot in slots]
    if not images:
        buses = ["virtio"]  # the empty disk of a VM without any medium
    console = block["console_type"]
    return {
        "state": True,
        "cards": [[f"nic{number}", each] for number, each in sorted(models.items())],
        "processors": int(processors.group(1)) if processors else block.get("cpus", 1),
        "disks": sorted(moved.get(bus, bus) for bus in buses),
        "files": sorted(
            file
            for slot, file in images.items()
            if file in public_appliances.needed(name) and not slot.startswith("hd")
        ),
        "display": console.split("+")[0] if console != "telnet" else "none",
    }


def had(name, reported):
    """Return the same of a running QEMU."""
    words = " ".join(reported["words"])
    cards = sorted(CARD.findall(reported["network"]), key=lambda card: int(card[0][3:]))
    disks = [
        re.sub("pci", "virtio", found.group(1))
        for found, kind in (
            (re.match(r"disk-([a-z]+)\d+$", device["name"]), device["type"])
            for device in reported["peripheral"]
        )
        if found and "-cd" not in kind
    ]
    files = public_appliances.needed(name)
    displays = [kind for kind in ("vnc", "spice") if f"-{kind} " in words]
    return {
        "state": reported["status"]["status"] in ("prelaunch", "paused"),
        "cards": [list(card) for card in cards],
        "processors": len(reported["cpus"]),
        "disks": sorted(disks),
        "files": sorted(file for file in files if f"/images/{file}" in words),
        "display": "".join(displays) or "none",
    }


def main(part, vms):
    """Print the differences; return whether there are some."""
    names = public_appliances.part(list(public_appliances.APPLIANCES), part)
    nodes = public_appliances.startable(names)
    differences = [f"{node} is missing" for node in nodes if node not in vms]
    for node, (pid, monitor) in vms.items():
        name = nodes[node]
        has = had(name, {**ask.ask(monitor), "words": ask.words(pid)})
        differences += [
            f"{name}: {key}: {has[key]}, not {value}"
            for key, value in stated(name).items()
            if has[key] != value
        ]
    print("\n".join(differences))
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], json.loads(sys.argv[2])))
