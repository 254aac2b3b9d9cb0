# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The molecule scenario: its topologies are valid, and each job has a lab of its own."""

from __future__ import annotations

import re

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder
from ansible_collections.vlab.qemu.tests.unit import documents

SCENARIO = documents.ROOT / "extensions/molecule/default"
INVENTORY = SCENARIO / "inventory/hosts.yml"
try:
    from ansible.template import trust_as_template
except ImportError:  # before ansible-core 2.19
    trust_as_template = str


def _variables():
    return yaml.safe_load(INVENTORY.read_text(encoding="utf-8"))["all"]["vars"]


def _lab(monkeypatch, **environment):
    """Return the name of the lab for environment variables."""
    for name in ("MOLECULE_EPHEMERAL_DIRECTORY", "VLAB_MOLECULE_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Templar(DataLoader()).template(trust_as_template(_variables()["vlab_lab"]))


def _topologies():
    """Return the topology of the scenario and those of the page."""
    page = (documents.ROOT / "docs/molecule.md").read_text(encoding="utf-8")
    blocks = [
        yaml.safe_load(block)
        for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
        if "molecule_topology" in block
    ]
    return [found["molecule_topology"] for found in [_variables(), *blocks]]


@pytest.mark.parametrize("topology", _topologies(), ids=lambda given: ",".join(given["nodes"]))
def test_a_topology_is_valid(topology):
    built = builder.build(dict(topology, name="molecule-0123456789ab"))
    assert list(built.nodes) == list(topology["nodes"])


def test_jobs_have_different_labs(monkeypatch):
    jobs = [
        {"MOLECULE_EPHEMERAL_DIRECTORY": "/home/a/molecule.abcd.default"},
        {"MOLECULE_EPHEMERAL_DIRECTORY": "/home/a/molecule.efgh.default"},
        {"MOLECULE_EPHEMERAL_DIRECTORY": "/home/a/molecule.efgh.default", "VLAB_MOLECULE_ID": "7"},
    ]
    labs = [_lab(monkeypatch, **job) for job in jobs]
    assert len(set(labs)) == 3
    assert all(re.fullmatch("molecule-[0-9a-f]{12}", lab) for lab in labs)
    assert _lab(monkeypatch, **jobs[0]) == labs[0], "destroy finds the lab that create has made"


@pytest.mark.parametrize("name", ["create", "destroy"])
def test_a_playbook_uses_variables_of_the_role(name):
    plays = yaml.safe_load((SCENARIO / ("%s.yml" % name)).read_text(encoding="utf-8"))
    (role,) = plays[0]["roles"]
    specs = documents.ROOT / "roles/lab/meta/argument_specs.yml"
    options = yaml.safe_load(specs.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    assert set(role) - {"role"} <= set(options)
