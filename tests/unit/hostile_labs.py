# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make hostile and damaged files from the labs of the tests: each number is one file."""

from __future__ import annotations

import copy
import io
import json
import random
import re
import xml.etree.ElementTree
import zipfile

import yaml
from ansible_collections.vlab.qemu.tests.unit.imported_labs import LAB_FILES

SEED = 20261129
# What takes the place of a value. SECRET is replaced by the path of a file that no lab may read.
SECRET = "@secret@"
_DEEP: list = []
for _level in range(80):
    _DEEP = [_DEEP]
VALUES = [
    None,
    True,
    0,
    -1,
    1.5,
    10**25,
    float("nan"),
    float("inf"),
    "",
    " ",
    [],
    {},
    [[]],
    {"a": None},
    _DEEP,
    "9" * 400,
    "a" * 5000,
    "0x7fffffffffffffff",
    "{{ lookup('pipe', 'id') }}",
    "{% raw %}",
    "{# #}",
    "${HOME}",
    "$HOME",
    "../../../etc/passwd",
    "/etc/shadow",
    "..",
    "a/../../b",
    "C:\\windows",
    "name\nwith: lines",
    "\u202etxt",
    "\u2028",
    "caf\u00e9",
    "-drive file=/etc/passwd",
    "-object x,file=/etc/passwd -chardev pipe,path=/x",
    "%s%n",
    SECRET,
    "link",
]
_BOMBS = {
    ".yaml": b"a0: &a0 [x]\n"
    + b"".join(
        b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 9)
    ),
    ".xml": b'<?xml version="1.0"?>\n<!DOCTYPE lab [<!ENTITY a "xxxxxxxxxx">'
    + b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%s;" % (b"%d" % (n - 1)) * 10) for n in range(1, 9))
    + b"]>\n",
}


def hostile_file(number):
    """Return the name and content of a file. number: of the case."""
    chance = random.Random(SEED * 100000 + number)
    name = chance.choice(sorted(LAB_FILES))
    content = LAB_FILES[name].read_bytes()
    if chance.random() < 0.75:
        content = _structure(LAB_FILES[name].suffix, content, chance)
    if chance.random() < 0.4:
        content = _damaged(LAB_FILES[name].suffix, content, chance)
    if name.endswith(".gns3") and chance.random() < 0.4:
        return name + "project", _archive(content, chance)
    return name, content or b"x"


# --- The structure of files ---


def _structure(suffix, content, chance):
    count = chance.randint(1, 4)
    if suffix in (".xml", ".unl"):
        root = xml.etree.ElementTree.fromstring(content)
        for _change in range(count):
            _change_xml(root, chance)
        return xml.etree.ElementTree.tostring(root)
    if suffix == ".conf":
        lines = content.decode().splitlines()
        for _change in range(count):
            _change_lines(lines, chance)
        return "\n".join(lines).encode()
    data = yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    for _change in range(count):
        _change_data(data, chance)
    if suffix in (".gns3", ".json"):
        return json.dumps(data, default=str).encode()
    return yaml.safe_dump(data, allow_unicode=True, sort_keys=False).encode()


def _parts(data):
    """Yield (container, key) of all values."""
    waiting, seen = [data], 0
    while waiting and seen < 20000:
        part = waiting.pop()
        items = part.items() if isinstance(part, dict) else enumerate(part)
        for key, value in list(items):
            seen += 1
            yield part, key
            if isinstance(value, (dict, list)):
                waiting.append(value)


def _change_data(data, chance):
    places = list(_parts(data))
    container, key = chance.choice(places)
    other, other_key = chance.choice(places)
    choice = chance.randrange(7)
    try:
        value = other[other_key]
    except (KeyError, IndexError, TypeError):
        value = None
    if choice in (0, 1):
        container[key] = copy.deepcopy(chance.choice(VALUES))
    elif choice == 2:
        container[key] = copy.deepcopy(value)
    elif choice == 3:
        del container[key]
    elif choice == 4 and isinstance(container, list):
        # The same ID twice.
        container.append(copy.deepcopy(container[key]))
    elif choice == 5 and isinstance(container, dict):
        container[str(chance.choice(VALUES))] = container.pop(key)
    else:
        container[key], other[other_key] = copy.deepcopy(value), copy.deepcopy(container[key])


def _change_xml(root, chance):
    parents = {child: parent for parent in root.iter() for child in parent}
    element = chance.choice([*parents, root])
    text = re.sub(r"[\x00-\x08]", "", str(chance.choice(VALUES)))
    choice = chance.randrange(7)
    if choice in (0, 1) and element.attrib:
        element.set(chance.choice(sorted(element.attrib)), text)
    elif choice == 2:
        element.text = text
    elif choice == 3 and element in parents:
        parents[element].remove(element)
    elif choice == 4 and element in parents:
        parents[element].append(copy.deepcopy(element))
    elif choice == 5:
        element.append(copy.deepcopy(chance.choice(list(parents))))
    else:
        element.tag = chance.choice(["node", "interface", "name", "disk", "x:y", "lab", "domain"])


def _change_lines(lines, chance):
    number = chance.randrange(len(lines))
    choice = chance.randrange(5)
    text = str(chance.choice(VALUES))
    if choice == 0:
        lines[number] = lines[number].partition(":")[0] + ": " + text
    elif choice == 1:
        lines.insert(number, lines[chance.randrange(len(lines))])
    elif choice == 2:
        lines[number] = re.sub(r"[\w./-]+", lambda match: text, lines[number], count=1)
    elif choice == 3:
        lines[number] = lines[number].replace("=", "=" + text.replace("\n", " "), 1)
    else:
        del lines[number]
        lines.append("net9: virtio")


# --- Bytes ---


def _damaged(suffix, content, chance):
    start = chance.randrange(max(len(content), 1))
    choice = chance.randrange(8)
    if choice == 0:
        return content[:start]
    if choice == 1:
        return content[:start] + chance.randbytes(20) + content[start:]
    if choice == 2:
        return content.decode("utf-8", "replace").encode(chance.choice(["utf-16", "utf-32"]))
    if choice == 3:
        return "caf\u00e9 ".encode("latin-1") + content
    if choice == 4:
        return b"\xef\xbb\xbf" + content
    if choice == 5:
        return _BOMBS[".xml" if suffix in (".xml", ".unl") else ".yaml"] + content
    if choice == 6:
        return content[: start + 200] + content[start:]
    return re.sub(rb"\w+", chance.choice([b"*x", b"&x", b"!!python/object:os", b"<<"]), content, 1)


# --- Archives ---


def _archive(content, chance):
    stream = io.BytesIO()
    names = [
        "../evil",
        "/evil",
        "C:\\evil",
        "images/QEMU/a.qcow2",
        "project-files/qemu/1/hda.qcow2",
    ]
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(chance.choice(["project.gns3", "project.gns3", "a/project.gns3"]), content)
        if chance.random() < 0.5:
            archive.writestr(chance.choice(names), b"\0" * (1 << 20))
        if chance.random() < 0.1:
            link = zipfile.ZipInfo("images/link")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
        if chance.random() < 0.1:
            archive.writestr("second.gns3", b" " * (40 << 20))
    data = bytearray(stream.getvalue())
    for _byte in range(chance.choice([0, 0, 1, 5])):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data[: chance.choice([len(data), len(data), chance.randrange(len(data))])])
