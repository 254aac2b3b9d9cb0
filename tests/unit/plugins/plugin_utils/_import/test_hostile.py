# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hostile and damaged files: a clear refusal or an import, and nothing else."""

from __future__ import annotations

import io
import os
import re
import time

import pytest
import yaml
from ansible_collections.vlab.qemu.plugins.filter.import_lab import _attachment
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.formats import Source, import_lab
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Options
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.tests.unit.hostile_labs import SECRET, hostile_file
from ansible_collections.vlab.qemu.tests.unit.imported_labs import KINDS_MAP, OPTIONS

# make test-nightly imports more.
CASES = int(os.environ.get("VLAB_HOSTILE_IMPORTS") or 400)
PARTS = 20
MAX_SECONDS = 5


def check_harmless(lab):
    """Check that a lab has no path and no template that leads elsewhere."""
    for path in lab.files:
        assert path.startswith(lab.topology["name"] + "/")
        assert ".." not in path.split("/") and "\0" not in path and "\n" not in path
    topology_text = lab.topology_yaml()
    assert not re.search(r"\{[{%#]", topology_text + lab.images_yaml())
    assert yaml.safe_load(topology_text) == lab.topology
    for node in lab.topology["nodes"].values():
        contents = [*node.get("files", {}).values(), *filter(None, [node.get("config")])]
        assert all(set(each) == {"src"} and each["src"] in lab.files for each in contents)
        assert not node.get("extra_args") and not node.get("passthrough")
        # Whatever a VM reads is in the folder of images, or listed in the report.
        listed = {image.get("disk") for image in lab.report["images"].values()}
        for disk in node.get("disks", []):
            path = disk.get("backing_file")
            assert path is None or path.startswith("/srv/images/") or path in listed


@pytest.fixture
def folder(tmp_path):
    """A folder of a lab, with a link to a file outside of it."""
    (tmp_path / "secret").write_text("do not read")
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "link").symlink_to("../secret")
    (lab / "own.cfg").write_text("hostname own")
    return lab


@pytest.mark.parametrize("part", range(PARTS))
def test_hostile_files(part, folder, record_property):
    results = {"imported": 0, "refused": 0}
    slowest = 0.0
    for number in range(part, CASES, PARTS):
        name, content = hostile_file(number)
        content = content.replace(SECRET.encode(), str(folder.parent / "secret").encode())
        kinds_map = OPTIONS.get(name, {}).get("kinds_map", KINDS_MAP)
        options = Options(
            kinds_map=kinds_map,
            attachment=lambda path: _attachment("lab", str(folder), path),
        )
        is_archive = content.startswith(b"PK") and name.endswith("project")
        source = Source(name, content, io.BytesIO(content) if is_archive else None)
        start = time.process_time()
        try:
            lab = import_lab([source], options)
        except LabFileError as error:
            results["refused"] += 1
            assert "cannot import %s: " % name in str(error) and len(str(error)) < 20000, number
        except Exception as error:
            raise AssertionError("case %d, %s" % (number, name)) from error
        else:
            results["imported"] += 1
            check_harmless(lab)
            assert "do not read" not in "".join(lab.files.values()), number
        seconds = time.process_time() - start
        assert seconds < MAX_SECONDS, number
        slowest = max(slowest, seconds)
    record_property("results", "%(imported)d imported, %(refused)d refused" % results)
    record_property("slowest", "%.2f s" % slowest)
    assert min(results.values()) > 0, results
    assert sorted(path.name for path in folder.iterdir()) == ["link", "own.cfg"]


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
        ("a: &a [*a, *a, {b: *a}]\n" + CLAB, "nested more than 60 levels deep"),
        (CLAB + "a: .inf\n", "a: found inf, which is no number"),
        (CLAB + "a: [1, {b.c: [x, .inf]}]\n", "a[1].b.c[1]: found inf, which is no number"),
        (CLAB + "a: [1, {b: {2: x, '': y}}]\n", "a[1].b: it has an empty key"),
        (CLAB + "a: !!binary YQ==\n", "a value of type bytes is not supported"),
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
