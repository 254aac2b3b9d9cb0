# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the tests, goes on after a failure, and ends with a summary.

    python scripts/run_tests.py [all | lint | sanity | units | docs-lint | site | build | integration [TARGET...] | testbed] ...

ansible-test and the collection loader want a path that ends in ansible_collections/vlab/qemu, so all of it
happens in a copy of the tree below .cache/test. Logs are in .cache/test/logs.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree
from typing import Callable, Optional

import checks

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv/bin"
WORK = ROOT / ".cache/test"
COPY = WORK / "ansible_collections/vlab/qemu"
LOGS = WORK / "logs"
HOME = WORK / "home"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
TAIL = 40
ERROR = re.compile(r"^(ERROR|FATAL)\b")
# What ansible-playbook says of a task that failed; an "always" section may run long after it.
FATAL = re.compile(r"^(fatal|failed): \[")
# What the test bed says of each target.
ON_EACH = re.compile(r"^\w+ +[0-9.]+ s  hv")
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed$")


@dataclasses.dataclass
class Step:
    name: str
    command: list[str]
    where: pathlib.Path = COPY
    own_home: bool = True
    timeout: int = 1800
    # Reads the log and the exit status, and says how many passed and failed; one step is one test without it.
    count: Optional[Callable[[str, int], tuple[int, int]]] = None
    # Guests under emulation can be late where the machine is busy with something else: what fails twice has failed.
    tries: int = 1


@dataclasses.dataclass
class Result:
    name: str
    passed: int
    failed: int
    seconds: float
    log: pathlib.Path
    note: str = ""


def make_copy() -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    for path in checks.files():
        (COPY / path).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # somebody is at work in the tree
            shutil.copy2(path, COPY / path, follow_symlinks=False)
    if shutil.which("git"):
        # Else ansible-test asks the repository around the copy, which ignores all of it.
        subprocess.run(["git", "init", "--quiet", str(COPY)], check=True)
        # The tools skip what git ignores; what is ignored was not copied.
        subprocess.run(["git", "-C", str(COPY), "add", "--all", "--force"], check=True)


def make_home() -> None:
    """A home folder of our own: ansible-test leaves its virtual environments there, and sees no variables of pip."""
    HOME.mkdir(parents=True, exist_ok=True)
    user = pathlib.Path.home()
    for source in (user / ".config/pip/pip.conf", user / ".pip/pip.conf"):
        target = HOME / ".pip/pip.conf"
        if source.is_file() and not target.exists():
            target.parent.mkdir(exist_ok=True)
            target.symlink_to(source)
    settings = [
        f"{name[4:].lower().replace('_', '-')} = {' '.join(value.split())}\n"
        for name, value in sorted(os.environ.items())
        if name.startswith("PIP_") and value and name != "PIP_CONFIG_FILE"
    ]
    config = HOME / ".config/pip/pip.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("[global]\n" + "".join(settings), encoding="utf-8")

    import ansible_test

    requirements = pathlib.Path(ansible_test.__path__[0], "_internal/python_requirements.py").read_text(encoding="utf-8")
    version = re.search(r"\bpip='([0-9.]+)'", requirements)
    if version:
        cached = HOME / ".ansible/test/cache" / f"get_pip_{version.group(1).replace('.', '_')}.py"
        cached.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "scripts/get_pip.py", cached)


def working_path() -> str:
    """The search path without folders whose Pythons do not run: the stubs of version managers would stop ansible-test."""
    folders = []
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        stubs = [path for path in pathlib.Path(folder or ".").glob("python3.*") if re.fullmatch(r"python3\.\d+", path.name)]
        if all(subprocess.run([str(stub), "--version"], capture_output=True, check=False).returncode == 0 for stub in stubs):
            folders.append(folder)
    return os.pathsep.join([str(BIN), *folders])


PATH = working_path()


def environment(own_home: bool) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTEST_", "MAKE", "MFLAGS"))}
    env.update(
        PATH=PATH,
        ANSIBLE_COLLECTIONS_PATH=str(WORK),
        ANSIBLE_NOCOLOR="1",
        NO_COLOR="1",
        PYTHONDONTWRITEBYTECODE="1",
    )
    if own_home:
        env["HOME"] = str(HOME)
    return env


def one_or_none(_log: str, status: int) -> tuple[int, int]:
    return (1, 0) if status == 0 else (0, 1)


def unit_tests(log: str, status: int) -> tuple[int, int]:
    tests = failed = 0
    for report in COPY.glob("tests/output/junit/*.xml"):
        for suite in xml.etree.ElementTree.parse(report).iter("testsuite"):
            tests += int(suite.get("tests", 0)) - int(suite.get("skipped", 0))
            failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    if status != 0 and failed == 0:
        failed = 1
    return max(tests - failed, 0), failed


def own_summary(log: str, status: int) -> tuple[int, int]:
    """For a runner that ends as this one does."""
    lines = log.split("\n")
    match = next((match for match in map(SUMMARY.match, reversed([line for line in lines if line.strip()][-1:])) if match), None)
    if not match:
        return one_or_none(log, status)
    passed, failed = int(match.group(1)), int(match.group(2))
    return passed, failed if status == 0 or failed else 1


RUNNING: set[subprocess.Popen] = set()
GIVEN_UP = threading.Event()


def stop(process: subprocess.Popen) -> None:
    """A step has a session of its own, so its children end with it, and nothing else does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run(step: Step) -> Result:
    log = LOGS / f"{step.name.replace('/', '-').replace(' ', '-')}.log"
    started = time.monotonic()
    note = ""
    with log.open("w", encoding="utf-8") as sink:
        process = subprocess.Popen(
            step.command, cwd=step.where, env=environment(step.own_home), stdin=subprocess.DEVNULL,
            stdout=sink, stderr=subprocess.STDOUT, start_new_session=True,
        )
        RUNNING.add(process)
        try:
            status = process.wait(step.timeout)
        except subprocess.TimeoutExpired:
            stop(process)
            status, note = 124, f"stopped after {step.timeout} s"
        except BaseException:
            stop(process)
            raise
        finally:
            RUNNING.discard(process)
    seconds = time.monotonic() - started
    text = log.read_text(encoding="utf-8", errors="replace")
    passed, failed = (step.count or one_or_none)(text, status)
    if status != 0 and failed == 0:
        failed = 1
    return Result(step.name, passed, failed, seconds, log, note)


def report(result: Result) -> None:
    state = "FAIL" if result.failed else "ok" if result.passed else "none"
    counts = f"{result.passed} passed, {result.failed} failed" if result.passed + result.failed > 1 else ""
    print(f"{state:<4} {result.seconds:7.1f} s  {result.name}  {counts} {result.note}".rstrip(), flush=True)
    lines = result.log.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in filter(ON_EACH.match, lines):
        print(f"     | {line}")
    if result.failed:
        # What sanity tests find is scattered in what pip says.
        errors = [line for line in lines if result.name == "sanity" and ERROR.match(line)]
        fatal = [number for number, line in enumerate(lines[:-TAIL]) if FATAL.match(line)][-3:]
        around = {number for start in fatal for number in range(start - 12, start + 25) if number >= 0}
        for line in errors[:TAIL] or [lines[number] for number in sorted(around)] + lines[-TAIL:]:
            print(f"     | {line[:300]}")
        print(f"     all of it: {result.log.relative_to(ROOT)}", flush=True)


def tool(name: str, *arguments: str) -> list[str]:
    return [str(BIN / name), *arguments]


def lint_steps() -> list[Step]:
    python = str(BIN / "python")
    steps = [Step(rule, [python, str(COPY / "scripts/checks.py"), rule]) for rule in checks.RULES]
    scripts = [str(path) for path in checks.shell_scripts()]
    steps += [
        Step("shellcheck", ["shellcheck", "--format=gcc", "--exclude=SC1090,SC1091", *scripts]),
        Step("yamllint", tool("yamllint", "--strict", ".")),
        Step("python-3.9", tool("vermin", "--target=3.9-", "--violations", "--no-tips", "--eval-annotations", "plugins/modules", "plugins/module_utils")),
        Step("ansible-builder", tool("ansible-builder", "create", "--file", "awx/execution-environment.yml", "--context", str(WORK / "ee"))),
        Step("ansible-lint", tool("ansible-lint", "--profile", "production", "--offline", "--nocolor")),
    ]
    return steps


def sanity_steps() -> list[Step]:
    return [Step("sanity", tool("ansible-test", "sanity", "--color", "no", "--allow-disabled"))]


def unit_steps() -> list[Step]:
    if not any(COPY.glob("tests/unit/**/test_*.py")):
        return []
    return [Step("units", tool("ansible-test", "units", "--color", "no", "--python", PYTHON), count=unit_tests)]


def docs_steps() -> list[Step]:
    return [
        Step("docs", tool("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs", "all", "--check-extra-docs-refs", ".")),
        Step("changelog", tool("antsibull-changelog", "lint")),
    ]


def site_steps() -> list[Step]:
    return [Step("site", [str(BIN / "python"), str(COPY / "scripts/docs"), str(WORK / "site")])]


def build_steps() -> list[Step]:
    return [Step("build", [str(BIN / "python"), str(ROOT / "scripts/check_build.py"), str(WORK / "build")])]


def integration_steps(only: list[str]) -> list[Step]:
    """Targets on this host: those asked for, else those that the test bed does not run on three versions of QEMU."""
    targets = COPY / "tests/integration/targets"
    names = sorted(path.name for path in targets.glob("*") if path.is_dir() and not path.name.startswith(("setup_", "prepare")))
    unknown = sorted(set(only) - set(names))
    if unknown:
        sys.exit(f"no such target: {', '.join(unknown)}; there are: {', '.join(names)}")
    here = [name for name in names if "testbed" not in (targets / name / "aliases").read_text(encoding="utf-8").split()]
    return [Step("integration/images", playbook("images.yml"), where=ROOT, own_home=False)] + [
        Step(f"integration/{name}", playbook("local.yml", "-e", f"local_target={name}"), where=ROOT, own_home=False, tries=2)
        for name in only or here
    ]


def playbook(name: str, *arguments: str) -> list[str]:
    roles = f"ANSIBLE_ROLES_PATH={ROOT / 'tests/integration/targets'}"
    config = f"ANSIBLE_CONFIG={ROOT / 'ansible.cfg'}"
    return ["env", roles, config, str(BIN / "ansible-playbook"), str(ROOT / "tests/integration" / name), *arguments]


def testbed_steps() -> list[Step]:
    return [Step("testbed", [str(ROOT / "tests/testbed/run")], where=ROOT, own_home=False, timeout=7200, count=own_summary)]


def groups(words: list[str]) -> tuple[list[list[Step]], list[Step]]:
    """What can run side by side, as lanes, and what needs the machine for itself."""
    names: dict[str, list[str]] = {}
    for word in words or ["all"]:
        if word == "all":
            names.update((name, []) for name in ("lint", "sanity", "units", "docs-lint", "site", "build", "integration", "testbed"))
        elif word in ("lint", "sanity", "units", "docs-lint", "site", "build", "integration", "testbed"):
            names.setdefault(word, [])
        elif "integration" in names:
            names["integration"].append(word)
        else:
            sys.exit(f"unknown: {word}\n{__doc__}")
    first = sanity_steps() if "sanity" in names else []
    second: list[Step] = []
    for name, make in (("lint", lint_steps), ("units", unit_steps), ("docs-lint", docs_steps), ("site", site_steps), ("build", build_steps)):
        if name in names:
            second += make()
    alone = integration_steps(names["integration"]) if "integration" in names else []
    if "testbed" in names:
        alone += testbed_steps()
    return [lane for lane in (first, second) if lane], alone


def main(words: list[str]) -> int:
    os.chdir(ROOT)
    started = time.monotonic()
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another run of the tests in this checkout", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        make_copy()
        make_home()
        lanes, alone = groups(words)
        results: list[Result] = []

        def run_lane(steps: list[Step]) -> None:
            for step in steps:
                if GIVEN_UP.is_set():
                    break
                result = run(step)
                if result.failed and step.tries > 1:
                    report(result)
                    result = run(step)
                    result.note += " at the second try"
                results.append(result)
                report(result)

        signal.signal(signal.SIGTERM, lambda *_ignored: sys.exit(143))
        with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
            try:
                for lane in [pool.submit(run_lane, steps) for steps in lanes]:
                    lane.result()
                run_lane(alone)
            except BaseException:
                GIVEN_UP.set()
                for process in list(RUNNING):
                    stop(process)
                raise

    passed = sum(result.passed for result in results)
    failed = sum(result.failed for result in results)
    print(f"\n{time.monotonic() - started:.0f} s in all")
    for result in results:
        if "second try" in result.note:
            print(f"tried twice: {result.name}")
        for line in result.log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("tried twice: "):
                print(line)
        if result.failed:
            print(f"failed: {result.name}, see {result.log.relative_to(ROOT)}")
    if passed + failed == 0:
        print("nothing ran")
    print(f"{passed} passed, {failed} failed", flush=True)
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("stopped")
