# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What there is of the lab "absent" on this host, as JSON: left.py ROOT."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys


def processes(words):
    """Return the other processes that have a text in their command lines."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open("/proc/%s/cmdline" % pid, "rb") as stream:
            if words in stream.read() and int(pid) != os.getpid():
                yield int(pid)


def below(root):
    """The files and folders below a folder."""
    files, folders = [], []
    for path, inner, names in os.walk(root):
        files += [os.path.relpath(os.path.join(path, name), root) for name in names]
        folders += [os.path.relpath(os.path.join(path, name), root) for name in inner]
    return sorted(files), sorted(folders)


def ports(root):
    """Who holds which port."""
    with open(os.path.join(root, ".host", "ports.json"), encoding="utf-8") as stream:
        return sorted(
            "%s %s" % (" ".join(entry["vms"]), port) for port, entry in json.load(stream).items()
        )


def main(root):
    """Print it."""
    files, folders = below(root)
    bridge = "vl" + hashlib.sha256(b"absent\0server").hexdigest()[:10]
    of_ours = [name for name in files + folders if name.split("/")[0] == "absent"]
    print(
        json.dumps(
            {
                "files": [name for name in files if name in of_ours],
                "folders": [name for name in folders if name in of_ours],
                "processes": sorted(processes(os.path.join(root, "absent").encode())),
                "ports": ports(root),
                "bridges": [bridge] if os.path.exists("/sys/class/net/" + bridge) else [],
            }
        )
    )


main(sys.argv[1])
