# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process shares with others, as JSON: look.py PID."""

import json
import os
import stat
import sys


def fields(pid):
    with open("/proc/%d/stat" % pid, encoding="utf-8") as stream:
        return stream.read().rpartition(")")[2].split()


def links(pid):
    reported = {}
    for name in os.listdir("/proc/%d/fd" % pid):
        try:
            reported[int(name)] = os.readlink("/proc/%d/fd/%s" % (pid, name))
        except FileNotFoundError:
            pass
    return reported


def internet(pid):
    """The inodes of every TCP and UDP socket that the process could have."""
    inodes = set()
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        try:
            with open("/proc/%d/net/%s" % (pid, kind), encoding="ascii") as stream:
                inodes |= {"socket:[%s]" % line.split()[9] for line in stream.readlines()[1:]}
        except FileNotFoundError:
            pass
    return inodes


pid = int(sys.argv[1])
parent = int(fields(pid)[1])
chain = []
ancestor = os.getpid()
while ancestor > 1:
    chain.append(ancestor)
    ancestor = int(fields(ancestor)[1])
descriptors = links(pid)
json.dump(
    {
        "parent": parent,
        "grandparent": int(fields(parent)[1]),
        "session": int(fields(pid)[3]),
        "terminal": int(fields(pid)[4]),
        "our_sessions": [int(fields(one)[3]) for one in chain],
        "our_ancestors": chain,
        "cwd": os.readlink("/proc/%d/cwd" % pid),
        "parent_cwd": os.readlink("/proc/%d/cwd" % parent),
        "stdin": descriptors[0],
        "stdout": descriptors[1],
        "stderr": descriptors[2],
        "foreign": sorted(
            link
            for link in list(descriptors.values()) + list(links(parent).values())
            if link.startswith(("pipe:", "/dev/pts", "/dev/tty"))
            or "ansible" in link.split("/")[-1]
        ),
        "internet": sorted(internet(pid) & set(descriptors.values())),
        "modes": {
            name: "%04o" % stat.S_IMODE(os.lstat(os.path.join(sys.argv[2], name)).st_mode)
            for name in os.listdir(sys.argv[2])
        },
        "folder": "%04o" % stat.S_IMODE(os.stat(sys.argv[2]).st_mode),
    },
    sys.stdout,
)
