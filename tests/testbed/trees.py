# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pristine tree of each hypervisor, made by mmdebstrap from the mirror that this machine uses."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import time

from layout import HYPERVISORS, TREES, Failure, call, locked, say

PACKAGES = [
    "qemu-system-x86",
    "qemu-utils",
    "ovmf",
    "python3",
    "python3-apt",
    "openssh-server",
    "sudo",
    "acl",
    "tini",
    "iproute2",
    "iputils-ping",
    "mount",
    "netbase",
    "procps",
    "socat",
    "cpulimit",
    "vde2",
]
COMMON = [
    "--mode=root",
    "--variant=apt",
    "--format=directory",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    # The machine's own way to its mirror is no business of a tree.
    '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1"/etc/ssh/ssh_host_*',
]
BUILD = [
    *COMMON,
    "--dpkgopt=path-exclude=/usr/share/zoneinfo/*",
    # An ordinary user, for what is tested without root.
    '--customize-hook=chroot "$1" useradd --create-home --shell /bin/bash --uid 1000 user',
]


def need_tools():
    """Root, and the programs; those that are missing are installed where that is possible."""
    if os.geteuid() != 0:
        raise Failure("the test bed makes namespaces and mounts: run it as root")
    packages = {
        "mmdebstrap": "mmdebstrap",
        "ip": "iproute2",
        "nsenter": "util-linux",
        "ssh": "openssh-client",
        "ssh-keygen": "openssh-client",
    }
    missing = sorted(
        {package for program, package in packages.items() if not shutil.which(program)}
    )
    if not pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
        missing.append("debian-archive-keyring")
    install(missing)


def install(missing):
    """Install packages where that is possible; raise Failure where it is not."""
    if missing:
        if not shutil.which("apt-get"):
            raise Failure("install first: %s" % ", ".join(missing))
        say("installing %s" % ", ".join(missing))
        call("apt-get", "update")
        call(
            "apt-get",
            "install",
            "--yes",
            "--no-install-recommends",
            "-o",
            "DPkg::Lock::Timeout=300",
            *missing,
        )


def mirrors():
    """The archives this machine takes its own packages from; the security archive has no base system."""
    if os.environ.get("VLAB_TESTBED_MIRROR"):
        return [os.environ["VLAB_TESTBED_MIRROR"]]
    lines = call(
        "apt-get",
        "indextargets",
        "--no-release-info",
        "--format",
        "$(REPO_URI) $(RELEASE) $(COMPONENT)",
    ).splitlines()
    found = [
        line.split()[0] for line in lines if line.endswith(" main") and "-" not in line.split()[1]
    ]
    if not found:
        raise Failure("apt names no Debian mirror here: set VLAB_TESTBED_MIRROR")
    return list(dict.fromkeys(found))


def apt_options():
    """How this machine reaches its mirror (proxy, certificates, clock checks), for mmdebstrap's apt."""
    wanted = ("acquire::http::", "acquire::https::", "acquire::check-", "acquire::retries")
    for line in call("apt-config", "dump").splitlines():
        if line.lower().startswith(wanted) and not line.endswith(' "";'):
            yield "--aptopt=" + line


def tree_path(name):
    me = HYPERVISORS[name]
    return _path(me.release, PACKAGES + me.packages, BUILD)


def _path(prefix, packages, options):
    recipe = json.dumps([prefix, packages, options])
    return TREES / ("%s-%s" % (prefix, hashlib.sha256(recipe.encode()).hexdigest()[:12]))


def build_tree(name):
    """Make the pristine tree of a hypervisor, if it is not there."""
    me = HYPERVISORS[name]
    _build(tree_path(name), me.release, PACKAGES + me.packages, BUILD)


def make_tree(name, release, packages, hooks, mirror=None):
    """A tree for another use, made if it is not there; return its path. hooks: more options of mmdebstrap. mirror: of Ubuntu."""
    need_tools()
    tree = _path(name, packages, [*COMMON, *hooks])
    _build(
        tree,
        release,
        packages,
        [*COMMON, *hooks],
        [mirror + " %s main universe" % release] if mirror else None,
    )
    return tree


def _build(tree, release, packages, options, sources=None):
    with locked(TREES / (tree.name + ".lock")):
        if tree.exists():
            return
        started = time.monotonic()
        say("building %s" % tree.name)
        half = TREES / (tree.name + ".half")
        for source in sources or ["%s %s main" % (mirror, release) for mirror in mirrors()]:
            shutil.rmtree(half, ignore_errors=True)
            argv = [
                "mmdebstrap",
                *options,
                *apt_options(),
                "--include=" + ",".join(packages),
                release,
                str(half),
                "deb " + source,
            ]
            with open(TREES / (tree.name + ".log"), "w", encoding="utf-8") as log:
                if (
                    subprocess.run(
                        argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
                    ).returncode
                    == 0
                ):
                    break
        else:
            shutil.rmtree(half, ignore_errors=True)
            raise Failure(
                "%s: no mirror gave a tree; see %s (VLAB_TESTBED_MIRROR names another)"
                % (tree.name, log.name)
            )
        half.rename(tree)
        say("%s: built in %.0f s" % (tree.name, time.monotonic() - started))


def prune(wanted):
    """Delete the hypervisors' trees of older recipes, with their logs and locks."""
    releases = tuple(me.release + "-" for me in HYPERVISORS.values())
    for path in TREES.iterdir():
        if path.name.startswith(releases) and path.name.partition(".")[0] not in wanted:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
