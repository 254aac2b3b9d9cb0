# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill runs of a playbook, and QEMUs, at points spread over a run; the next run must converge.

lab_kill.py FOLDER PLAYBOOK
"""

import os
import random
import signal
import subprocess
import time

from lab_watch import check_gone, check_running, expect, kill_qemus, processes, qemus, run, start

POINTS = 2


def kill(process, how):
    if how == "with its modules":
        os.killpg(process.pid, signal.SIGKILL)
        # QEMUs have sessions of their own; modules may have too.
        for pid, words in processes().items():
            if "python" in words[0]:
                os.kill(pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def kill_a_qemu(chance, deadline):
    """As soon as there are some: kill one."""
    while time.monotonic() < deadline:
        found = sorted(qemus())
        if len(found) > 1:
            victim = chance.choice(found)
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
            return True
        time.sleep(0.01)
    return False


def main():
    chance = random.Random(1)
    began = time.monotonic()
    expect(run("started"), "nothing was done")
    whole = time.monotonic() - began
    check_running("after the first run")
    expect(not run("started"), "a second run changed something")
    done = 0
    for state in ("started", "absent"):
        for how in ("alone", "with its modules"):
            for number in range(POINTS):
                run("absent" if state == "started" else "started")
                process = start(state)
                after = whole * (0.35 + 0.65 * (number + chance.random()) / POINTS)
                try:
                    process.wait(after)
                except subprocess.TimeoutExpired:
                    kill(process, how)
                run(state)
                when = "%s, killed %s after %.2f of %.2f s" % (state, how, after, whole)
                check_running(when) if state == "started" else check_gone(when)
                done += 1
    for number in range(POINTS):
        run("absent")
        process = start("started")
        expect(kill_a_qemu(chance, time.monotonic() + 60), "no QEMU came up")
        text = process.communicate(timeout=300)[0]
        expect(
            process.returncode in (0, 2) and "Traceback" not in text,
            "a run whose QEMU was killed: %s" % text,
        )
        run("started")
        check_running("a QEMU was killed")
        done += 1
    run("absent")
    check_gone("in the end")
    print("%d points, whole run %.2f s" % (done, whole))


try:
    main()
finally:
    kill_qemus()
