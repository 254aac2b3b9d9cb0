# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the tests, two steps at a time, goes on after a failure, and ends with a summary.

    python scripts/run_tests.py [all | fast | nightly | lint | sanity | units | docs-lint | site | build | integration [TARGET...] | testbed] ...

ansible-test and the collection loader want a path that ends in ansible_collections/vlab/qemu, so what needs that happens in a copy
of the tree below .cache/test. Logs are in .cache/test/logs. The steps are defined in test_plan.py.
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
from sanity import make_home, working_path
from test_plan import BIN, CACHE, COPY, ROOT, WORK, Step, plan

LOGS = WORK / "logs"
HOME = CACHE / "home"
TAIL = 40
WORKERS = 2
# What is still running or waiting then has failed, so that there is a summary before somebody outside ends the run, in seconds.
LIMIT = int(os.environ.get("VLAB_TEST_LIMIT") or 4800)
ERROR = re.compile(r"^(ERROR|FATAL)\b")
# What ansible-playbook says of a task that failed; an "always" section may run long after it.
FATAL = re.compile(r"^(fatal|failed): \[")
# What the test bed, the steps in process, and pages of examples say of each target.
DETAIL = re.compile(r"^(ok|flaky|failed) +\S+ +[0-9.]+ s |^not run: ")
FLAKY = re.compile(r"^ *-? *flaky:? +(.*)")
# What pytest -rf says.
FAILED_CASE = re.compile(r"^FAILED (\S+)", re.MULTILINE)
COUNTED = re.compile(r": (\d+) steps, (\d+) conditions$")


@dataclasses.dataclass
class Result:
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


def environment(own_home: bool) -> dict[str, str]:
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
    )
    if own_home:
        env["HOME"] = str(HOME)
    return env


def stop(process: subprocess.Popen) -> None:
    """A step has a session of its own, so its children end with it, and nothing else does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Runner:
    """Takes steps with two workers until none is left or the time is over."""

    def __init__(self, steps: list[Step]) -> None:
        self.waiting, self.running, self.processes = list(steps), [], set()
        self.results: list[Result] = []
        self.changed = threading.Condition()
        self.deadline = time.monotonic() + LIMIT
        self.given_up = False

    def run(self) -> list[Result]:
        workers = [threading.Thread(target=self._work, daemon=True) for _number in range(WORKERS)]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                while worker.is_alive():
                    worker.join(1)
                    if time.monotonic() > self.deadline and not self.given_up:
                        self.give_up()
        except BaseException:
            self.give_up()
            raise
        for step in self.waiting:
            self.results.append(
                Result(
                    step.name,
                    0,
                    1,
                    0,
                    LOGS / "none",
                    f"did not run: the limit of {LIMIT} s was reached",
                )
            )
            print(f"FAIL  {step.name} did not run", flush=True)
        return self.results

    def give_up(self) -> None:
        self.given_up = True
        with self.changed:
            self.changed.notify_all()
        for process in list(self.processes):
            stop(process)

    def _ready(self) -> Optional[Step]:
        unfinished = {step.name for step in [*self.waiting, *self.running]}
        busy = {step.alone for step in self.running if step.alone}
        return next(
            (
                step
                for step in self.waiting
                if not unfinished & set(step.after) and step.alone not in busy
            ),
            None,
        )

    def _work(self) -> None:
        while True:
            with self.changed:
                step = self._ready()
                while step is None and self.waiting and not self.given_up:
                    self.changed.wait()
                    step = self._ready()
                if step is None or self.given_up:
                    return
                self.waiting.remove(step)
                self.running.append(step)
            try:
                self._take(step)
            finally:
                with self.changed:
                    self.running.remove(step)
                    self.changed.notify_all()

    def _take(self, step: Step) -> None:
        try:
            result = self._once(step)
            if result.failed and step.tries > 1 and not self.given_up:
                report(result)
                result = self._again(step, result)
        except Exception as error:  # a worker that ends in silence would look like a pass
            result = Result(step.name, 0, 1, 0, LOGS / "none", f"could not be run: {error!r}")
        self.results.append(result)
        report(result)

    def _again(self, step: Step, first: Result) -> Result:
        """A second try: of the cases that failed, where the step can be asked for them."""
        cases = (
            FAILED_CASE.findall(first.log.read_text(encoding="utf-8", errors="replace"))
            if step.retry
            else []
        )
        result = self._once(dataclasses.replace(step, command=step.retry) if step.retry else step)
        if not result.failed:
            result.flaky += cases or [step.name]
            result.note += " at the second try"
        if step.retry:
            result.passed += first.passed
        return result

    def _once(self, step: Step) -> Result:
        log = LOGS / f"{step.name.replace('/', '-').replace(' ', '-')}.log"
        started = time.monotonic()
        note = ""
        with log.open("w", encoding="utf-8") as sink:
            process = subprocess.Popen(
                step.command,
                cwd=step.where,
                env=environment(step.own_home),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.processes.add(process)
            try:
                status = process.wait(step.timeout)
            except subprocess.TimeoutExpired:
                stop(process)
                status, note = 124, f"stopped after {step.timeout} s"
            finally:
                self.processes.discard(process)
        text = log.read_text(encoding="utf-8", errors="replace")
        passed, failed = (
            step.count(text, status) if step.count else ((1, 0) if status == 0 else (0, 1))
        )
        if status != 0 and failed == 0:
            failed = 1
        result = Result(step.name, passed, failed, time.monotonic() - started, log, note)
        for line in text.splitlines():
            counted, flaky = COUNTED.search(line), FLAKY.match(line)
            if counted:
                result.steps += int(counted.group(1))
                result.conditions += int(counted.group(2))
            if flaky and "steps," not in line:
                result.flaky.append(flaky.group(1))
        return result


def report(result: Result) -> None:
    state = "FAIL" if result.failed else "ok" if result.passed else "none"
    counts = (
        f"{result.passed} passed, {result.failed} failed"
        if result.passed + result.failed > 1
        else ""
    )
    lines = (
        result.log.read_text(encoding="utf-8", errors="replace").splitlines()
        if result.log.exists()
        else []
    )
    text = [f"{state:<4} {result.seconds:7.1f} s  {result.name}  {counts} {result.note}".rstrip()]
    text += [f"     | {line}" for line in lines if DETAIL.match(line)]
    if result.failed:
        # What sanity tests find is scattered in what pip says.
        errors = [line for line in lines if result.name == "sanity" and ERROR.match(line)]
        fatal = [number for number, line in enumerate(lines[:-TAIL]) if FATAL.match(line)][-3:]
        around = {
            number for start in fatal for number in range(start - 12, start + 25) if number >= 0
        }
        text += [
            f"     | {line[:300]}"
            for line in errors[:TAIL]
            or [lines[number] for number in sorted(around)] + lines[-TAIL:]
        ]
        if lines:
            text.append(f"     all of it: {result.log.relative_to(ROOT)}")
    print("\n".join(text), flush=True)


def remember(flaky: list[str]) -> dict[str, int]:
    """Note in the cache what was flaky; return how often each of these was, this time included."""
    path = CACHE / "flaky.log"
    with path.open("a", encoding="utf-8") as stream:
        stream.writelines(f"{time.strftime('%Y-%m-%d')} {name}\n" for name in flaky)
    known = [
        line.partition(" ")[2].strip() for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return {name: known.count(name) for name in flaky}


def summary(results: list[Result], seconds: float) -> int:
    print(
        f"\n{seconds:.0f} s in all; the longest steps: "
        + ", ".join(
            f"{result.name} {result.seconds:.0f} s"
            for result in sorted(results, key=lambda one: -one.seconds)[:6]
        )
    )
    steps, conditions = (
        sum(result.steps for result in results),
        sum(result.conditions for result in results),
    )
    if steps:
        print(f"in process: {steps} steps, {conditions} conditions")
    for name, times in remember([name for result in results for name in result.flaky]).items():
        print(f"flaky: {name} passed at the second try (noted {times} times on this machine)")
    for result in results:
        if result.failed:
            print(f"failed: {result.name} {result.note}, see {result.log.relative_to(ROOT)}")
    passed, failed = (
        sum(result.passed for result in results),
        sum(result.failed for result in results),
    )
    if passed + failed == 0:
        print("nothing ran")
    print(f"{passed} passed, {failed} failed", flush=True)
    return 0 if passed and not failed else 1


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
