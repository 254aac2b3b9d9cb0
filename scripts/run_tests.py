# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the tests, two steps at a time, continue after a failure, and print a summary.

    python scripts/run_tests.py [SET...]
    python scripts/run_tests.py integration [TARGET...]

SET: all (default), fast, nightly, or a part: lint, sanity, units, docs-lint, site, build,
integration, testbed. test_plan.py defines the sets and their steps.

ansible-test and Ansible's collection loader need a path that ends in
ansible_collections/vlab/qemu. Most steps therefore run in a copy of the tree below .cache/test.
The logs are in .cache/test/logs.
"""

from __future__ import annotations

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
from typing import Optional

import checks
from runner import TIMED_OUT, Programs, print_counts
from sanity import make_home, working_path
from steps import BIN, CACHE, COPY, ROOT, WORK, Step
from test_plan import plan

LOGS = WORK / "logs"
HOME = CACHE / "home"
# The number of log lines shown of a failed step.
TAIL_LINES = 40
WORKERS = 2
# Seconds that a step may take to end after SIGTERM; the test bed takes its hypervisors down then.
GRACE = 40
# Steps that run or wait after this many seconds have failed. This gives a summary before an
# outer limit, such as that of a CI job, ends the run.
LIMIT = int(os.environ.get("VLAB_TEST_LIMIT") or 5220)
SANITY_ERROR = re.compile(r"^(ERROR|FATAL)\b")
# A failed task in the output of ansible-playbook, which may be far from the end: an "always"
# section runs after it.
FAILED_TASK = re.compile(r"^(fatal|failed): \[")
# The result line of one target, in the logs of the test bed, the steps and the page examples.
TARGET_RESULT = re.compile(r"^(ok|flaky|failed) +\S+ +[0-9.]+ s |^not run: ")
FLAKY = re.compile(r"^ *-? *flaky:? +(.*)")
# A failed case in the output of pytest -rf.
FAILED_CASE = re.compile(r"^FAILED (\S+)", re.MULTILINE)
STEP_COUNTS = re.compile(r": (\d+) steps, (\d+) conditions$")


@dataclasses.dataclass
class Result:
    """The result of one step."""

    name: str
    passed: int
    failed: int
    seconds: float
    log: pathlib.Path
    note: str = ""
    flaky: list[str] = dataclasses.field(default_factory=list)
    steps: int = 0
    conditions: int = 0


def make_copy() -> None:
    """Copy the files of the tree to COPY and remove the logs of the previous run."""
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    for path in checks.files():
        (COPY / path).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # deleted in the meantime
            shutil.copy2(path, COPY / path, follow_symlinks=False)
    if shutil.which("git"):
        # Without it, ansible-test uses the outer repository, which ignores the whole copy.
        subprocess.run(["git", "init", "--quiet", str(COPY)], check=True)
        # --force: ignored files were not copied, and the tools skip files that git ignores.
        subprocess.run(["git", "-C", str(COPY), "add", "--all", "--force"], check=True)


def environment(own_home: bool) -> dict[str, str]:
    """Return the environment of a step, with HOME in the cache if `own_home` is set."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ANSIBLE_", "PYTEST_", "MAKE", "MFLAGS"))
    }
    env.update(
        PATH=working_path([BIN]),
        ANSIBLE_COLLECTIONS_PATH=str(WORK),
        ANSIBLE_NOCOLOR="1",
        NO_COLOR="1",
        PYTHONDONTWRITEBYTECODE="1",
        VLAB_TEST_BYTECODE=str(CACHE / "bytecode"),  # for tests/unit/conftest.py
    )
    if own_home:
        env["HOME"] = str(HOME)
    return env


class Runner:
    """Run steps with WORKERS threads until all have run or LIMIT is reached."""

    def __init__(self, steps: list[Step]) -> None:
        """Accept the steps in the order of their priority."""
        self.waiting = list(steps)
        self.running: list[Step] = []
        self.programs = Programs(GRACE)
        self.results: list[Result] = []
        self.changed = threading.Condition()
        self.deadline = time.monotonic() + LIMIT
        self.stopped = False

    def run(self) -> list[Result]:
        """Run all steps and return their results."""
        workers = [threading.Thread(target=self._work, daemon=True) for _number in range(WORKERS)]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                while worker.is_alive():
                    worker.join(1)
                    if time.monotonic() > self.deadline and not self.stopped:
                        self.stop()
        except BaseException:
            self.stop()
            raise
        for step in self.waiting:
            self.results.append(not_run(step, f"did not run: the limit of {LIMIT} s was reached"))
            print(f"FAIL  {step.name} did not run", flush=True)
        return self.results

    def stop(self) -> None:
        """Start no more steps and end the running ones."""
        self.stopped = True
        with self.changed:
            self.changed.notify_all()
        self.programs.end_all()

    def _next_step(self) -> Optional[Step]:
        """Return the first step that can start now."""
        unfinished = {step.name for step in [*self.waiting, *self.running]}
        in_use = {step.resource for step in self.running if step.resource}
        for step in self.waiting:
            if not unfinished & set(step.after) and step.resource not in in_use:
                return step
        return None

    def _work(self) -> None:
        """Run steps one after the other; the body of a worker thread."""
        while True:
            with self.changed:
                step = self._next_step()
                while step is None and self.waiting and not self.stopped:
                    self.changed.wait()
                    step = self._next_step()
                if step is None or self.stopped:
                    return
                self.waiting.remove(step)
                self.running.append(step)
            try:
                self._run_and_report(step)
            finally:
                with self.changed:
                    self.running.remove(step)
                    self.changed.notify_all()

    def _run_and_report(self, step: Step) -> None:
        """Run a step, up to twice, and report its result."""
        try:
            result = self._run_once(step)
            if result.failed and step.tries > 1 and not self.stopped:
                report(result)
                result = self._retry(step, result)
        except Exception as error:  # a silent end of the worker would look like a pass
            result = not_run(step, f"could not be run: {error!r}")
        self.results.append(result)
        report(result)

    def _retry(self, step: Step, first: Result) -> Result:
        """Run a failed step again, or only its failed cases if it has a command for that."""
        cases = (
            FAILED_CASE.findall(first.log.read_text(encoding="utf-8", errors="replace"))
            if step.retry
            else []
        )
        again = dataclasses.replace(step, command=step.retry) if step.retry else step
        result = self._run_once(again, "-again")
        if not result.failed:
            result.flaky += cases or [step.name]
            result.note += " on the second try"
        if step.retry:
            result.passed += first.passed
        return result

    def _run_once(self, step: Step, suffix: str = "") -> Result:
        """Run a step once and count its tests from its log. suffix: of the name of the log."""
        log = LOGS / f"{step.name.replace('/', '-').replace(' ', '-')}{suffix}.log"
        started = time.monotonic()
        status = self.programs.run(
            step.command, log, step.timeout, cwd=step.cwd, env=environment(step.own_home)
        )
        note = f"stopped after {step.timeout} s" if status == TIMED_OUT else ""
        text = log_text(log)
        passed, failed = step.count(text, status) if step.count else (int(not status), 0)
        if status and not failed:
            failed = 1
        result = Result(step.name, passed, failed, time.monotonic() - started, log, note)
        for line in text.splitlines():
            counts, flaky = STEP_COUNTS.search(line), FLAKY.match(line)
            if counts:
                result.steps += int(counts.group(1))
                result.conditions += int(counts.group(2))
            if flaky and "steps," not in line:
                result.flaky.append(flaky.group(1))
        return result


def not_run(step: Step, note: str) -> Result:
    """Return the result of a step that could not be run."""
    return Result(step.name, 0, 1, 0, LOGS / "none", note)


def log_text(log: pathlib.Path) -> str:
    """Return the text of a log, or an empty text if there is no log."""
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""


def report(result: Result) -> None:
    """Print the result of a step, and the relevant lines of its log if it failed."""
    state = "FAIL" if result.failed else "ok" if result.passed else "none"
    counts = ""
    if result.passed + result.failed > 1:
        counts = f"{result.passed} passed, {result.failed} failed"
    lines = log_text(result.log).splitlines()
    text = [f"{state:<4} {result.seconds:7.1f} s  {result.name}  {counts} {result.note}".rstrip()]
    text += [f"     | {line}" for line in lines if TARGET_RESULT.match(line)]
    if result.failed:
        text += [f"     | {line[:300]}" for line in failure_lines(result.name, lines)]
        if lines:
            text.append(f"     complete log: {result.log.relative_to(ROOT)}")
    print("\n".join(text), flush=True)


def failure_lines(name: str, lines: list[str]) -> list[str]:
    """Return the lines of a log that show why a step failed."""
    # The errors of the sanity tests stand between the output of pip.
    errors = [line for line in lines if name == "sanity" and SANITY_ERROR.match(line)]
    if errors:
        return errors[:TAIL_LINES]
    before_tail = enumerate(lines[:-TAIL_LINES])
    tasks = [number for number, line in before_tail if FAILED_TASK.match(line)][-3:]
    context = {number for task in tasks for number in range(max(task - 12, 0), task + 25)}
    return [lines[number] for number in sorted(context)] + lines[-TAIL_LINES:]


def record_flaky(names: list[str]) -> dict[str, int]:
    """Add flaky tests to the list in the cache; return how often each was flaky so far."""
    path = CACHE / "flaky.log"
    with path.open("a", encoding="utf-8") as stream:
        stream.writelines(f"{time.strftime('%Y-%m-%d')} {name}\n" for name in names)
    recorded = [
        line.partition(" ")[2].strip() for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return {name: recorded.count(name) for name in names}


def summary(results: list[Result], seconds: float) -> int:
    """Print the summary of all results and return the exit code."""
    longest = sorted(results, key=lambda result: -result.seconds)[:6]
    names = ", ".join(f"{result.name} {result.seconds:.0f} s" for result in longest)
    print(f"\n{seconds:.0f} s in total; the longest steps: {names}")
    steps = sum(result.steps for result in results)
    if steps:
        conditions = sum(result.conditions for result in results)
        print(f"in process: {steps} steps, {conditions} conditions")
    flaky = record_flaky([name for result in results for name in result.flaky])
    for name, times in flaky.items():
        print(f"flaky: {name} passed on the second try (recorded {times} times on this machine)")
    for result in results:
        if result.failed:
            print(f"failed: {result.name} {result.note}, see {result.log.relative_to(ROOT)}")
    passed = sum(result.passed for result in results)
    failed = sum(result.failed for result in results)
    if passed + failed == 0:
        print("nothing was run")
    return print_counts(passed, failed)


def main(words: list[str]) -> int:
    """Run the tests that the command line names."""
    os.chdir(ROOT)
    started = time.monotonic()
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another test run in this checkout", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        make_copy()
        make_home(HOME)
        steps = plan(words)
        signal.signal(signal.SIGTERM, lambda *_ignored: sys.exit(143))
        results = Runner(steps).run()
    return summary(results, time.monotonic() - started)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("stopped")
