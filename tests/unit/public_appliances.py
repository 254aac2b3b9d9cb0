# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts that appliances of the public registry of GNS3 state, as files of GNS3.

They are from https://github.com/GNS3/gns3-registry, folder appliances, or, with `repo`, from
https://github.com/GNS3/gns3-server, folder gns3server/appliances, at the commits given.

public_appliances.py FOLDER PART    write files and empty images there, and print a topology of one
                                    of so many parts of the appliances, such as 1/10
"""

from __future__ import annotations

import functools
import json
import pathlib
import re
import shutil
import subprocess
import sys

FACTS = pathlib.Path(__file__).with_suffix(".json")
APPLIANCES = json.loads(FACTS.read_text(encoding="utf-8"))
# What the registry has besides.
_OWN = ("commit", "repo", "extra_args", "reason")


def images(name):
    """Return the images of an appliance by their slots."""
    return APPLIANCES[name].get("images", {})


def needed(name):
    """Return the files that an appliance needs."""
    return {file for file in images(name).values() if not file.startswith("empty")}


def content(name):
    """Return the file of an appliance, as GNS3 reads it."""
    facts = {key: value for key, value in APPLIANCES[name].items() if key not in _OWN}
    data = {"name": name, **facts, "images": []}
    if "images" in facts:
        files = images(name).values()
        data["images"] = [{"filename": file, "md5sum": "0" * 32, "filesize": 1} for file in files]
        data["versions"] = [{"name": "1", "images": images(name)}]
    # One of them has a key twice.
    return json.dumps(data).replace("{", '{"maintainer": "a", "maintainer": "b", ', 1).encode()


def kind(name, file):
    """Return a kind of a topology: an appliance in a file, with the arguments that QEMU takes."""
    own = APPLIANCES[name]
    vm = {"vm": {"extra_args": own["extra_args"]}} if "extra_args" in own else {}
    return {"appliance": file, **vm}


@functools.lru_cache(maxsize=None)
def has_spice():
    """Return whether QEMU has SPICE here, which can be a package of its own."""
    command = ["qemu-system-x86_64", "-machine", "none", "-spice", "help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "no option group" not in result.stderr


def missing(name):
    """Return what an appliance needs and this host does not have, empty if it has all."""
    block = APPLIANCES[name]["qemu"]
    program = "qemu-system-" + block["arch"]
    if block["arch"] not in ("x86_64", "i386") and not shutil.which(program):
        return program
    if block["console_type"].startswith("spice") and not has_spice():
        return "SPICE"
    needs_uefi = block.get("uefi") or "OVMF" in block.get("options", "")
    folders = (pathlib.Path("/etc/qemu/firmware"), pathlib.Path("/usr/share/qemu/firmware"))
    has_uefi = any("OVMF" in path.read_text() for each in folders for path in each.glob("*.json"))
    return "UEFI" if needs_uefi and not has_uefi else ""


def node_names(names):
    """Return appliances by the names of their nodes."""
    # Some appliances differ only in capitals.
    texts = (re.sub("[^A-Za-z0-9]", "-", name) for name in names)
    return {
        "n%d-%s" % (number, text): name for number, (text, name) in enumerate(zip(texts, names))
    }


def startable(names):
    """Return those that this host can start, as node_names()."""
    nodes = node_names(names)
    for name in filter(missing, names):
        print("%s is left out: no %s" % (name, missing(name)), file=sys.stderr)
    return {node: name for node, name in nodes.items() if not missing(name)}


def blank_kernel():
    """Return an empty kernel that QEMU for x86 loads with an initrd."""
    kernel = bytearray(1 << 16)
    kernel[0x1F1] = 4  # sectors of its setup
    kernel[0x202:0x208] = b"HdrS\x0c\x02"  # boot protocol 2.12
    kernel[0x211] = 1  # loaded high
    kernel[0x22C:0x230] = b"\xff\xff\xff\x7f"  # highest address of an initrd
    return bytes(kernel)


def write(folder, names):
    """Write the files of appliances to a folder, and empty images to images in it."""
    (folder / "images").mkdir(exist_ok=True)
    blank = folder / "blank.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", str(blank), "64M"], check=True, timeout=60
    )
    disk = blank.read_bytes()
    for node, name in node_names(names).items():
        (folder / (node + ".gns3a")).write_bytes(content(name))
        for slot, file in images(name).items():
            if file in needed(name):
                empty = blank_kernel() if slot == "kernel_image" else bytes(1 << 16)
                (folder / "images" / file).write_bytes(disk if slot.startswith("hd") else empty)


def topology(folder, names):
    """Return the nodes and the kinds of a topology with those that this host can start."""
    found = startable(names)
    return {
        "nodes": {node: {"kind": node} for node in found},
        "kinds": {
            node: kind(name, str(folder / (node + ".gns3a"))) for node, name in found.items()
        },
    }


def part(names, which):
    """Return one of so many parts of names, such as 1/10."""
    number, count = map(int, which.split("/"))
    return names[number - 1 :: count]


if __name__ == "__main__":
    target, names = pathlib.Path(sys.argv[1]), part(list(APPLIANCES), sys.argv[2])
    write(target, names)
    print(json.dumps(topology(target, names)))
