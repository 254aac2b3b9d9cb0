# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter lab_picture: its input, and its errors."""

from __future__ import annotations

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.vlab.qemu.plugins.filter.lab_picture import DOCUMENTATION, lab_picture

LAB = {"name": "lab", "nodes": {"r1": {"kind": "frr"}}}


@pytest.mark.parametrize(
    "format, start", [("svg", "<svg "), ("mermaid", "---\n"), ("html", "<!DOCTYPE html>")]
)
def test_formats(format, start, tmp_path):
    (tmp_path / "lab.yml").write_text(yaml.safe_dump(LAB), encoding="utf-8")
    text = lab_picture(LAB, format)
    assert text.startswith(start) and text.endswith("\n") and "r1" in text
    assert lab_picture(str(tmp_path / "lab.yml"), format) == text


def test_the_default_is_svg():
    options = yaml.safe_load(DOCUMENTATION)["options"]
    assert lab_picture(LAB) == lab_picture(LAB, "svg") and options["format"]["default"] == "svg"


@pytest.mark.parametrize(
    "given, message",
    [
        ((LAB, "png"), "there is no format 'png'; the formats are svg, mermaid, html"),
        (
            ("/nowhere/lab.yml",),
            "cannot read the topology /nowhere/lab.yml: No such file or directory",
        ),
        ((["r1"],), "must be a mapping"),
        (({"name": "lab", "nodes": {"r1": {}}, "links": ["r1 -- r9"]},), "there is no node r9"),
        ((LAB, "svg", {"r1": "running"}), "vms must be a list"),
        ((LAB, "svg", "r1"), "vms must be a list"),
        ((LAB, "svg", None, ["hv1"]), "placement must be a dictionary"),
        ((LAB, "svg", None, None, ["x"]), "consoles must be a dictionary"),
        ((LAB, "svg", None, None, None, "pink"), "the schemes are auto, light, dark"),
    ],
)
def test_mistakes_are_reported(given, message):
    with pytest.raises(AnsibleFilterError, match="lab_picture: ") as caught:
        lab_picture(*given)
    assert message in str(caught.value) and "Errno" not in str(caught.value)


@pytest.mark.parametrize("content", ["a: [", b"\xff\xfe\x00"])
def test_a_file_that_is_not_yaml(content, tmp_path):
    path = tmp_path / "lab.yml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AnsibleFilterError, match="is not YAML") as caught:
        lab_picture(str(path))
    assert "codec" not in str(caught.value)
