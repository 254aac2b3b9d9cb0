# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Define the steps of the tests, one for each program that run_tests.py starts, and named sets."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree
from typing import Callable

import changes
import check_steps
from steps import BIN, COPY, ROOT, WORK, Step, own_summary, python, tool

TARGETS = ROOT / "tests/integration/targets"
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
    left_out = [] if nightly or only else changes.unchanged_targets()
    local = [name for name in names if name not in left_out and not is_on_testbed(name)]
    pages = (
        []
        if nightly
        else ["-e", '{"docs_examples_pages": %s}' % str(changes.example_pages()).replace("'", '"')]
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
        skipped = [] if changes.ee_has_changed() else ["ee_job"]
        skipped += filter(is_on_testbed, changes.unchanged_targets())
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
    return [demo, test] if everything else [demo] if changes.demo_has_changed() else []


def ecosystem_steps(everything: bool = False) -> list[Step]:
    """Return the tests with other tools: those that have changed, or everything.

    everything: also with the language server of an editor, and with ansible-rulebook.
    """
    names = (
        ["editor", "eda", *changes.ECOSYSTEM_FILES]
        if everything
        else changes.changed_ecosystem_tests()
    )
    return [
        Step(
            f"ecosystem/{name}",
            python(str(ROOT / f"tests/ecosystem/{name}.py")),
            cwd=ROOT,
            own_home=False,
            count=own_summary,
            after=("images",) if name in changes.ECOSYSTEM_FILES else (),
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
    "changed-sanity",
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
    "sanity": check_steps.sanity_steps,
    "changed-sanity": lambda: check_steps.sanity_steps(changed=True),
    "quick-sanity": check_steps.quick_sanity_steps,
    "lint": check_steps.lint_steps,
    "changed-lint": lambda: check_steps.lint_steps(changed=True),
    "quick-lint": lambda: check_steps.lint_steps(quick=True),
    "units": unit_steps,
    "ansible-test-units": ansible_test_unit_steps,
    "docs-lint": check_steps.docs_steps,
    "site": check_steps.site_steps,
    "build": check_steps.build_steps,
    "core": check_steps.core_steps,
    "changed-core": lambda: check_steps.core_steps(changed=True),
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
