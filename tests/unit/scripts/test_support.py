# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The supported versions of ansible-core are the same everywhere."""

from __future__ import annotations

import re

import yaml
from ansible_collections.vlab.qemu.tests.unit import documents

ROOT = documents.ROOT


def _text(path):
    return (ROOT / path).read_text(encoding="utf-8")


VERSIONS = re.findall(r"^\| (2\.\d+) \|", _text("docs/support.md"), re.MULTILINE)


def test_the_lowest_version():
    lowest = VERSIONS[0]
    assert yaml.safe_load(_text("meta/runtime.yml"))["requires_ansible"] == ">=%s.0" % lowest
    for path in ROOT.glob("roles/*/meta/main.yml"):
        info = yaml.safe_load(path.read_text(encoding="utf-8"))["galaxy_info"]
        assert info["min_ansible_version"] == lowest, path
    assert set(re.findall(r'^min_version = "(.*)"', _text("antsibull-nox.toml"), re.M)) == {lowest}
    assert "ansible-core %s or newer" % lowest in _text("README.md")


def test_versions_of_the_tests():
    tested = re.findall(r"^\| (2\.\d+) .* in each run \|$", _text("docs/support.md"), re.MULTILINE)
    assert 'for version in ("%s")' % '", "'.join(tested) in _text("scripts/check_steps.py")


def test_the_execution_environment_has_no_upper_limit():
    environment = yaml.safe_load(_text("playbooks/files/awx_execution_environment.yml"))
    core = environment["dependencies"]["ansible_core"]["package_pip"]
    assert core == "ansible-core>=%s" % VERSIONS[0]
