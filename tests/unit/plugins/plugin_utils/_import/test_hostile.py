# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hostile and damaged files: a clear refusal or an import, and nothing else."""

from __future__ import annotations

import random
import re

import pytest
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.formats import Source, import_lab
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Options
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.tests.unit.imported_labs import FILES, KINDS_MAP

_SEED = 20261129
_CASES = 300
_HOSTILE = [
    b"../../../etc/passwd",
    b"/etc/shadow",
    b"{{ lookup('pipe', 'id') }}",
    b"{% raw %}",
    b"9" * 400,
    b"-1",
    b"null",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b"\x00",
    b"a" * 5000,
    b"*alias",
    b"&anchor",
    b"!!python/object:os.system",
    b"${HOME}",
    b"\xe2\x80\xa8",
    b"<!ENTITY x 'y'>",
    b"0x7fffffffffffffff",
    b"1e999",
    b".nan",
]
LABS = sorted(path.name for path in FILES.iterdir() if path.suffix != ".license")


def mutated(content, random_numbers):
    """Return a content with a few damages."""
    content = bytearray(content)
    for _count in range(random_numbers.randint(1, 3)):
        start = random_numbers.randrange(len(content))
        end = min(len(content), start + random_numbers.randint(0, 30))
        words = [match.span() for match in re.finditer(rb"[\w./:-]+", content)]
        choice = random_numbers.randrange(6)
        if choice == 0:
            content[start:end] = b""
        elif choice == 1:
            content[start:start] = random_numbers.choice(_HOSTILE)
        elif choice in (2, 3) and words:
            first, last = random_numbers.choice(words)
            content[first:last] = random_numbers.choice(_HOSTILE)
        elif choice == 4 and words:
            first, last = random_numbers.choice(words)
            other = random_numbers.choice(words)
            content[first:last] = content[other[0] : other[1]]
        else:
            content[start:end] = content[start:end] * 2
    return bytes(content) or b"x"


def check_harmless(lab):
    """Check that a lab has no path and no template that leads elsewhere."""
    for path in lab.files:
        assert not path.startswith("/") and ".." not in path.split("/")
    text = lab.topology_yaml() + lab.images_yaml()
    assert not re.search(r"\{[{%#]", text)
    for node in lab.topology["nodes"].values():
        contents = [*node.get("files", {}).values(), *filter(None, [node.get("config")])]
        assert all(set(each) == {"src"} and each["src"] in lab.files for each in contents)
        assert not node.get("extra_args") and not node.get("passthrough")
        # Whatever a VM reads is in the folder of images, or listed in the report.
        listed = {image.get("disk") for image in lab.report["images"].values()}
        for disk in node.get("disks", []):
            path = disk.get("backing_file")
            assert path is None or path.startswith("/srv/images/") or path in listed


@pytest.mark.parametrize("part", range(10))
def test_damaged_files(part):
    random_numbers = random.Random(_SEED + part)
    results = {"imported": 0, "refused": 0}
    for _case in range(_CASES // 10):
        name = random_numbers.choice(LABS)
        content = mutated((FILES / name).read_bytes(), random_numbers)
        try:
            lab = import_lab([Source(name, content)], Options(kinds_map=KINDS_MAP))
        except LabFileError as error:
            results["refused"] += 1
            assert "cannot import %s: " % name in str(error) and len(str(error)) < 20000
        else:
            results["imported"] += 1
            check_harmless(lab)
    assert min(results.values()) > 0, results


BOMB = "a0: &a0 [x]\n" + "".join(
    "a%d: &a%d [%s]\n" % (n, n, ", ".join(["*a%d" % (n - 1)] * 10)) for n in range(1, 12)
)
CLAB = "name: x\ntopology:\n  nodes: {a: {kind: cisco_vios}}\n"


@pytest.mark.parametrize(
    "text, message",
    [
        (BOMB + CLAB, "it has more than 500000 values"),
        ("a: &a\n  b: *a\n" + CLAB, "nested more than 60 levels deep"),
        ("a: " + "[" * 200 + "]" * 200 + "\n" + CLAB, "levels deep"),
        ("a: " + "[" * 100000, "it is not YAML: "),
        (CLAB + "name: y\n", "found duplicate key name"),
        (CLAB + "1: a\n'1': b\n", "found duplicate key '1'"),
        (CLAB + "a: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
        (CLAB + "a: .inf\n", "a: found inf, which is no number"),
        (CLAB + "a: !!set {b}\n", "a value of type set is not supported"),
        (CLAB + 'a: "\\0"\n', "a: '\\x00' has control characters"),
        (CLAB + "a: %s\n" % ("9" * 10000), "it is not YAML: found a number of 10000 digits"),
        ("x", "its format is not recognised"),
        ("", "its format is not recognised"),
        ("{{ range .nodes }}\nname: x\n", "it is not YAML"),
    ],
)
def test_hostile_texts_are_refused(text, message):
    with pytest.raises(LabFileError) as caught:
        import_lab([Source("lab", text.encode())], Options())
    assert message in str(caught.value)


def test_a_huge_file_is_refused():
    with pytest.raises(LabFileError, match="it has 100 MiB; the maximum is 32 MiB"):
        import_lab([Source("lab", b" " * (100 << 20))], Options())


def test_bytes_that_are_no_text():
    with pytest.raises(LabFileError, match="it is not UTF-8 text: invalid start byte at byte 0"):
        import_lab([Source("lab", b"\xff\xfe")], Options())


def test_templates_stay_text():
    text = CLAB + "  x: [\"{{ lookup('pipe', 'id') }}\", '{% if %}', '{# #}', '{{{', '{ok}']\n"
    lab = import_lab([Source("lab", text.encode())], Options())
    assert lab.topology["vars"]["imported"]["x"] == [
        "{ { lookup('pipe', 'id') }}",
        "{ % if %}",
        "{ # #}",
        "{ { {",
        "{ok}",
    ]
    assert sum("stays text" in warning for warning in lab.report["warnings"]) == 4
