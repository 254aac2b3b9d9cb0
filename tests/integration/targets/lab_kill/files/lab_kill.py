# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill runs of a playbook, and QEMUs, at points spread over a run; the next run must converge.

lab_kill.py FOLDER PLAYBOOK
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

FOLDER, PLAYBOOK = pathlib.Path(sys.argv[1]), sys.argv[2]
ROOT = FOLDER / "lab"
NODES = ["n1", "n2", "n3", "n4"]
POINTS = 2


def expect(holds, what):
    if not holds:
        sys.exit("FAILED " + what)


def start(state):
    return subprocess.Popen(
        [
            "ansible-playbook",
            PLAYBOOK,
            "-e",
            json.dumps({"root": str(ROOT), "images": str(FOLDER / "images.json"), "state": state}),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(state):
    process = start(state)
    text = process.communicate(timeout=300)[0]
    expect(process.returncode == 0, "the run after: %s" % text)
    return "changed=0" not in text


def processes():
    """{pid: words} of all that work on the lab's files."""
    found = {}
    for entry in os.listdir("/proc"):
        try:
            words = (
                pathlib.Path("/proc", entry, "cmdline")
                .read_bytes()
                .decode(errors="replace")
                .split("\0")
                if entry.isdigit()
                else []
            )
        except OSError:
            continue
        if any(str(ROOT) in word for word in words):
            found[int(entry)] = words
    return found


def qemus():
    return {pid: words for pid, words in processes().items() if "qemu-system" in words[0]}


def check_running(when):
    found = qemus()
    expect(
        len(found) == len(NODES) + 1,
        "%s: %d QEMUs instead of four nodes and a hub" % (when, len(found)),
    )
    for name in NODES:
        pid = json.loads((ROOT / "kill" / name / "run.json").read_text())["pid"]
        expect(
            pid in found, "%s: %s has process %d, which is no QEMU of the lab" % (when, name, pid)
        )
    left = [str(path) for path in ROOT.rglob("*") if path.name.endswith(".new")]
    expect(not left, "%s: %s" % (when, left))


def check_gone(when):
    deadline = time.monotonic() + 10
    while processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    expect(not processes(), "%s: processes are left: %s" % (when, processes()))
    left = [str(path) for path in ROOT.rglob("*") if ".host" not in path.parts]
    expect(not left, "%s: files are left: %s" % (when, left))


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
    for qemu in qemus():
        os.kill(qemu, signal.SIGKILL)
