# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build the collection from the working folder, install it elsewhere, and check the result."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

ALLOWED = {
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "COPYING",
    "FILES.json",
    "MANIFEST.json",
    "README.md",
    "changelogs",
    "docs",
    "extensions",
    "meta",
    "playbooks",
    "plugins",
    "requirements.txt",
    "roles",
    "SECURITY.md",
    "tests",
    ".ansible-lint",
    ".yamllint",
}
# What users need that is not code of Ansible.
REQUIRED = {
    "docs/schema/topology.json",
    "extensions/eda/plugins/event_source/qemu_events.py",
    "extensions/eda/rulebooks/heal_lab.yml",
    "extensions/molecule/default/molecule.yml",
    "plugins/plugin_utils/_live/xterm/LICENSE",
    "plugins/plugin_utils/_live/xterm/xterm.css",
    "plugins/plugin_utils/_live/xterm/xterm.js",
}
BIN = pathlib.Path(sys.executable).parent


def main(target: pathlib.Path) -> int:
    """Build and install in a folder; return the exit code."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    subprocess.run(
        [str(BIN / "ansible-galaxy"), "collection", "build", "--output-path", str(target)],
        check=True,
    )
    (archive,) = target.glob("vlab-qemu-*.tar.gz")
    with tarfile.open(archive) as contents:
        files = contents.getnames()
    missing = sorted(REQUIRED - set(files))
    if missing:
        print(f"{archive.name} does not contain {', '.join(missing)}")
        return 1
    names = sorted({name.split("/")[0] for name in files})
    unexpected = [name for name in names if name not in ALLOWED]
    if unexpected:
        print(
            f"{archive.name} contains {', '.join(unexpected)}: "
            "add them to build_ignore in galaxy.yml"
        )
        return 1

    installed_in = target / "installed"
    env = dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(installed_in))
    install = [str(BIN / "ansible-galaxy"), "collection", "install", "--offline", "--no-deps"]
    install += ["--collections-path", str(installed_in), str(archive)]
    subprocess.run(install, env=env, check=True)
    listed = subprocess.run(
        [str(BIN / "ansible-doc"), "--type", "module", "--list", "--json", "vlab.qemu"],
        env=env,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    installed = sorted(json.loads(listed))
    expected = sorted(
        f"vlab.qemu.{path.stem}" for path in pathlib.Path("plugins/modules").glob("[a-z]*.py")
    )
    if installed != expected:
        print(f"modules in the tree: {expected}; modules after the installation: {installed}")
        return 1
    if expected:
        subprocess.run(
            [str(BIN / "ansible-doc"), "--type", "module", *expected],
            env=env,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    print(f"{archive.name}: {archive.stat().st_size // 1024} KiB, {len(expected)} modules")
    return 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
