# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the commands of README.md on machines that have nothing.

    run.py [--command COMMAND --shows TEXT] [MACHINE/USER ...]

Without a command: `make demo` twice and `make demo-down`. The first has to bring the lab up, the second must not change anything, and
after the last no QEMU runs.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time

from machine import RELEASES, USERS, WORK, Failure, machine, run

DEMO = "make demo && make demo && make demo-down && ! pgrep qemu-system"
SHOWN = ("every loopback answers", "Nothing had to be changed", "The lab is gone")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Run the commands of README.md on machines that have nothing."
    )
    parser.add_argument(
        "where",
        nargs="*",
        metavar="MACHINE/USER",
        help="default: all of %s with %s" % (", ".join(RELEASES), ", ".join(USERS)),
    )
    parser.add_argument("--command", default=DEMO)
    parser.add_argument("--shows", action="append", default=[], help="what the output must have")
    parser.add_argument("--timeout", type=int, default=900, help="seconds for each")
    args = parser.parse_args()
    places = [tuple(place.split("/")) for place in args.where] or list(
        itertools.product(RELEASES, USERS)
    )
    shown = args.shows or (SHOWN if args.command == DEMO else ())
    failed = 0
    for name, user in places:
        started = time.monotonic()
        WORK.mkdir(parents=True, exist_ok=True)
        log = WORK / ("%s.%s.log" % (name, user))
        log.unlink(missing_ok=True)
        with machine(name) as here:
            code, output = run(here, user, args.command, log, args.timeout)
        missing = [text for text in shown if text not in output]
        wrong = (
            "exit code %d" % code
            if code
            else "does not show %s" % ", ".join(map(repr, missing))
            if missing
            else ""
        )
        failed += bool(wrong)
        print(
            "%-6s %-10s %6.1f s  %s%s"
            % (
                "failed" if wrong else "ok",
                name,
                time.monotonic() - started,
                USERS[user],
                ": " + wrong if wrong else "",
            ),
            flush=True,
        )
        if wrong:
            print("\n".join("     | " + line for line in output.splitlines()[-40:]))
            print("     see %s" % log, flush=True)
    print("%d passed, %d failed" % (len(places) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit("fresh: %s" % failure)
