# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Define the steps of the tests, one for each program that run_tests.py starts, and named sets."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree
from typing import Callable, Optional

import checks

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv/bin"
WORK = ROOT / ".cache/test"
COPY = WORK / "ansible_collections/vlab/qemu"
TARGETS = ROOT / "tests/integration/targets"
# Kept for all checkouts: trees, virtual environments, container images. The name of each contains
# a digest of its inputs.
CACHE = pathlib.Path(os.environ.get("VLAB_CACHE") or pathlib.Path.home() / ".cache/vlab-qemu")
CHANGED_SINCE = "3 hours ago"
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
# What runs the static checks.
CHECKERS = ("scripts/core_leg.py", "scripts/sanity.py", "scripts/test_plan.py")
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed$")
# Targets of this host that run modules with the plain interpreter, as users do.
PLAIN = ("adhoc", "lab_kill")
# What targets of this host do only in the set "nightly", as variables.
NIGHTLY_VARIABLES = {
    # Guests that restart under their connections take ten minutes.
    "inside": '{"inside_restarts": true, "inside_noise_commands": 50}',
    # Two labs of each format run, one after the other.
    "import_lab": '{"import_lab_all": true}',
    # Each change of a lab takes a fifth of a second.
    "lab_churn": '{"lab_churn_seconds": 2400}',
    "lab_kill": '{"lab_kill_rounds": 30}',
    "vm_migrate_kill": '{"vm_migrate_kill_every": 1}',
}
# Targets that the set "fast" runs in process on this host.
FAST_STEPS = (
    "vm_life",
    "vm_machine",
    "disk_image",
    "disk_bus",
    "nic_mac",
    "nic_rewire",
    "qmp",
    "hostile",
)


@dataclasses.dataclass
class Step:
    """One program. It counts as one test unless `count` gets the counts from its log."""

    name: str
    command: list[str]
    cwd: pathlib.Path = COPY
    # Whether HOME is a folder in the cache, with the pip settings of the user.
    own_home: bool = True
    timeout: int = 1800
    # Return (passed, failed) for a log and an exit code.
    count: Optional[Callable[[str, int], tuple[int, int]]] = None
    # 2 if a busy machine or a package mirror can make the step fail. A step that passes on the
    # second try is reported as flaky.
    tries: int = 1
    # The command of the second try, if it differs: one that runs only the failed cases.
    retry: Optional[list[str]] = None
    # The steps that must have ended before, passed or failed.
    after: tuple[str, ...] = ()
    # Steps with the same resource never run at the same time.
    resource: str = ""


# --- Counting results ---


def unit_tests(_log: str, status: int) -> tuple[int, int]:
    """Count the unit tests in the JUnit files."""
    tests = failed = 0
    for report in [*WORK.glob("units.xml"), *COPY.glob("tests/output/junit/*.xml")]:
        for suite in xml.etree.ElementTree.parse(report).iter("testsuite"):
            tests += int(suite.get("tests", 0)) - int(suite.get("skipped", 0))
            failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    if status != 0 and failed == 0:
        failed = 1
    return max(tests - failed, 0), failed


def own_summary(log: str, status: int) -> tuple[int, int]:
    """Count the tests of a runner whose last line is "N passed, N failed"."""
    last = [line for line in log.split("\n") if line.strip()][-1:]
    match = SUMMARY.match(last[0]) if last else None
    if not match:
        return (1, 0) if status == 0 else (0, 1)
    passed, failed = int(match.group(1)), int(match.group(2))
    return passed, failed if status == 0 or failed else 1


# --- Changed files ---


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


# --- The steps ---


def tool(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a program of the virtual environment."""
    return [str(BIN / name), *arguments]


def python(*arguments: str) -> list[str]:
    """Return the command that runs a Python file."""
    return tool("python", *arguments)


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
    files = changed_only((".yml", ".yaml"), LINTED, *settings) if changed else []
    if not quick and files != ["none"]:
        command = tool("ansible-lint", "--profile", "production", "--offline", "--nocolor", *files)
        steps.append(Step("ansible-lint", command))
    return steps


def sanity_steps() -> list[Step]:
    """Return ansible-test sanity, without the tools that lint_steps runs."""
    return [
        Step(
            "sanity",
            python(
                str(COPY / "scripts/sanity.py"),
                "--skip-test",
                "yamllint",
                "--skip-test",
                "shellcheck",
            ),
            timeout=2400,
            tries=2,
        )
    ]


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


def unit_steps() -> list[Step]:
    """Return the unit tests, run by pytest."""
    command = python(
        "-m",
        "pytest",
        "-q",
        "-rf",
        "-c",
        str(COPY / "pytest.ini"),
        "-o",
        f"pythonpath={WORK}",
        "-o",
        f"cache_dir={WORK / 'pytest'}",
        f"--junit-xml={WORK / 'units.xml'}",
    )
    return [
        Step(
            "units",
            # Many wait for a program or for a deadline.
            [*command, "-n", "4", "--cache-clear"],
            count=unit_tests,
            tries=2,
            # Without more processes, each of which would collect all tests.
            retry=[*command, "--last-failed"],
        )
    ]


def ansible_test_unit_steps() -> list[Step]:
    """Return the unit tests, run by ansible-test."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return [
        Step(
            "ansible-test-units",
            tool("ansible-test", "units", "--color", "no", "--python", version),
            count=unit_tests,
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


def image_steps() -> list[Step]:
    """Return the build of the guest images."""
    return [
        Step(
            "images", playbook("images.yml"), cwd=ROOT, own_home=False, resource="packages", tries=2
        )
    ]


def is_on_testbed(target: str) -> bool:
    """Return whether the test bed runs a target."""
    return "testbed" in (TARGETS / target / "aliases").read_text(encoding="utf-8")


def integration_steps(only: list[str], nightly: bool = False) -> list[Step]:
    """Return the given targets, or those that the test bed does not run, each on this host.

    Without `nightly`, targets whose files have not changed are left out.
    nightly: run the examples of all pages, and use the plain interpreter.
    """
    names = sorted(
        path.name
        for path in TARGETS.glob("*")
        if path.is_dir() and not path.name.startswith(("setup_", "prepare"))
    )
    unknown = sorted(set(only) - set(names))
    if unknown:
        sys.exit(f"no such target: {', '.join(unknown)}; targets: {', '.join(names)}")
    left_out = [] if nightly or only else unchanged_targets()
    local = [name for name in names if name not in left_out and not is_on_testbed(name)]
    pages = (
        []
        if nightly
        else ["-e", '{"docs_examples_pages": %s}' % str(example_pages()).replace("'", '"')]
    )
    return [
        Step(
            f"integration/{name}",
            playbook(
                "local.yml",
                "-e",
                f"local_target={name}",
                *([] if nightly or name in PLAIN else ["-i", str(ROOT / "tests/warm/local.yml")]),
                *(pages if name == "docs_examples" else []),
                *(["-e", NIGHTLY_VARIABLES[name]] if nightly and name in NIGHTLY_VARIABLES else []),
            ),
            cwd=ROOT,
            own_home=False,
            tries=1 if name == "docs_examples" else 2,
            after=("images",),
            resource="host",
            timeout=3000 if nightly or name == "docs_examples" else 1800,
        )
        for name in only or local
    ]


def fast_steps() -> list[Step]:
    """Return the targets FAST_STEPS, run in process on this host."""
    variables = json.dumps(
        {
            "testbed_images": "/var/lib/vlab/images",
            "steps_module_defaults": {"vlab.qemu.qemu_vm": {"allow_container": True}},
        }
    )
    command = python(
        str(ROOT / "tests/steps/run.py"),
        "--variables",
        variables,
        "--logs",
        str(WORK / "logs/steps"),
        *FAST_STEPS,
    )
    return [
        Step(
            "steps",
            command,
            cwd=ROOT,
            own_home=False,
            after=("images",),
            resource="host",
            count=own_summary,
        )
    ]


def playbook(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a playbook of tests/integration."""
    roles = f"ANSIBLE_ROLES_PATH={TARGETS}"
    config = f"ANSIBLE_CONFIG={ROOT / 'ansible.cfg'}"
    return [
        "env",
        roles,
        config,
        str(BIN / "ansible-playbook"),
        str(ROOT / "tests/integration" / name),
        *arguments,
    ]


def tree_steps() -> list[Step]:
    """Return the build of the trees of the test bed."""
    return [
        Step(
            "trees",
            [str(ROOT / "tests/testbed/testbed"), "build"],
            cwd=ROOT,
            own_home=False,
            resource="packages",
            tries=2,
        )
    ]


def testbed_steps(everything: bool = False) -> list[Step]:
    """Return the test bed. everything: run all targets by ansible-playbook."""
    arguments = ["--through-ansible"]
    if not everything:
        skipped = [] if ee_has_changed() else ["ee_job"]
        skipped += filter(is_on_testbed, unchanged_targets())
        arguments = ["--skip", ",".join(skipped)] if skipped else []
    return [
        Step(
            "testbed",
            [str(ROOT / "tests/testbed/run"), *arguments],
            cwd=ROOT,
            own_home=False,
            timeout=7200 if everything else 4500,
            count=own_summary,
            after=("trees", "images"),
        )
    ]


def core_steps(changed: bool = False) -> list[Step]:
    """Return the tests with the supported versions of ansible-core other than the installed one.

    changed: pylint only for the changed files. The step sanity has it for all.
    """
    import ansible.release

    files = changed_only((".py",), ("plugins/",), "tests/sanity/") if changed else []

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


def fresh_steps(everything: bool = False) -> list[Step]:
    """Return the commands of README.md, run on fresh machines."""
    command = python(str(ROOT / "tests/fresh/run.py"))
    demo = Step(
        "fresh/demo",
        command if everything else [*command, "debian-13/asked"],
        cwd=ROOT,
        own_home=False,
        timeout=1800 * (6 if everything else 1),
        count=own_summary,
        resource="fresh",
        tries=1 if everything else 2,
    )
    test = Step(
        "fresh/test-fast",
        [
            *command,
            "--command",
            "make test-fast",
            "--shows",
            " passed, 0 failed",
            "--timeout",
            "2400",
            "debian-12/root",
            "debian-13/root",
            "debian-13/asked",
        ],
        cwd=ROOT,
        own_home=False,
        timeout=7500,
        count=own_summary,
        resource="fresh",
    )
    return [demo, test] if everything else [demo] if demo_has_changed() else []


def ecosystem_steps(everything: bool = False) -> list[Step]:
    """Return the tests with other tools: those that have changed, or everything.

    everything: also with the language server of an editor, and with ansible-rulebook.
    """
    names = ["editor", "eda", *ECOSYSTEM_FILES] if everything else changed_ecosystem_tests()
    return [
        Step(
            f"ecosystem/{name}",
            python(str(ROOT / f"tests/ecosystem/{name}.py")),
            cwd=ROOT,
            own_home=False,
            count=own_summary,
            after=("images",) if name in ECOSYSTEM_FILES else (),
            resource="packages" if name == "editor" else "host",
            tries=2,
        )
        for name in names
    ]


# In the order of their start: first those that others wait for, then the longest.
ALL = (
    "images",
    "trees",
    "testbed",
    "integration",
    "sanity",
    "fresh",
    "ecosystem",
    "changed-core",
    "changed-lint",
    "units",
    "docs-lint",
    "site",
    "build",
)
FAST = (
    "images",
    "fast-steps",
    "fast-lab",
    "quick-sanity",
    "quick-lint",
    "units",
    "docs-lint",
    "build",
)
NIGHTLY = (
    "images",
    "trees",
    "testbed-everything",
    "integration-everything",
    "sanity",
    "fresh-everything",
    "core",
    "lint",
    "units",
    "ecosystem-everything",
    "ansible-test-units",
    "docs-lint",
    "site",
    "build",
)
SETS = {"all": ALL, "fast": FAST, "nightly": NIGHTLY}
NEEDS = {"integration": ("images",), "testbed": ("trees", "images")}
MAKERS: dict[str, Callable[[], list[Step]]] = {
    "trees": tree_steps,
    "images": image_steps,
    "testbed": testbed_steps,
    "testbed-everything": lambda: testbed_steps(everything=True),
    "integration": lambda: integration_steps([]),
    "integration-everything": lambda: integration_steps([], nightly=True),
    "sanity": sanity_steps,
    "quick-sanity": quick_sanity_steps,
    "lint": lint_steps,
    "changed-lint": lambda: lint_steps(changed=True),
    "quick-lint": lambda: lint_steps(quick=True),
    "units": unit_steps,
    "ansible-test-units": ansible_test_unit_steps,
    "docs-lint": docs_steps,
    "site": site_steps,
    "build": build_steps,
    "core": core_steps,
    "changed-core": lambda: core_steps(changed=True),
    "ecosystem": ecosystem_steps,
    "ecosystem-everything": lambda: ecosystem_steps(everything=True),
    "fresh": fresh_steps,
    "fresh-everything": lambda: fresh_steps(everything=True),
    "fast-steps": fast_steps,
    "fast-lab": lambda: integration_steps(["role_ospf_triangle"]),
}


def plan(words: list[str]) -> list[Step]:
    """Return the steps for the words of a command line."""
    names: list[str] = []
    targets: list[str] = []
    for word in words or ["all"]:
        if word in SETS:
            names += SETS[word]
        elif word in MAKERS:
            names += [*NEEDS.get(word, ()), word]
        elif "integration" in names:
            targets.append(word)
        else:
            sys.exit(f"unknown set {word}; sets: {', '.join([*SETS, *MAKERS])}")
    steps: list[Step] = []
    for name in dict.fromkeys(names):
        steps += integration_steps(targets) if name == "integration" and targets else MAKERS[name]()
    return steps
