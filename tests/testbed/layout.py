# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Define the hypervisors and the paths of the test bed, and functions that all its files use."""

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
# Shared by all checkouts of this user: the name of a tree contains a digest of its recipe.
SHARED = pathlib.Path(os.environ.get("VLAB_CACHE") or pathlib.Path.home() / ".cache" / "vlab-qemu")
TREES = SHARED / "trees"
HOSTS = CACHE / "hosts"
SSH = CACHE / "ssh"
SSH_CONFIG = CACHE / "ssh_config"
INVENTORY = CACHE / "inventory.yml"
# The interpreter that runs modules without a new Python process for each.
WARM = CHECKOUT / "tests" / "warm"
# Short, because the path of a control socket has at most 107 bytes; outside the cache, which may
# be deleted while the test bed is up.
RUNTIME = pathlib.Path("/run/vlab-testbed")
# A machine has one test bed, for all checkouts.
MACHINE_LOCK = pathlib.Path("/run/lock/vlab-testbed.lock")
NETNS = pathlib.Path("/run/netns")

SWITCH = "vlab-sw"
NETWORK = "172.31.57."
NETWORK6 = "fd57:1ab::"
IMAGES = "/var/lib/vlab/images"


class Hypervisor(typing.NamedTuple):
    """A hypervisor of the test bed."""

    number: int  # last part of its addresses
    release: str
    qemu: str
    packages: list[str]  # in addition to those that all have


HYPERVISORS = {
    "hv11": Hypervisor(11, "bullseye", "5.2", []),
    "hv12": Hypervisor(12, "bookworm", "7.2", ["swtpm"]),
    # sshd needs sysusers; without this package it would pull in all of systemd.
    "hv13": Hypervisor(13, "trixie", "10.0", ["swtpm", "systemd-standalone-sysusers"]),
}


class Failure(Exception):
    """An error that is reported to the user without a traceback."""


def say(text: str) -> None:
    """Print a message about progress."""
    print(text, file=sys.stderr, flush=True)


def call(*argv: str, cwd: pathlib.Path | None = None) -> str:
    """Run a program that must succeed, in a folder; return its output."""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        cwd=cwd,
    )
    if done.returncode:
        raise Failure(
            "%s: exit code %d\n%s"
            % (shlex.join(argv), done.returncode, done.stderr.strip()[-2000:])
        )
    return done.stdout


def address(name: str) -> str:
    """Return the IPv4 address of a hypervisor."""
    return "%s%d" % (NETWORK, HYPERVISORS[name].number)


def address6(name: str) -> str:
    """Return the IPv6 address of a hypervisor."""
    return "%s%d" % (NETWORK6, HYPERVISORS[name].number)


@contextlib.contextmanager
def locked(path: pathlib.Path) -> typing.Iterator[None]:
    """Hold an exclusive lock on a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
