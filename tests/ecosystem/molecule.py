# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the molecule scenario of the collection with the real molecule and QEMU.

    python tests/ecosystem/molecule.py

It copies the scenario into two roles, as docs/molecule.md describes, and tests both at the same
time on this host: their VMs must not collide.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import tempfile

import yaml

from tools import ROOT, background, environment, virtual_environment

SCENARIO = ROOT / "extensions/molecule/default"
REQUIREMENTS = ("molecule>=26,<27", *(ROOT / "requirements.txt").read_text().split("\n"))
TIMEOUT = 500  # s for one scenario


def make_role(folder: pathlib.Path, root: pathlib.Path) -> None:
    """Write a role with the scenario."""
    (folder / "tasks").mkdir(parents=True)
    (folder / "tasks/main.yml").write_text("[]\n", encoding="utf-8")
    scenario = folder / "molecule/default"
    shutil.copytree(SCENARIO, scenario)
    (scenario / "inventory/group_vars").mkdir()
    variables = {"lab_allow_container": True, "lab_root": str(root), "vlab_root": str(root)}
    (scenario / "inventory/group_vars/all.yml").write_text(
        yaml.safe_dump(variables), encoding="utf-8"
    )


def run(folder: pathlib.Path) -> list[str]:
    """Test two roles at the same time; return what is wrong."""
    programs = virtual_environment(*(word for word in REQUIREMENTS if word and word[0] != "#"))
    root, problems = folder / "root", []
    env = environment(programs, ANSIBLE_HOME=str(folder / "home"), COLUMNS="200")
    names = ("one", "two")
    logs = [folder / f"{name}.log" for name in names]
    for name in names:
        make_role(folder / name, root)
    command = ["sh", "-c", 'cd "$1" && exec molecule test', "sh"]
    with background([*command, str(folder / "one")], logs[0], env) as first:
        with background([*command, str(folder / "two")], logs[1], env) as second:
            codes = [process.wait(TIMEOUT) for process in (first, second)]
    for name, code, log in zip(names, codes, logs):
        text = log.read_text(encoding="utf-8", errors="replace")
        if code or "default > verify: Executed: Successful" not in text:
            problems.append(f"the role {name} ended with {code}:\n" + text[-6000:])
    left = [str(path) for path in root.glob("*/*/vm.json")]
    if left:
        problems.append(f"VMs are left: {', '.join(left)}")
    labs = [path.name for path in root.glob("molecule-*")]
    if labs:
        problems.append(f"labs are left: {', '.join(labs)}")
    return problems


def main() -> int:
    """Run the test; return the exit code."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vlab-mol-"))
    try:
        problems = run(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(problems))
    print("0 passed, 1 failed" if problems else "1 passed, 0 failed")
    return 1 if problems else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
