# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is, where it lies, and how programs are run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shlex
import subprocess
import sys
import typing

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
CACHE = CHECKOUT / ".cache" / "testbed"
# For all checkouts of this user: a tree is named by its recipe.
SHARED = pathlib.Path(os.environ.get("VLAB_CACHE") or pathlib.Path.home() / ".cache" / "vlab-qemu")
TREES = SHARED / "trees"
HOSTS = CACHE / "hosts"
SSH = CACHE / "ssh"
SSH_CONFIG = CACHE / "ssh_config"
INVENTORY = CACHE / "inventory.yml"
# What runs modules without starting a Python for each.
WARM = CHECKOUT / "tests" / "warm"
# Short, since a control socket's path has at most 107 bytes; and apart from the cache, which may be
# deleted while the test bed is up.
RUNTIME = pathlib.Path("/run/vlab-testbed")
# There is one test bed on a machine, whichever checkout it belongs to.
MACHINE_LOCK = pathlib.Path("/run/lock/vlab-testbed.lock")
NETNS = pathlib.Path("/run/netns")

SWITCH = "vlab-sw"
NETWORK = "172.31.57."
NETWORK6 = "fd57:1ab::"
IMAGES = "/var/lib/vlab/images"


class Hypervisor(typing.NamedTuple):
    number: int  # last part of its addresses
    release: str
    qemu: str
    packages: list  # beside those that all have


HYPERVISORS = {
    "hv11": Hypervisor(11, "bullseye", "5.2", []),
    "hv12": Hypervisor(12, "bookworm", "7.2", ["swtpm"]),
    # sshd wants some sysusers there, and would take the whole of systemd.
    "hv13": Hypervisor(13, "trixie", "10.0", ["swtpm", "systemd-standalone-sysusers"]),
}


class Failure(Exception):
    """Something the user is told, without a traceback."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def call(*argv, **kwargs):
    """Run a program that has to succeed; return what it printed."""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **kwargs,
    )
    if done.returncode:
        raise Failure(
            "%s: exit code %d\n%s"
            % (shlex.join(argv), done.returncode, done.stderr.strip()[-2000:])
        )
    return done.stdout


def address(name):
    return "%s%d" % (NETWORK, HYPERVISORS[name].number)


def address6(name):
    return "%s%d" % (NETWORK6, HYPERVISORS[name].number)


@contextlib.contextmanager
def locked(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
