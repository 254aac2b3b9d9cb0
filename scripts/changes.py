# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has changed, and what tests and checks need not run therefore."""

from __future__ import annotations

import functools
import os
import re
import subprocess

from steps import ROOT

CHANGED_SINCE = "3 hours ago"
# What runs the static checks.
CHECKERS = ("scripts/check_steps.py", "scripts/core_leg.py", "scripts/sanity.py")
# The tests with other tools that run if one of these files has changed; the others run each night.
ECOSYSTEM_FILES = {
    "molecule": ("extensions/molecule/", "tests/ecosystem/molecule.py", "tests/ecosystem/tools.py"),
    "live": (
        "plugins/plugin_utils/_live/",
        "plugins/plugin_utils/_pictures/page",
        "roles/lab/tasks/live.yml",
        "tests/ecosystem/live.py",
        "tests/ecosystem/browser.py",
        "tests/ecosystem/tools.py",
    ),
    "autostart": (
        "plugins/module_utils/_lab/autostart.py",
        "plugins/module_utils/_remote/kept_code.py",
        "plugins/module_utils/_vm/autostart",
        "tests/ecosystem/autostart.",
    ),
}
# Targets that run if one of these files, or the target, has changed; all of them run each night.
# What else they use of plugins and of the role lab is tested by other targets in every run:
# role_lab, role_lab_key, role_ospf_triangle, lab_across.
TARGET_FILES = {
    "fabric_across": ("roles/leaf_spine/",),
    "import_lab": (
        "playbooks/import.yml",
        "plugins/filter/import_lab.py",
        "plugins/plugin_utils/_import/",
        "tests/unit/plugins/plugin_utils/_import/",
    ),
    "role_dual_homed_site": ("roles/dual_homed_site/",),
    "role_guest_image": ("roles/guest_image/",),
    "role_hub_spoke": ("roles/hub_spoke/",),
    "role_lab_graph": ("roles/lab/tasks/graph.yml", "plugins/plugin_utils/_pictures/"),
    "role_leaf_spine": ("roles/leaf_spine/",),
    "role_ring": ("roles/ring/",),
}


@functools.lru_cache(maxsize=None)
def changed_files() -> tuple[str, ...]:
    """Return the files changed since the commit VLAB_TEST_BASE, else in the last three hours.

    Changes that are not committed count, too.
    """
    base = os.environ.get("VLAB_TEST_BASE")
    committed = (
        git("diff", "--name-only", base, "HEAD")
        if base
        else git("log", f"--since={CHANGED_SINCE}", "--name-only", "--format=")
    )
    found = {
        *committed,
        *git("diff", "--name-only", "HEAD"),
        *git("ls-files", "--others", "--exclude-standard"),
    }
    return tuple(sorted(found))


def have_changed(*prefixes: str) -> bool:
    """Return whether a file whose name starts with one of the prefixes has changed."""
    return any(name.startswith(prefixes) for name in changed_files())


def changed_only(suffixes: tuple[str, ...], below: tuple[str, ...], *settings: str) -> list[str]:
    """Return the changed files that a static check is to check, "none" for no file.

    The list is empty, for all files, without the history of the files, and if something that the
    check depends on has changed. below: its folders. settings: prefixes of what it depends on.
    """
    if not git("rev-parse", "HEAD") or have_changed("requirements", *CHECKERS, *settings):
        return []
    found = [
        name
        for name in changed_files()
        if name.startswith(below) and name.endswith(suffixes) and (ROOT / name).is_file()
    ]
    return found or ["none"]


def git(*words: str) -> list[str]:
    """Return the lines that git prints, none if it fails or is missing."""
    try:
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(ROOT), *words],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def demo_has_changed() -> bool:
    """Return whether a file that the demo uses has changed."""
    return have_changed(
        "Makefile",
        "requirements",
        "scripts/demo",
        "scripts/setup",
        "tests/fresh/",
        "playbooks/ospf_triangle.yml",
        "roles/guest_image/",
        "roles/hypervisor/",
        "roles/lab/",
        "roles/ospf_triangle/",
    )


def ee_has_changed() -> bool:
    """Return whether a file that the execution environment uses has changed."""
    return have_changed(
        "playbooks/awx.yml",
        "playbooks/files/awx",
        "playbooks/vars/awx",
        "meta/ee-",
        "meta/execution-environment.yml",
        "tests/ee/",
        "tests/integration/targets/ee_job/",
    )


def unchanged_targets() -> list[str]:
    """Return the targets that do not run because their files have not changed.

    None without the history of the files.
    """
    if not git("rev-parse", "HEAD"):
        return []
    return [
        target
        for target, prefixes in TARGET_FILES.items()
        if not have_changed(*prefixes, f"tests/integration/targets/{target}/")
    ]


def changed_ecosystem_tests() -> list[str]:
    """Return the tests with other tools of which a file has changed."""
    return [test for test, prefixes in ECOSYSTEM_FILES.items() if have_changed(*prefixes)]


def example_pages() -> list[str]:
    """Return README.md and the pages that have examples to run which have changed."""
    pages = [name for name in changed_files() if name.startswith("docs/") and name.endswith(".md")]
    return ["README.md", *(name for name in pages if examples_have_changed(name))]


def examples_have_changed(page: str) -> bool:
    """Return whether a page has examples to run that it did not have at the base."""
    before = git("rev-list", "-1", f"--before={CHANGED_SINCE}", "HEAD")
    base = os.environ.get("VLAB_TEST_BASE") or "".join(before[:1])
    former = examples("\n".join(git("show", f"{base}:{page}"))) if base else []
    path = ROOT / page
    return path.is_file() and bool(
        [text for text in examples(path.read_text(encoding="utf-8")) if text not in former]
    )


def examples(page: str) -> list[str]:
    """Return the examples of a page that are run, without comments and blank lines."""
    blocks = re.findall(r"^(<!-- run: .*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [re.sub(r"^\s*(#.*)?\n", "", block, flags=re.MULTILINE) for block in blocks]
