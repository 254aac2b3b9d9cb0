# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter import_lab: its input, the files beside it, and its errors."""

from __future__ import annotations

import json
import os

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.vlab.qemu.plugins.filter.import_lab import DOCUMENTATION, import_lab
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.formats import AUTO, FORMATS

LAB = """
name: pair
topology:
  nodes:
    r1: {kind: cisco_vios, startup-config: %s}
    r2: {kind: cisco_vios}
  links: [{endpoints: [r1:eth1, r2:eth1]}]
"""


def test_a_text():
    lab = import_lab(LAB % "''")
    assert lab["name"] == "pair" and lab["report"]["format"] == "containerlab"
    assert sorted(lab["output_files"]) == [
        "pair.images.yml",
        "pair.report.json",
        "pair.report.txt",
        "pair.yml",
    ]
    assert yaml.safe_load(lab["output_files"]["pair.yml"]) == lab["topology"]
    assert yaml.safe_load(lab["output_files"]["pair.images.yml"])["lab_images"] == lab["images"]
    assert json.loads(lab["output_files"]["pair.report.json"]) == lab["report"]
    assert lab["output_files"]["pair.report.txt"] == lab["report_text"]


def test_a_file_and_its_configurations(tmp_path):
    (tmp_path / "lab.yml").write_text(LAB % "configs/r1.cfg")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/r1.cfg").write_text("hostname {{ r1 }}\n")
    lab = import_lab(str(tmp_path / "lab.yml"), name="other")
    assert lab["output_files"]["other/r1/ios_config.txt"] == "hostname {{ r1 }}\n"
    assert lab["topology"]["nodes"]["r1"]["config"] == {"src": "other/r1/ios_config.txt"}


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "link", "configs/../../secret"])
def test_files_elsewhere_are_refused(path, tmp_path):
    folder = tmp_path / "lab"
    (folder / "configs").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret\n")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "lab.yml").write_text(LAB % path)
    with pytest.raises(AnsibleFilterError, match="is outside of the folder of the lab") as caught:
        import_lab(str(folder / "lab.yml"))
    assert "%s/lab.yml: topology.nodes.r1.startup-config: " % folder in str(caught.value)


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "lab.yml").write_text(LAB % "fifo")
    assert "config" not in import_lab(str(tmp_path / "lab.yml"))["topology"]["nodes"]["r1"]
    with pytest.raises(AnsibleFilterError, match="/dev/null: it is not a regular file"):
        import_lab("/dev/null")


@pytest.mark.parametrize(
    "given, message",
    [
        (("/nowhere/lab.yml",), "/nowhere/lab.yml: it cannot be read: No such file or directory"),
        (("",), "give the path of a file, or its text"),
        (([],), "give the path of a file, or its text, or a list of them"),
        (
            ([LAB % "x"] * 2,),
            "cannot import the text: a lab of the format containerlab is",
        ),
        ((3,), "give the path of a file, or its text"),
        ((LAB, "png"), "there is no format 'png'; the formats are auto, containerlab"),
        ((LAB, "auto", "", ["tiny"]), "kinds_map must be a dictionary of texts"),
        ((LAB, "auto", "", {"linux": 3}), "kinds_map must be a dictionary of texts"),
        (("a: [\n",), "cannot import the text: it is not YAML: "),
    ],
)
def test_mistakes_are_reported(given, message):
    with pytest.raises(AnsibleFilterError, match="import_lab: ") as caught:
        import_lab(*given)
    assert message in str(caught.value) and "Errno" not in str(caught.value)


def test_the_documentation_lists_the_formats():
    options = yaml.safe_load(DOCUMENTATION)["options"]
    assert options["format"]["choices"] == [AUTO, *FORMATS]
