# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Do to the VMs below a folder what a reboot does, then run an instance of the unit by hand.

Arguments: the folder of all labs, the unit, and the path that the instance is for.
"""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time


def end(pid):
    """Kill a process, and wait until it has ended."""
    os.kill(pid, signal.SIGKILL)
    for _attempt in range(200):
        try:
            with open("/proc/%d/stat" % pid, encoding="ascii") as stream:
                if stream.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except OSError:
            return
        time.sleep(0.05)
    raise SystemExit("process %d does not end" % pid)


def main(root, unit, path):
    """End each QEMU and forget this boot; then run the command of the unit as systemd does."""
    for record in pathlib.Path(root).rglob("run.json"):
        content = json.loads(record.read_text())
        end(content["pid"])
        record.write_text(json.dumps(dict(content, boot_id="an earlier boot")))
    text = pathlib.Path(unit).read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    words = [path if word == "%f" else word for word in shlex.split(line.partition("=")[2])]
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(words, env=environment, cwd="/", check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
