# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab of lab_kill.py and lab_two.py: how it is run, and what must be true of it.

The arguments of these programs are a folder and the playbook.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

FOLDER, PLAYBOOK = pathlib.Path(sys.argv[1]), sys.argv[2]
ROOT = FOLDER / "lab"
NODES = ["n1", "n2", "n3", "n4"]


def expect(holds, what):
    if not holds:
        sys.exit("FAILED " + what)


def start(state):
    return subprocess.Popen(
        [
            "ansible-playbook",
            PLAYBOOK,
            "-e",
            json.dumps({"root": str(ROOT), "state": state}),
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


def kill_qemus():
    for pid in qemus():
        os.kill(pid, signal.SIGKILL)
