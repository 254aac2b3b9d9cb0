# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run integration targets on the test bed. units.py defines which, where and how.

A free hypervisor gets the next unit. A unit that fails is run once more on the hypervisors where
it failed, because guests under emulation are slow on a busy machine. If it passes then, it is
reported as flaky, otherwise as failed.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import sys
import threading
import time
import typing

import testbed
from layout import CACHE, CHECKOUT, HYPERVISORS, INVENTORY, SSH_CONFIG, WARM, Failure
from units import ACROSS, EACH, PLAIN, STEPS, TARGETS, Unit, all_targets, make_units, playbook_of

sys.path.insert(0, str(CHECKOUT / "scripts"))
from runner import TIMED_OUT, LineHandler, Programs, print_counts, print_result

LOGS = CACHE / "logs"
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+) .*unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
STEP_RESULT = re.compile(r"^(ok|flaky|failed) +(\S+) +[0-9.]+ s ")
# Seconds for one target by ansible-playbook, and for all in-process targets of one hypervisor.
PLAYBOOK_TIMEOUT, STEPS_TIMEOUT = 900, 1500
# Seconds that a program may take to end after SIGTERM.
GRACE = 10
# What targets do only with --through-ansible, as variables.
NIGHTLY_VARIABLES = {"lab_appliances": '{"lab_appliances_all": true}'}


def ansible_playbook() -> str:
    """Return the path of ansible-playbook, preferably that of the virtual environment."""
    in_venv = CHECKOUT / ".venv" / "bin" / "ansible-playbook"
    found = str(in_venv) if in_venv.exists() else shutil.which("ansible-playbook")
    if not found:
        raise Failure("ansible-playbook is missing: run `make setup` first")
    return found


def python_with_ansible() -> str:
    """Return the path of a Python that can import Ansible."""
    in_venv = CHECKOUT / ".venv" / "bin" / "python"
    return str(in_venv) if in_venv.exists() else sys.executable


def collections() -> str:
    """Return a collections path below which ansible_collections/vlab/qemu is this checkout."""
    link = CACHE / "collections" / "ansible_collections" / "vlab" / "qemu"
    if not link.is_symlink() or link.resolve() != CHECKOUT:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(CHECKOUT)
    return str(link.parents[2])


def environment() -> dict[str, str]:
    """Return the environment of the programs that run targets."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    env.update(
        {
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": collections(),
            "ANSIBLE_ROLES_PATH": str(TARGETS),
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
        }
    )
    return env


class Run:
    """One run of the test bed: the free hypervisors, the running programs, and the results."""

    def __init__(self, hosts: list[str], verbose: int, plain: bool = False) -> None:
        """Start with all hosts free. plain: use the plain interpreter for all targets."""
        self.hosts, self.verbose, self.plain = hosts, verbose, plain
        self.free = set(hosts)
        self.changed = threading.Condition()
        self.programs = Programs(GRACE)
        self.results: list[tuple[str, str, str]] = []  # target, host, reason of the failure
        self.flaky: list[str] = []
        self.tasks = 0
        self.stopped = False

    # --- Scheduling ---

    def run_all(self, units: list[Unit]) -> tuple[int, int]:
        """Run all units; return (passed, failed)."""
        waiting = list(units)
        workers = [
            threading.Thread(target=self._work, args=(waiting,), daemon=True)
            for _host in self.hosts
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        failed = sum(1 for _target, _host, reason in self.results if reason)
        return len(self.results) - failed, failed

    def _work(self, waiting: list[Unit]) -> None:
        """Run units one after the other; the body of a worker thread."""
        while True:
            unit = self._take(waiting)
            if unit is None:
                return
            try:
                self._run_steps(unit) if unit.how == STEPS else self._run_target(unit)
            except Exception as error:  # a silent end of the worker would look like a pass
                reason = "the runner failed: %r" % error
                self._add_results(unit.targets[0], dict.fromkeys(unit.hosts, reason), unit.hosts)
                raise
            finally:
                with self.changed:
                    self.free |= set(unit.hosts)
                    self.changed.notify_all()

    def _take(self, waiting: list[Unit]) -> typing.Optional[Unit]:
        """Wait for a unit that can start and reserve its hypervisors; return None at the end."""
        with self.changed:
            while not self.stopped and waiting:
                unit = self._next(waiting)
                if unit:
                    waiting.remove(unit)
                    unit = unit._replace(hosts=unit.hosts or (sorted(self.free)[0],))
                    self.free -= set(unit.hosts)
                    return unit
                self.changed.wait()
            return None

    def _next(self, waiting: list[Unit]) -> typing.Optional[Unit]:
        """Return the first unit whose hypervisors are free.

        A unit that needs all hypervisors is not overtaken by those behind it.
        """
        for unit in waiting:
            if set(unit.hosts) <= self.free and self.free:
                return unit
            if set(unit.hosts) == set(self.hosts):
                return None
        return None

    def stop(self) -> None:
        """Start no more units and end the running programs."""
        self.stopped = True
        self.programs.end_all()

    def _run(
        self,
        argv: list[str],
        log: pathlib.Path,
        timeout: float,
        on_line: typing.Optional[LineHandler] = None,
    ) -> int:
        """Run a program whose output goes to a log; return its exit code or TIMED_OUT."""

        def handle(line: str) -> None:
            if self.verbose:
                print(line, flush=True)
            if on_line:
                on_line(line)

        return self.programs.run(
            argv, log, timeout, cwd=CHECKOUT, env=environment(), on_line=handle
        )

    # --- In process ---

    def _run_steps(self, unit: Unit) -> None:
        """Run targets in process on one hypervisor."""
        (host,) = unit.hosts
        pending = list(unit.targets)
        before = testbed.running_qemu(host)

        def on_line(text: str) -> None:
            match = STEP_RESULT.match(text)
            if match:
                state, target = match.groups()
                pending.remove(target)
                self.results.append((target, host, "failed" if state == "failed" else ""))
                if state == "flaky":
                    self.flaky.append("%s on %s" % (target, host))
            if not self.verbose and not text.startswith("flaky: ") and not text.endswith(" failed"):
                print(text, flush=True)

        log = LOGS / ("steps.%s.log" % host)
        code = self._run(steps_command(host, unit.targets), log, STEPS_TIMEOUT, on_line)
        self.results += [(target, host, "did not run") for target in pending]
        for target in pending:
            print("failed %s on %s: it did not run" % (target, host), flush=True)
        left = testbed.running_qemu(host) - before
        reason = ""
        if left:
            reason = "left %d QEMU running" % len(left)
        elif code == TIMED_OUT:
            reason = "stopped after %d s" % STEPS_TIMEOUT
        if reason:
            print("failed steps on %s: %s" % (host, reason), flush=True)
            self.results.append(("steps", host, reason))

    # --- By ansible-playbook ---

    def _run_target(self, unit: Unit) -> None:
        """Run one target by ansible-playbook, and once more where it failed."""
        (target,) = unit.targets
        started = time.monotonic()
        failures = self._run_playbook(target, unit.hosts)
        if failures:
            self._show_log(target)
            print(
                "%s: second try on %s; the first try: %s"
                % (target, ", ".join(failures), ", ".join(failures.values())),
                flush=True,
            )
            # A playbook of its own has one play for all hypervisors and needs all of them.
            first = failures
            hosts = unit.hosts if unit.how == ACROSS else tuple(first)
            failures = self._run_playbook(target, hosts)
            self.flaky += ["%s on %s" % (target, host) for host in first if host not in failures]
        self._add_results(target, failures, unit.hosts, time.monotonic() - started)
        if failures:
            self._show_log(target)

    def _add_results(
        self,
        target: str,
        failures: dict[str, str],
        hosts: typing.Sequence[str],
        seconds: float = 0,
    ) -> None:
        """Add and print the result of a target on each of its hypervisors."""
        self.results += [(target, host, failures.get(host, "")) for host in hosts]
        texts = [host + (": " + failures[host] if host in failures else "") for host in hosts]
        print_result("failed" if failures else "ok", target, seconds, ", ".join(texts))

    def _run_playbook(self, target: str, hosts: typing.Sequence[str]) -> dict[str, str]:
        """Run one target; return the hypervisors it failed on, each with the reason."""
        before = {host: testbed.running_qemu(host) for host in hosts}
        log = LOGS / (target + ".log")
        code = self._run(self._playbook_command(target, hosts), log, PLAYBOOK_TIMEOUT)
        found = RECAP.findall(log.read_text(encoding="utf-8", errors="replace"))
        recap = {host: (int(unreachable), int(failed)) for host, _ok, unreachable, failed in found}
        self.tasks += sum(int(ok) for _host, ok, _unreachable, _failed in found)
        failures = {}
        for host in hosts:
            left = testbed.running_qemu(host) - before[host]
            if code == TIMED_OUT:
                failures[host] = "stopped after %d s" % PLAYBOOK_TIMEOUT
            elif host not in recap:
                failures[host] = "did not run"
            elif any(recap[host]):
                failures[host] = "unreachable" if recap[host][0] else "failed"
            elif left:
                failures[host] = "left %d QEMU running" % len(left)
        if code and not failures:
            failures = dict.fromkeys(hosts, "exit code %d" % code)
        return failures

    def _playbook_command(self, target: str, hosts: typing.Sequence[str]) -> list[str]:
        """Return the ansible-playbook command for one target."""
        command = [ansible_playbook(), "-i", str(INVENTORY)]
        if not self.plain and target not in PLAIN:
            command += ["-i", str(WARM / "testbed.yml")]
        command += ["--limit", ",".join(hosts), "-e", "testbed_target=" + target]
        command.append(playbook_of(target))
        if self.plain and target in NIGHTLY_VARIABLES:
            command += ["-e", NIGHTLY_VARIABLES[target]]
        config = TARGETS.parent / "integration_config.yml"
        if config.exists():
            command += ["-e", "@%s" % config]
        if self.verbose:
            command.append("-" + "v" * self.verbose)
        return command

    def _show_log(self, target: str) -> None:
        """Print the failed tasks and the end of a target's log."""
        log = LOGS / (target + ".log")
        text = log.read_text(encoding="utf-8", errors="replace")
        if not self.verbose:
            for failure in list(re.finditer(r"^(fatal|failed): \[", text, re.MULTILINE))[-4:]:
                print(text[max(0, failure.start() - 400) : failure.start() + 1500])
                print("    ...")
            print(text[-1500:])
        print("    see %s" % log, flush=True)


def steps_command(host: str, targets: typing.Sequence[str]) -> list[str]:
    """Return the command that runs targets in process on a hypervisor."""
    variables = {
        "testbed_qemu": HYPERVISORS[host].qemu,
        "testbed_images": (testbed.state(host) or {})["images"],
    }
    return [
        python_with_ansible(),
        str(CHECKOUT / "tests/steps/run.py"),
        *("--ssh-config", str(SSH_CONFIG), "--host", host),
        *("--variables", json.dumps(variables), "--output", "/tmp/testbed", "--logs", str(LOGS)),
        *targets,
    ]


def parse() -> argparse.Namespace:
    """Parse and check the command line; `chosen` maps each target to how it is run."""
    parser = argparse.ArgumentParser(
        prog="run", description="Run integration targets on the test bed."
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all targets")
    parser.add_argument("--limit", metavar="NAME[,NAME]", help="the hypervisors (default: all)")
    parser.add_argument(
        "--skip", metavar="NAME[,NAME]", default="", help="targets that are not run"
    )
    parser.add_argument(
        "--through-ansible",
        action="store_true",
        help="run all targets by ansible-playbook on every hypervisor, not in process",
    )
    parser.add_argument(
        "--list", action="store_true", help="list the targets and how each is run, then exit"
    )
    parser.add_argument("--keep", action="store_true", help="do not stop the test bed at the end")
    parser.add_argument(
        "-v",
        action="count",
        default=0,
        dest="verbose",
        help="show the output of Ansible; repeat for more",
    )
    args = parser.parse_args()
    args.hosts = args.limit.split(",") if args.limit else list(HYPERVISORS)
    known = all_targets()
    unknown = [name for name in args.hosts if name not in HYPERVISORS]
    unknown += [
        name for name in args.targets if name not in known and not (TARGETS / name).is_dir()
    ]
    if unknown:
        parser.error("unknown: %s" % ", ".join(unknown))
    skipped = args.skip.split(",")
    args.chosen = {
        name: known.get(name) or EACH for name in args.targets or known if name not in skipped
    }
    if args.through_ansible:
        args.chosen = {name: how if how == ACROSS else EACH for name, how in args.chosen.items()}
    return args


def main() -> int:
    """Run the targets that the command line names; return the exit code."""
    args = parse()
    if args.list:
        for name, how in args.chosen.items():
            print("%-9s  %s" % (how, name))
        return 0

    # Turn SIGTERM into an exception, so that the test bed is taken down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    LOGS.mkdir(parents=True, exist_ok=True)
    run = Run(args.hosts, args.verbose, args.through_ansible)
    started = testbed.up(args.hosts)
    try:
        passed, failed = run.run_all(make_units(args.chosen, args.hosts))
    finally:
        run.stop()
        if started and not args.keep:
            testbed.down(started)
    for name in run.flaky:
        print("flaky: %s" % name)
    print("%d tasks by ansible-playbook" % run.tasks)
    return print_counts(passed, failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit("testbed: %s" % failure)
