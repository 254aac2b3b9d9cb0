# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take the steps of targets in one warm process: on this host, or on one that ssh reaches.

    run.py [--ssh-config FILE --host NAME] [--variables JSON] [--logs FOLDER] TARGET ...

The targets are ordinary integration targets, which ansible-playbook runs as well; here a module costs some hundredths of a
second instead of half a second. Prints a line for each target. A target that fails is run once more, and is reported as flaky
when it passes then.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py", description="Take the steps of targets in one warm process."
    )
    parser.add_argument("targets", nargs="+", metavar="TARGET")
    parser.add_argument("--ssh-config", metavar="FILE", help="with --host: how ssh reaches it")
    parser.add_argument(
        "--host", metavar="NAME", default="localhost", help="default: this host, without ssh"
    )
    parser.add_argument(
        "--python",
        metavar="PATH",
        default="/usr/bin/python3",
        help="of the hypervisor (default %(default)s)",
    )
    parser.add_argument(
        "--variables", metavar="JSON", default="{}", help="as an inventory would give them"
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        default="/tmp/vlab-steps",
        help="where targets work, on the hypervisor",
    )
    parser.add_argument(
        "--logs",
        metavar="FOLDER",
        help="default: a temporary folder, which is named when something failed",
    )
    parser.add_argument("--tries", type=int, default=2)
    return parser.parse_args(words)


def load() -> None:
    """Ansible's plugins, and ours, from this checkout."""
    link = pathlib.Path(tempfile.mkdtemp(prefix="vlab-steps-")) / "ansible_collections/vlab/qemu"
    link.parent.mkdir(parents=True)
    link.symlink_to(HERE.parents[1])
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(link.parents[2])
    from ansible.plugins.loader import init_plugin_loader

    init_plugin_loader()
    import atexit

    atexit.register(shutil.rmtree, link.parents[2], True)


def command(args: argparse.Namespace) -> list[str]:
    import shlex

    from channel import BOOTSTRAP

    here = [args.python, "-c", BOOTSTRAP]
    if not args.ssh_config:
        return here
    return [
        "ssh",
        "-F",
        args.ssh_config,
        "-o",
        "ControlPath=none",
        args.host,
        "exec " + shlex.join(here),
    ]


def take(
    args: argparse.Namespace, engine: "object", target: str, log: pathlib.Path
) -> "tuple[str, str]":
    """Take all steps of a target, and again when it fails. Returns ok, flaky or failed, and why."""
    from channel import ChannelFailure
    from engine import StepFailed
    from tables import TableError

    why = ""
    for number in range(args.tries):
        with log.open("a", encoding="utf-8") as stream:
            engine.log = stream
            folder = "%s/%s" % (args.output, target)
            engine.variables.update(output_dir=folder)
            try:
                engine.channel.ask("folder", path=folder, present=True)
                try:
                    engine.run_target(target)
                finally:
                    engine.channel.ask("folder", path=folder, present=False)
                return ("flaky" if number else "ok"), why
            except (StepFailed, TableError) as failure:
                why = str(failure)
                stream.write("FAILED: %s\n" % why)
            except ChannelFailure as failure:
                return "failed", str(failure)
    return "failed", why


def main(words: list[str]) -> int:
    args = parse(words)
    load()
    from channel import Channel
    from engine import Engine

    logs = pathlib.Path(args.logs or tempfile.mkdtemp(prefix="vlab-steps-logs-"))
    logs.mkdir(parents=True, exist_ok=True)
    channel = Channel(command(args))
    states: list[str] = []
    try:
        variables = {
            "inventory_hostname": args.host,
            "ansible_check_mode": False,
            "ansible_diff_mode": False,
            **json.loads(args.variables),
        }
        engine = Engine(args.host, channel, variables, sys.stdout)
        engine.gather_facts()
        imported = channel.ask("import_all")
        print(
            "%s: Python %s imports %d modules"
            % (args.host, imported["python"], imported["imported"]),
            flush=True,
        )
        for target in args.targets:
            started, before = time.monotonic(), (engine.steps, engine.conditions)
            log = logs / ("%s.%s.log" % (target, args.host))
            log.unlink(missing_ok=True)
            state, why = take(args, engine, target, log)
            states.append(state)
            if state == "flaky":
                print("flaky: %s on %s" % (target, args.host))
            print(
                "%-6s %-14s %6.1f s  %s: %d steps, %d conditions"
                % (
                    state,
                    target,
                    time.monotonic() - started,
                    args.host,
                    engine.steps - before[0],
                    engine.conditions - before[1],
                ),
                flush=True,
            )
            for line in why.splitlines():
                print("     | " + line)
            if state == "failed":
                print("     see %s" % log, flush=True)
    finally:
        channel.close()
    failed = states.count("failed") + len(args.targets) - len(states)
    print("%d passed, %d failed" % (len(args.targets) - failed, failed), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
