# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Define the steps of the static checks, and of the tests with other versions of ansible-core."""

from __future__ import annotations

import changes
import checks
from import_graph import importers_of
from steps import CACHE, COPY, ROOT, WORK, Step, own_summary, python, tool

# Where pylint finds files.
PYTHON = ("extensions/", "plugins/", "scripts/", "tests/")
# Where ansible-lint finds files: everywhere but in the folders that its settings exclude.
LINTED = (
    ".github/",
    "docs/",
    "extensions/",
    "galaxy.yml",
    "meta/",
    "playbooks/",
    "plugins/",
    "roles/",
    "scripts/",
    "tests/",
)


def lint_steps(quick: bool = False, changed: bool = False) -> list[Step]:
    """Return the static checks.

    quick: without ansible-lint. changed: ansible-lint only for the changed files. It checks each
    file on its own.
    """
    steps = [Step(rule, python(str(COPY / "scripts/checks.py"), rule)) for rule in checks.RULES]
    scripts = [str(path) for path in checks.shell_scripts()]
    steps += [
        Step("shellcheck", ["shellcheck", "--format=gcc", "--exclude=SC1090,SC1091", *scripts]),
        Step("yamllint", tool("yamllint", "--strict", ".")),
        Step(
            "python-3.9",
            tool(
                "vermin",
                "--target=3.9-",
                "--violations",
                "--no-tips",
                "--eval-annotations",
                "plugins/modules",
                "plugins/module_utils",
                "extensions",
            ),
        ),
        Step("ruff-format", tool("ruff", "format", "--check", "--no-cache", ".")),
        Step("ruff-check", tool("ruff", "check", "--no-cache", ".")),
        # The cache is outside the copy, which is deleted at the start of each run.
        Step(
            "mypy",
            ["env", f"MYPYPATH={WORK}", *tool("mypy", "--cache-dir", str(CACHE / "mypy"))],
        ),
        Step("reuse", tool("reuse", "lint", "--quiet")),
        Step(
            "ansible-builder",
            tool(
                "ansible-builder",
                "create",
                "--file",
                "playbooks/files/awx_execution_environment.yml",
                "--context",
                str(WORK / "ee"),
            ),
        ),
    ]
    settings = (".ansible-lint", ".yamllint")
    files = changes.changed_only((".yml", ".yaml"), LINTED, *settings) if changed else []
    if not quick and files != ["none"]:
        command = tool("ansible-lint", "--profile", "production", "--offline", "--nocolor", *files)
        steps.append(Step("ansible-lint", command))
    return steps


def sanity_steps(changed: bool = False) -> list[Step]:
    """Return ansible-test sanity, without the tools that lint_steps runs.

    changed: pylint, the slowest test, only for the changed files and for those that import one of
    them, whose check can have another result.
    """
    files = changes.changed_only((".py",), PYTHON, "tests/sanity/") if changed else []
    files = sorted({*files, *importers_of(files)})
    command = python(
        str(COPY / "scripts/sanity.py"), *(["--pylint", *files, "--"] if files else [])
    )
    skipped = ["--skip-test", "yamllint", "--skip-test", "shellcheck"]
    return [Step("sanity", [*command, *skipped], timeout=2400, tries=2)]


def quick_sanity_steps() -> list[Step]:
    """Return two fast sanity tests."""
    return [
        Step(
            "sanity",
            python(
                str(COPY / "scripts/sanity.py"), "--test", "validate-modules", "--test", "compile"
            ),
        )
    ]


def docs_steps() -> list[Step]:
    """Return the checks of the plugin documentation and the changelog."""
    return [
        Step(
            "docs",
            tool(
                "antsibull-docs",
                "lint-collection-docs",
                "--plugin-docs",
                "--validate-collection-refs",
                "all",
                "--check-extra-docs-refs",
                ".",
            ),
        ),
        Step("changelog", tool("antsibull-changelog", "lint")),
    ]


def site_steps() -> list[Step]:
    """Return the build of the documentation site."""
    return [Step("site", python(str(COPY / "scripts/docs"), str(WORK / "site")))]


def build_steps() -> list[Step]:
    """Return the build and installation of the collection."""
    return [Step("build", python(str(ROOT / "scripts/check_build.py"), str(WORK / "build")))]


def core_steps(changed: bool = False) -> list[Step]:
    """Return the tests with the supported versions of ansible-core other than the installed one.

    changed: pylint only for the changed files. The step sanity also has those that import them.
    """
    import ansible.release

    files = changes.changed_only((".py",), ("plugins/",), "tests/sanity/") if changed else []

    installed = ".".join(ansible.release.__version__.split(".")[:2])
    others = {
        version: f"ansible-core>={version},<2.{int(version[2:]) + 1}"
        for version in ("2.19", "2.21")
        if version != installed
    }
    return [
        Step(
            f"core/{version}",
            python(str(ROOT / "scripts/core_leg.py"), specification, *files),
            cwd=ROOT,
            own_home=False,
            timeout=2400,
            count=own_summary,
            resource="fresh",
            tries=2,
        )
        for version, specification in {**others, "newest": "newest"}.items()
    ]
