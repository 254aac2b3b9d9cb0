# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which targets a test run leaves out, and which files static checks check."""

from __future__ import annotations

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
# The collection is built without scripts.
pytestmark = pytest.mark.skipif(not (ROOT / "scripts").is_dir(), reason="scripts are not here")
sys.path.insert(0, str(ROOT / "scripts"))
changes = pytest.importorskip("changes")
test_plan = pytest.importorskip("test_plan")


def test_without_git_nothing_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert changes.changed_files.__wrapped__() == ()
    assert changes.unchanged_targets() == []
    assert changes.changed_only((".py",), ("plugins/",)) == []


@pytest.mark.parametrize(
    "changed, runs",
    [
        ([], []),
        (["plugins/modules/qemu_vm.py", "roles/lab/tasks/up.yml"], []),
        (["roles/ring/tasks/main.yml"], ["role_ring"]),
        (["roles/leaf_spine/vars/main.yml"], ["fabric_across", "role_leaf_spine"]),
        (["tests/integration/targets/role_hub_spoke/tasks/main.yml"], ["role_hub_spoke"]),
    ],
)
def test_a_target_runs_if_its_files_have_changed(monkeypatch, changed, runs):
    monkeypatch.setattr(changes, "git", lambda *_words: ["a commit"])
    monkeypatch.setattr(changes, "changed_files", lambda: changed)
    left_out = changes.unchanged_targets()
    assert [target for target in changes.TARGET_FILES if target not in left_out] == runs


@pytest.mark.parametrize(
    "changed, checked",
    [
        ([], ["none"]),
        (["docs/faq.md", "plugins/modules/gone.py"], ["none"]),
        (["plugins/modules/qemu_vm.py", "README.md"], ["plugins/modules/qemu_vm.py"]),
        # With other settings, all files.
        (["plugins/modules/qemu_vm.py", "tests/sanity/ignore-2.21.txt"], []),
        (["requirements-dev.txt"], []),
        (["scripts/core_leg.py"], []),
    ],
)
def test_a_static_check_of_changed_files(monkeypatch, changed, checked):
    monkeypatch.setattr(changes, "git", lambda *_words: ["a commit"])
    monkeypatch.setattr(changes, "changed_files", lambda: changed)
    assert changes.changed_only((".py",), ("plugins/",), "tests/sanity/") == checked


def test_steps_of_static_checks(monkeypatch):
    monkeypatch.setattr(changes, "git", lambda *_words: ["a commit"])
    monkeypatch.setattr(changes, "changed_files", lambda: ["roles/lab/tasks/up.yml"])
    commands = {step.name: step.command for step in test_plan.plan(["changed-lint"])}
    assert commands["ansible-lint"][-1] == "roles/lab/tasks/up.yml"
    assert test_plan.plan(["changed-core"])[0].command[-1] == "none"
    assert test_plan.plan(["changed-sanity"])[0].command[2:5] == ["--pylint", "none", "--"]
    monkeypatch.setattr(changes, "changed_files", lambda: [])
    assert "ansible-lint" not in [step.name for step in test_plan.plan(["changed-lint"])]
    # All files otherwise.
    commands = {step.name: step.command for step in test_plan.plan(["lint", "core", "sanity"])}
    assert "--pylint" not in commands["sanity"]
    assert commands["ansible-lint"][-1] == "--nocolor"
    assert "newest" in commands["core/newest"][-1]


def test_targets_that_can_be_left_out_exist():
    missing = [name for name in changes.TARGET_FILES if not (test_plan.TARGETS / name).is_dir()]
    prefixes = [prefix for names in changes.TARGET_FILES.values() for prefix in names]
    assert missing == []
    assert [prefix for prefix in prefixes if not (ROOT / prefix).exists()] == []


def test_pylint_checks_what_imports_a_changed_file(monkeypatch):
    name = "plugins/module_utils/_console/login.py"
    monkeypatch.setattr(changes, "git", lambda *_words: ["a commit"])
    monkeypatch.setattr(changes, "changed_files", lambda: [name])
    command = test_plan.plan(["changed-sanity"])[0].command
    files = command[command.index("--pylint") + 1 : command.index("--")]
    assert {name, "plugins/module_utils/_console/script.py"} < set(files)
    assert "plugins/module_utils/_console/screen.py" not in files
