# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which tests there are: a step for each program that run_tests.py starts, and the sets of them that have a name."""

from __future__ import annotations

import dataclasses
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
# What is worth keeping from one checkout to the next: trees, virtual environments, images of containers. Each is named by what it
# was made of.
CACHE = pathlib.Path(os.environ.get("VLAB_CACHE") or pathlib.Path.home() / ".cache/vlab-qemu")
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed$")
# Targets of this host whose modules are run by the plain interpreter, for the ways that users go.
PLAIN = ("adhoc", "lab_kill")
# Targets of this host for "fast": steps in process, and one lab by ansible-playbook.
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
    """One program. It is counted as one test unless `count` reads its log and exit status."""

    name: str
    command: list[str]
    where: pathlib.Path = COPY
    own_home: bool = True
    timeout: int = 900
    count: Optional[Callable[[str, int], tuple[int, int]]] = None
    # Guests under emulation can be late on a busy machine, and a mirror can be away for a moment: what fails twice has failed, what
    # passes then is reported as flaky.
    tries: int = 1
    # The command of the second try, where it is for the cases that failed alone.
    retry: Optional[list[str]] = None
    # Names of steps that must have ended, whatever their outcome.
    after: tuple[str, ...] = ()
    # Steps with the same word here are never run at the same time.
    alone: str = ""


# --- How results are counted ---


def unit_tests(_log: str, status: int) -> tuple[int, int]:
    tests = failed = 0
    for report in [*WORK.glob("units.xml"), *COPY.glob("tests/output/junit/*.xml")]:
        for suite in xml.etree.ElementTree.parse(report).iter("testsuite"):
            tests += int(suite.get("tests", 0)) - int(suite.get("skipped", 0))
            failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    if status != 0 and failed == 0:
        failed = 1
    return max(tests - failed, 0), failed


def own_summary(log: str, status: int) -> tuple[int, int]:
    """For a runner that ends with "N passed, N failed"."""
    last = [line for line in log.split("\n") if line.strip()][-1:]
    match = SUMMARY.match(last[0]) if last else None
    if not match:
        return (1, 0) if status == 0 else (0, 1)
    passed, failed = int(match.group(1)), int(match.group(2))
    return passed, failed if status == 0 or failed else 1


# --- What has changed ---


def touched() -> list[str]:
    """The files that were changed since VLAB_TEST_BASE, a commit; without it, in the last day; and those that are not committed."""

    def git(*words: str) -> list[str]:
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(ROOT), *words],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.splitlines() if done.returncode == 0 else []

    base = os.environ.get("VLAB_TEST_BASE")
    committed = (
        git("diff", "--name-only", base, "HEAD")
        if base
        else git("log", "--since=1 day ago", "--name-only", "--format=")
    )
    return sorted(
        {
            *committed,
            *git("diff", "--name-only", "HEAD"),
            *git("ls-files", "--others", "--exclude-standard"),
        }
    )


def demo_is_touched() -> bool:
    ours = (
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
    return any(name.startswith(ours) for name in touched())


def ee_is_touched() -> bool:
    ours = (
        "playbooks/awx.yml",
        "playbooks/files/awx",
        "playbooks/vars/awx",
        "meta/ee-",
        "meta/execution-environment.yml",
        "tests/ee/",
        "tests/integration/targets/ee_job/",
    )
    return any(name.startswith(ours) for name in touched())


def touched_pages() -> list[str]:
    """The pages whose examples are run: the one that every newcomer reads, and those that were touched."""
    pages = [ROOT / name for name in touched() if name.startswith("docs/") and name.endswith(".md")]
    return [
        "README.md",
        *(
            str(page.relative_to(ROOT))
            for page in pages
            if page.is_file() and "<!-- run: " in page.read_text(encoding="utf-8")
        ),
    ]


# --- The steps ---


def tool(name: str, *arguments: str) -> list[str]:
    return [str(BIN / name), *arguments]


def python(*arguments: str) -> list[str]:
    return tool("python", *arguments)


def lint_steps(quick: bool = False) -> list[Step]:
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
            ),
        ),
        Step("ruff-format", tool("ruff", "format", "--check", "--no-cache", ".")),
        Step("ruff-check", tool("ruff", "check", "--no-cache", ".")),
        # The cache stays from run to run, which the copy does not.
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
    if not quick:
        steps.append(
            Step(
                "ansible-lint",
                tool("ansible-lint", "--profile", "production", "--offline", "--nocolor"),
            )
        )
    return steps


def sanity_steps() -> list[Step]:
    # These two are steps of their own.
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
            timeout=1200,
            tries=2,
        )
    ]


def quick_sanity_steps() -> list[Step]:
    return [
        Step(
            "sanity",
            python(
                str(COPY / "scripts/sanity.py"), "--test", "validate-modules", "--test", "compile"
            ),
        )
    ]


def unit_steps() -> list[Step]:
    command = python(
        "-m",
        "pytest",
        "-q",
        "-rf",
        "-n",
        "2",
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
            [*command, "--cache-clear"],
            count=unit_tests,
            tries=2,
            retry=[*command, "--last-failed"],
        )
    ]


def ansible_test_unit_steps() -> list[Step]:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return [
        Step(
            "ansible-test-units",
            tool("ansible-test", "units", "--color", "no", "--python", version),
            count=unit_tests,
        )
    ]


def docs_steps() -> list[Step]:
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
    return [Step("site", python(str(COPY / "scripts/docs"), str(WORK / "site")))]


def build_steps() -> list[Step]:
    return [Step("build", python(str(ROOT / "scripts/check_build.py"), str(WORK / "build")))]


def image_steps() -> list[Step]:
    return [
        Step(
            "images", playbook("images.yml"), where=ROOT, own_home=False, alone="packages", tries=2
        )
    ]


def integration_steps(only: list[str], nightly: bool = False) -> list[Step]:
    """Targets on this host: those asked for, else those that the test bed does not run.

    nightly: run all pages of examples, and use the plain interpreter.
    """
    names = sorted(
        path.name
        for path in TARGETS.glob("*")
        if path.is_dir() and not path.name.startswith(("setup_", "prepare"))
    )
    unknown = sorted(set(only) - set(names))
    if unknown:
        sys.exit(f"no such target: {', '.join(unknown)}; there are: {', '.join(names)}")
    here = [
        name
        for name in names
        if "testbed" not in (TARGETS / name / "aliases").read_text(encoding="utf-8")
    ]
    pages = (
        []
        if nightly
        else ["-e", '{"docs_examples_pages": %s}' % str(touched_pages()).replace("'", '"')]
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
            ),
            where=ROOT,
            own_home=False,
            tries=1 if name == "docs_examples" else 2,
            after=("images",),
            alone="host",
            timeout=3000 if name == "docs_examples" else 900,
        )
        for name in only or here
    ]


def fast_steps() -> list[Step]:
    """In process on this host."""
    variables = '{"testbed_images": "/var/lib/vlab/images", "steps_module_defaults": {"vlab.qemu.qemu_vm": {"allow_container": true}}}'
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
            where=ROOT,
            own_home=False,
            after=("images",),
            alone="host",
            count=own_summary,
        )
    ]


def playbook(name: str, *arguments: str) -> list[str]:
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
    return [
        Step(
            "trees",
            [str(ROOT / "tests/testbed/testbed"), "build"],
            where=ROOT,
            own_home=False,
            alone="packages",
            tries=2,
        )
    ]


def testbed_steps(everything: bool = False) -> list[Step]:
    arguments = (
        ["--through-ansible"] if everything else [] if ee_is_touched() else ["--skip", "ee_job"]
    )
    return [
        Step(
            "testbed",
            [str(ROOT / "tests/testbed/run"), *arguments],
            where=ROOT,
            own_home=False,
            timeout=7200 if everything else 2400,
            count=own_summary,
            after=("trees", "images"),
        )
    ]


def core_steps() -> list[Step]:
    """The supported versions of ansible-core that this virtual environment is not: the oldest, the one before the newest, the newest."""
    import ansible.release

    here = ".".join(ansible.release.__version__.split(".")[:2])
    others = {
        version: f"ansible-core>={version},<2.{int(version[2:]) + 1}"
        for version in ("2.19", "2.21")
        if version != here
    }
    return [
        Step(
            f"core/{version}",
            python(str(ROOT / "scripts/core_leg.py"), specification),
            where=ROOT,
            own_home=False,
            timeout=1500,
            count=own_summary,
            alone="fresh",
            tries=2,
        )
        for version, specification in {**others, "newest": "newest"}.items()
    ]


def fresh_steps(everything: bool = False) -> list[Step]:
    """The commands of README.md on machines that have nothing."""
    command = python(str(ROOT / "tests/fresh/run.py"))
    demo = Step(
        "fresh/demo",
        command if everything else [*command, "debian-13/asked"],
        where=ROOT,
        own_home=False,
        timeout=900 * (6 if everything else 1),
        count=own_summary,
        alone="fresh",
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
        where=ROOT,
        own_home=False,
        timeout=7500,
        count=own_summary,
        alone="fresh",
    )
    return [demo, test] if everything else [demo] if demo_is_touched() else []


# In the order in which two workers take them: first what others wait for, then what takes longest.
ALL = (
    "images",
    "trees",
    "testbed",
    "integration",
    "sanity",
    "fresh",
    "core",
    "lint",
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
    "quick-lint": lambda: lint_steps(quick=True),
    "units": unit_steps,
    "ansible-test-units": ansible_test_unit_steps,
    "docs-lint": docs_steps,
    "site": site_steps,
    "build": build_steps,
    "core": core_steps,
    "fresh": fresh_steps,
    "fresh-everything": lambda: fresh_steps(everything=True),
    "fast-steps": fast_steps,
    "fast-lab": lambda: integration_steps(["role_ospf_triangle"]),
}


def plan(words: list[str]) -> list[Step]:
    """The steps for the words of a command line."""
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
            sys.exit(f"unknown: {word}; there are: {', '.join([*SETS, *MAKERS])}")
    steps: list[Step] = []
    for name in dict.fromkeys(names):
        steps += integration_steps(targets) if name == "integration" and targets else MAKERS[name]()
    return steps
