# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two controllers converge one lab at the same time, again and again.

lab_two.py FOLDER PLAYBOOK ROUNDS

Both bring it up, or one does while the other one removes it. Each run succeeds, and whatever came
last holds as a whole: one QEMU for each node and one hub, or nothing. The next run completes it.
"""

import random
import sys
import time

from lab_watch import (
    check_gone,
    check_running,
    expect,
    kill_qemus,
    processes,
    qemus,
    run,
    start,
)

PAIRS = (("started", "started"), ("started", "absent"), ("absent", "absent"))
MAX_DELAY = 1.5  # seconds: most of the second run falls into the first one


def end(process, when):
    text = process.communicate(timeout=300)[0]
    expect(process.returncode == 0 and "Traceback" not in text, "%s: %s" % (when, text))
    return "changed=0" not in text


def both(states, delay):
    """Run two playbooks, the second one after a delay; return whether each changed something."""
    first = start(states[0])
    time.sleep(delay)
    second = start(states[1])
    when = "%s beside %s, after %.2f s" % (states[1], states[0], delay)
    return [end(first, when), end(second, when)], when


def main():
    chance, rounds = random.Random(1), int(sys.argv[3])
    for number in range(rounds):
        states = PAIRS[number % len(PAIRS)]
        run("started" if states == ("absent", "absent") else "absent")
        changed, when = both(states, chance.uniform(0, MAX_DELAY))
        if states[0] == states[1]:
            expect(sorted(changed) == [False, True], "%s: changed %s" % (when, changed))
            check_running(when) if states[0] == "started" else check_gone(when)
            continue
        # Either order is right; a part of both is not.
        check_running(when) if qemus() else check_gone(when)
        run("started")
        check_running(when)
        expect(not run("started"), "%s: the run after that changed something" % when)
    run("absent")
    check_gone("in the end")
    expect(not processes(), "processes are left")
    print("%d rounds of two controllers" % rounds)


try:
    main()
finally:
    kill_qemus()
