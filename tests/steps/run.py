# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run targets in one warm process, on this host or on a host that ssh can reach.

    run.py [--ssh-config FILE --host NAME] [--variables JSON] [--logs FOLDER] TARGET ...

The targets are ordinary integration targets, which ansible-playbook can run as well. Here a module
takes some hundredths of a second instead of half a second. One line is printed for each target. A
target that fails is run once more, and is reported as flaky if it passes then.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import pathlib
import shlex
import shutil
import sys
import tempfile
import time
import typing

if typing.TYPE_CHECKING:
    from engine import Engine

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "scripts"))
from runner import print_counts, print_result


def parse(words: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="run.py", description="Run integration targets in one warm process."
    )
    parser.add_argument("targets", nargs="+", metavar="TARGET")
    parser.add_argument("--ssh-config", metavar="FILE", help="the ssh configuration for --host")
    parser.add_argument(
        "--host", metavar="NAME", default="localhost", help="the hypervisor (default: this host)"
    )
    parser.add_argument(
        "--python",
        metavar="PATH",
        default="/usr/bin/python3",
        help="the Python of the hypervisor (default %(default)s)",
    )
    parser.add_argument("--variables", metavar="JSON", default="{}", help="inventory variables")
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        default="/tmp/vlab-steps",
        help="the work folder of the targets on the hypervisor",
    )
    parser.add_argument(
        "--logs",
        metavar="FOLDER",
        help="default: a temporary folder, which is named if a target fails",
    )
    parser.add_argument("--tries", type=int, default=2)
    return parser.parse_args(words)


def load_ansible() -> None:
    """Load Ansible's plugins, with this checkout as the collection."""
    link = pathlib.Path(tempfile.mkdtemp(prefix="vlab-steps-")) / "ansible_collections/vlab/qemu"
    link.parent.mkdir(parents=True)
    link.symlink_to(CHECKOUT)
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(link.parents[2])
    from ansible.plugins.loader import init_plugin_loader

    init_plugin_loader()
    atexit.register(shutil.rmtree, link.parents[2], True)


def server_command(args: argparse.Namespace) -> list[str]:
    """Return the command that starts the server."""
    from channel import BOOTSTRAP

    local = [args.python, "-c", BOOTSTRAP]
    if not args.ssh_config:
        return local
    ssh = ["ssh", "-F", args.ssh_config, "-o", "ControlPath=none", args.host]
    return [*ssh, "exec " + shlex.join(local)]


def run_target(
    engine: Engine, target: str, output: str, log: pathlib.Path, tries: int
) -> tuple[str, str]:
    """Run a target, again if it fails; return ok, flaky or failed, and the reason of a failure."""
    from channel import ChannelFailure
    from engine import StepFailed
    from tables import TableError

    reason = ""
    for number in range(tries):
        with log.open("a", encoding="utf-8") as stream:
            engine.log = stream
            folder = "%s/%s" % (output, target)
            engine.variables.update(output_dir=folder)
            try:
                engine.channel.ask("folder", path=folder, present=True)
                try:
                    engine.run_target(target)
                finally:
                    engine.channel.ask("folder", path=folder, present=False)
                return ("flaky" if number else "ok"), reason
            except (StepFailed, TableError) as failure:
                reason = str(failure)
                stream.write("FAILED: %s\n" % reason)
            except ChannelFailure as failure:
                return "failed", str(failure)
    return "failed", reason


def run_and_report(
    args: argparse.Namespace, engine: Engine, target: str, logs: pathlib.Path
) -> bool:
    """Run a target, print its result, and return whether it passed."""
    started, before = time.monotonic(), (engine.steps, engine.conditions)
    log = logs / ("%s.%s.log" % (target, args.host))
    log.unlink(missing_ok=True)
    state, reason = run_target(engine, target, args.output, log, args.tries)
    if state == "flaky":
        print("flaky: %s on %s" % (target, args.host))
    steps, conditions = engine.steps - before[0], engine.conditions - before[1]
    text = "%s: %d steps, %d conditions" % (args.host, steps, conditions)
    print_result(state, target, time.monotonic() - started, text)
    for line in reason.splitlines():
        print("     | " + line)
    if state == "failed":
        print("     see %s" % log, flush=True)
    return state != "failed"


def main(words: list[str]) -> int:
    """Run the targets that the command line names; return the exit code."""
    args = parse(words)
    load_ansible()
    from channel import Channel
    from engine import Engine

    logs = pathlib.Path(args.logs or tempfile.mkdtemp(prefix="vlab-steps-logs-"))
    logs.mkdir(parents=True, exist_ok=True)
    channel = Channel(server_command(args))
    passed = 0
    try:
        variables = {
            "inventory_hostname": args.host,
            "ansible_check_mode": False,
            "ansible_diff_mode": False,
            **json.loads(args.variables),
        }
        engine = Engine(args.host, channel, variables, sys.stdout)
        imported = engine.prepare()
        print(
            "%s: Python %s imports %d modules"
            % (args.host, imported["python"], imported["imported"]),
            flush=True,
        )
        for target in args.targets:
            passed += run_and_report(args, engine, target, logs)
    finally:
        channel.close()
    return print_counts(passed, len(args.targets) - passed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
