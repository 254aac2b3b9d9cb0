# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run integration targets on the test bed; units.py says which, where and how.

Hypervisors that are free take the next unit, so that up to three are at work at once. A unit that fails is run once more where it
failed: guests under emulation are late on a busy machine. What passes then is reported as flaky, what does not has failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import testbed
from layout import CACHE, CHECKOUT, HYPERVISORS, INVENTORY, SSH_CONFIG, WARM, Failure
from units import ACROSS, EACH, PLAIN, STEPS, TARGETS, all_targets, make_units, playbook_of

LOGS = CACHE / "logs"
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+) .*unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
STEP_RESULT = re.compile(r"^(ok|flaky|failed) +(\S+) +[0-9.]+ s ")
# Seconds for one target by ansible-playbook, and for all targets whose steps are taken in process on one hypervisor.
PLAYBOOK_TIMEOUT, STEPS_TIMEOUT = 900, 1500
# The exit code of a program that was stopped when its time was over, as of timeout(1).
LATE = 124


def ansible_playbook():
    ours = CHECKOUT / ".venv" / "bin" / "ansible-playbook"
    found = str(ours) if ours.exists() else shutil.which("ansible-playbook")
    if not found:
        raise Failure("no ansible-playbook: run `make setup` first")
    return found


def collections():
    """A path that ends as the loader wants it, whatever the checkout is called."""
    link = CACHE / "collections" / "ansible_collections" / "vlab" / "qemu"
    if not link.is_symlink() or link.resolve() != CHECKOUT:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(CHECKOUT)
    return str(link.parents[2])


def environment():
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
    """One run of the test bed: what is free, what is at work, and what came out."""

    def __init__(self, hosts, verbose, plain=False):
        """Start with all hosts free. plain: use the plain interpreter everywhere."""
        self.hosts, self.verbose, self.plain = hosts, verbose, plain
        self.free = set(hosts)
        self.changed = threading.Condition()
        self.running = set()
        self.results = []  # (target, host, '' or what is wrong)
        self.flaky = []
        self.tasks = 0
        self.stopped = False

    # --- Who runs what ---

    def everything(self, units):
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
        failed = sum(1 for _target, _host, wrong in self.results if wrong)
        return len(self.results) - failed, failed

    def _work(self, waiting):
        while True:
            with self.changed:
                while True:
                    if self.stopped or not waiting:
                        return
                    unit = self._next(waiting)
                    if unit:
                        break
                    self.changed.wait()
                waiting.remove(unit)
                taken = unit._replace(hosts=unit.hosts or (sorted(self.free)[0],))
                self.free -= set(taken.hosts)
            try:
                self._steps(taken) if taken.how == STEPS else self._target(taken)
            except Exception as error:  # a worker that ends in silence would look like a pass
                self._note(
                    taken.targets[0],
                    {host: "the runner failed: %r" % error for host in taken.hosts},
                    taken.hosts,
                )
                raise
            finally:
                with self.changed:
                    self.free |= set(taken.hosts)
                    self.changed.notify_all()

    def _next(self, waiting):
        """The first unit whose hypervisors are free. One that needs all of them waits for those before it."""
        for unit in waiting:
            if set(unit.hosts) <= self.free and self.free:
                return unit
            if set(unit.hosts) == set(self.hosts):
                return None
        return None

    def stop(self):
        self.stopped = True
        for process in list(self.running):
            end(process)

    def _call(self, argv, log, timeout, on_line=None):
        """Run a program whose output goes to a log; return its exit code, LATE when it was stopped."""
        with open(log, "w", encoding="utf-8") as output:
            process = subprocess.Popen(
                argv,
                env=environment(),
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self.running.add(process)
            late = threading.Timer(timeout, end, [process])
            late.start()
            try:
                for line in process.stdout:
                    output.write(line)
                    if self.verbose:
                        print(line, end="", flush=True)
                    if on_line:
                        on_line(line.rstrip("\n"))
                process.wait()
                return LATE if not late.is_alive() else process.returncode
            finally:
                late.cancel()
                self.running.discard(process)

    # --- In process ---

    def _steps(self, unit):
        (host,) = unit.hosts
        left = list(unit.targets)
        before = testbed.running_qemu(host)

        def line(text):
            match = STEP_RESULT.match(text)
            if match:
                left.remove(match.group(2))
                self.results.append(
                    (match.group(2), host, "" if match.group(1) != "failed" else "failed")
                )
                if match.group(1) == "flaky":
                    self.flaky.append("%s on %s" % (match.group(2), host))
            if not self.verbose and not text.startswith("flaky: ") and not text.endswith(" failed"):
                print(text, flush=True)

        variables = {
            "testbed_qemu": HYPERVISORS[host].qemu,
            "testbed_images": testbed.state(host)["images"],
        }
        argv = [
            sys.executable,
            str(CHECKOUT / "tests/steps/run.py"),
            "--ssh-config",
            str(SSH_CONFIG),
            "--host",
            host,
            "--variables",
            json.dumps(variables),
            "--output",
            "/tmp/testbed",
            "--logs",
            str(LOGS),
            *unit.targets,
        ]
        code = self._call(
            [ours_python(), *argv[1:]], LOGS / ("steps.%s.log" % host), STEPS_TIMEOUT, line
        )
        self.results += [(target, host, "did not run") for target in left]
        for target in left:
            print("failed %s on %s: it did not run" % (target, host), flush=True)
        remaining = testbed.running_qemu(host) - before
        if remaining or code == LATE:
            why = (
                "left %d QEMU running" % len(remaining)
                if remaining
                else "stopped after %d s" % STEPS_TIMEOUT
            )
            print("failed steps on %s: %s" % (host, why), flush=True)
            self.results.append(("steps", host, why))

    # --- By ansible-playbook ---

    def _target(self, unit):
        (target,) = unit.targets
        started = time.monotonic()
        wrong = self._play(target, unit.hosts)
        if wrong:
            self._show(target)
            print(
                "%s: a second try on %s, which said: %s"
                % (target, ", ".join(wrong), ", ".join(wrong.values())),
                flush=True,
            )
            # A playbook of its own has all hypervisors in one play: none can be left out.
            hosts, first = unit.hosts if unit.how == ACROSS else tuple(wrong), wrong
            wrong = self._play(target, hosts)
            self.flaky += ["%s on %s" % (target, host) for host in first if host not in wrong]
        self._note(target, wrong, unit.hosts, time.monotonic() - started)
        if wrong:
            self._show(target)

    def _note(self, target, wrong, hosts, seconds=0):
        self.results += [(target, host, wrong.get(host, "")) for host in hosts]
        print(
            "%-6s %-14s %6.1f s  %s"
            % (
                "failed" if wrong else "ok",
                target,
                seconds,
                ", ".join(
                    "%s%s" % (host, ": " + wrong[host] if host in wrong else "") for host in hosts
                ),
            ),
            flush=True,
        )

    def _play(self, target, hosts):
        """Run one target; return the hypervisors it failed on, each with why."""
        argv = [
            ansible_playbook(),
            "-i",
            str(INVENTORY),
            *([] if self.plain or target in PLAIN else ["-i", str(WARM / "testbed.yml")]),
            "--limit",
            ",".join(hosts),
            "-e",
            "testbed_target=" + target,
            playbook_of(target),
        ]
        config = TARGETS.parent / "integration_config.yml"
        if config.exists():
            argv += ["-e", "@%s" % config]
        if self.verbose:
            argv.append("-" + "v" * self.verbose)
        before = {name: testbed.running_qemu(name) for name in hosts}
        log = LOGS / (target + ".log")
        code = self._call(argv, log, PLAYBOOK_TIMEOUT)
        found = RECAP.findall(log.read_text(encoding="utf-8", errors="replace"))
        recap = {name: (int(unreachable), int(failed)) for name, _ok, unreachable, failed in found}
        self.tasks += sum(int(ok) for _name, ok, _unreachable, _failed in found)
        wrong = {}
        for name in hosts:
            left = testbed.running_qemu(name) - before[name]
            if code == LATE:
                wrong[name] = "stopped after %d s" % PLAYBOOK_TIMEOUT
            elif name not in recap:
                wrong[name] = "did not run"
            elif any(recap[name]):
                wrong[name] = "unreachable" if recap[name][0] else "failed"
            elif left:
                wrong[name] = "left %d QEMU running" % len(left)
        if code and not wrong:
            wrong = dict.fromkeys(hosts, "exit code %d" % code)
        return wrong

    def _show(self, target):
        """The end of a target's log, and the tasks that failed."""
        log = LOGS / (target + ".log")
        text = log.read_text(encoding="utf-8", errors="replace")
        if not self.verbose:
            for failure in list(re.finditer(r"^(fatal|failed): \[", text, re.MULTILINE))[-4:]:
                print(text[max(0, failure.start() - 400) : failure.start() + 1500])
                print("    ...")
            print(text[-1500:])
        print("    see %s" % log, flush=True)


def ours_python():
    """The Python that has Ansible."""
    ours = CHECKOUT / ".venv" / "bin" / "python"
    return str(ours) if ours.exists() else sys.executable


def end(process):
    """End a program and what it started."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def parse():
    parser = argparse.ArgumentParser(
        prog="run", description="Run integration targets on the test bed."
    )
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help="default: every target of the test bed"
    )
    parser.add_argument(
        "--limit", metavar="NAME[,NAME]", help="only these hypervisors (default: all)"
    )
    parser.add_argument("--skip", metavar="NAME[,NAME]", default="", help="not these targets")
    parser.add_argument(
        "--through-ansible",
        action="store_true",
        help="every target by ansible-playbook and on every hypervisor, also those whose steps are taken in process",
    )
    parser.add_argument(
        "--list", action="store_true", help="print the targets, how each is run, and end"
    )
    parser.add_argument("--keep", action="store_true", help="leave the test bed up")
    parser.add_argument(
        "-v",
        action="count",
        default=0,
        dest="verbose",
        help="show what Ansible prints; more for more",
    )
    args = parser.parse_args()
    args.hosts = args.limit.split(",") if args.limit else list(HYPERVISORS)
    everything = all_targets()
    unknown = [name for name in args.hosts if name not in HYPERVISORS]
    unknown += [
        name for name in args.targets if name not in everything and not (TARGETS / name).is_dir()
    ]
    if unknown:
        parser.error("unknown: %s" % ", ".join(unknown))
    skipped = args.skip.split(",")
    args.chosen = {
        name: everything.get(name) or EACH
        for name in args.targets or everything
        if name not in skipped
    }
    if args.through_ansible:
        args.chosen = {name: how if how == ACROSS else EACH for name, how in args.chosen.items()}
    return args


def main():
    args = parse()
    if args.list:
        for name, how in args.chosen.items():
            print("%-9s  %s" % (how, name))
        return 0

    # So that a run that is told to end takes the test bed down as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    LOGS.mkdir(parents=True, exist_ok=True)
    run = Run(args.hosts, args.verbose, args.through_ansible)
    started = testbed.up(args.hosts)
    try:
        passed, failed = run.everything(make_units(args.chosen, args.hosts))
    finally:
        run.stop()
        if started and not args.keep:
            testbed.down(started)
    for name in run.flaky:
        print("flaky: %s" % name)
    print("%d tasks by ansible-playbook" % run.tasks)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit("testbed: %s" % failure)
