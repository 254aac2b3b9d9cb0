# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the commands of README.md on fresh machines.

    run.py [--command COMMAND --shows TEXT] [MACHINE/USER ...]

The default command is `make demo` twice, then `make demo-down`. The first call must start the lab,
the second must not change anything, and no QEMU may run after the last.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Sequence

from machine import CHECKOUT, RELEASES, USERS, WORK, Failure, machine, run

sys.path.insert(0, str(CHECKOUT / "scripts"))
from runner import print_counts, print_result

DEMO = "make demo && make demo && make demo-down && ! pgrep qemu-system"
DEMO_SHOWS = ("every loopback answers", "No changes: the lab is up", "The lab was removed")


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Run the commands of README.md on fresh machines.")
    parser.add_argument(
        "where",
        nargs="*",
        metavar="MACHINE/USER",
        help="default: all of %s with %s" % (", ".join(RELEASES), ", ".join(USERS)),
    )
    parser.add_argument("--command", default=DEMO)
    parser.add_argument("--shows", action="append", default=[], help="required text of the output")
    parser.add_argument("--timeout", type=int, default=1500, help="seconds for each")
    return parser.parse_args()


def test(name: str, user: str, command: str, shows: Sequence[str], timeout: int) -> bool:
    """Run a command as a user of a fresh machine; print the result and return it."""
    started = time.monotonic()
    WORK.mkdir(parents=True, exist_ok=True)
    log = WORK / ("%s.%s.log" % (name, user))
    log.unlink(missing_ok=True)
    with machine(name) as fresh:
        code, output = run(fresh, user, command, log, timeout)
    missing = [text for text in shows if text not in output]
    reason = ""
    if code:
        reason = "exit code %d" % code
    elif missing:
        reason = "does not show %s" % ", ".join(map(repr, missing))
    text = USERS[user] + (": " + reason if reason else "")
    print_result("failed" if reason else "ok", name, time.monotonic() - started, text)
    if reason:
        print("\n".join("     | " + line for line in output.splitlines()[-40:]))
        print("     see %s" % log, flush=True)
    return not reason


def main() -> int:
    """Run the tests that the command line names; return the exit code."""
    args = parse()
    pairs = [tuple(pair.split("/")) for pair in args.where] or list(
        itertools.product(RELEASES, USERS)
    )
    shows = args.shows or (DEMO_SHOWS if args.command == DEMO else ())
    passed = [test(name, user, args.command, shows, args.timeout) for name, user in pairs]
    return print_counts(passed.count(True), passed.count(False))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit("fresh: %s" % failure)
