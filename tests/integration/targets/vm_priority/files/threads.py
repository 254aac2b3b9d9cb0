# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the niceness of all threads, the control groups, and the used share of a core as JSON.

threads.py PID SECONDS
"""

import json
import os
import sys
import time

pid, seconds = int(sys.argv[1]), float(sys.argv[2])


def fields(path):
    with open(path, encoding="utf-8") as stream:
        return stream.read().rpartition(")")[2].split()


def used():
    return sum(map(int, fields("/proc/%d/stat" % pid)[11:13])) / os.sysconf("SC_CLK_TCK")


nice = sorted(
    {
        int(fields("/proc/%d/task/%s/stat" % (pid, task))[16])
        for task in os.listdir("/proc/%d/task" % pid)
    }
)
before, began = used(), time.monotonic()
time.sleep(seconds)
share = (used() - before) / (time.monotonic() - began)
groups = [
    os.path.join(top, name)
    for top, names, files in os.walk("/sys/fs/cgroup")
    for name in names
    if name.startswith("vlab-")
]
reported = {"nice": nice, "share": share, "groups": {}}
for group in groups:
    for name in ("cpu.cfs_quota_us", "cpu.max"):
        try:
            with open(os.path.join(group, name), encoding="ascii") as stream:
                quota = stream.read().split()[0]
            with open(os.path.join(group, "cgroup.procs"), encoding="ascii") as stream:
                pids = stream.read().split()
            with open(os.path.join(group, "cpu.stat"), encoding="ascii") as stream:
                throttled = int(dict(line.split() for line in stream)["nr_throttled"])
            reported["groups"][os.path.basename(group)] = {
                "quota": quota,
                "pids": pids,
                "throttled": throttled,
            }
        except OSError:
            continue
json.dump(reported, sys.stdout)
