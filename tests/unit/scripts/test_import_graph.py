# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tests a leg of scripts/core_leg.py leaves out, because they need nothing of Ansible."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
# The collection is built without scripts.
pytestmark = pytest.mark.skipif(not (ROOT / "scripts").is_dir(), reason="scripts are not here")
sys.path.insert(0, str(ROOT / "scripts"))
import_graph = pytest.importorskip("import_graph")
TESTS = ROOT / "tests/unit/plugins/plugin_utils"
PREFIX = "ansible_collections.vlab.qemu.plugins.plugin_utils."


def test_what_is_left_out_imports_nothing_of_ansible():
    """One test, because each process that runs a part of it reads hundreds of files."""
    assert sorted(import_graph.PACKAGES) == ["_import", "_pictures", "_topology"]
    for package in import_graph.PACKAGES:
        files = sorted((ROOT / "plugins/plugin_utils" / package).rglob("*.py"))
        assert len(files) > 10
        assert [way for way in map(import_graph.way_to_ansible, files) if way] == []
    left_out = import_graph.tests_without_ansible()
    for file in ("_import/test_bounds.py", "_pictures/test_pictures.py", "_topology/test_moves.py"):
        assert TESTS / file in left_out
    # These import a filter, documents.py, and _connection_vars.py.
    for file in (
        "_import/test_hostile.py",
        "_topology/test_kept.py",
        "_topology/test_management.py",
    ):
        assert (TESTS / file).is_file() and TESTS / file not in left_out
    assert {path.parent.name for path in left_out} == set(import_graph.PACKAGES)


def test_what_is_imported_in_fact_is_not_ansible():
    names = [
        PREFIX + ".".join(path.relative_to(ROOT / "plugins/plugin_utils").with_suffix("").parts)
        for package in import_graph.PACKAGES
        for path in (ROOT / "plugins/plugin_utils" / package).rglob("*.py")
    ]
    code = (
        "import importlib, sys\n"
        "sys.path = sys.argv[1].split(':')\n"
        "for name in sys.argv[2:]: importlib.import_module(name)\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] == 'ansible'))\n"
    )
    command = [sys.executable, "-c", code, ":".join(sys.path), *names]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.stdout, result.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    "line, way",
    [
        ("import ansible", "ansible"),
        ("import os, ansible.errors as x", "ansible.errors"),
        ("from ansible import errors", "ansible"),
        ("def f():\n    from ansible.errors import AnsibleError", "ansible.errors"),
        ("try:\n    pass\nexcept OSError:\n    import ansible", "ansible"),
        ("try:\n    pass\nfinally:\n    import ansible", "ansible"),
        ("while x:\n    pass\nelse:\n    with x:\n        import ansible", "ansible"),
        ("from .._remote import host_action", "host_action.py"),
        ("from ..._x import y\nfrom ansible.module_utils import basic", "ansible.module_utils"),
        ("from %s_remote import host_action" % PREFIX, "host_action.py"),
        ("import %s_remote.host_action" % PREFIX, "host_action.py"),
        ("from %s_remote.host_action import x" % PREFIX, "host_action.py"),
        ("from %s_topology import builder" % PREFIX, None),
        ("import os, ansible_other, yaml", None),
        ("'import ansible'", None),
    ],
)
def test_the_way_to_ansible_is_found(monkeypatch, line, way):
    path = ROOT / "plugins/plugin_utils/_import/new_file.py"
    known = import_graph.imported
    new = import_graph.imported_by(line, path)
    monkeypatch.setattr(import_graph, "imported", lambda file: new if file == path else known(file))
    found = import_graph.way_to_ansible(path)
    assert (found and found[1]) == way
    assert found is None or (found[0] == "new_file.py" and found[-1].startswith("ansible"))
