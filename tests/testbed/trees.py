# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the root tree of each hypervisor with mmdebstrap from the mirror of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import time
import typing

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
    # A tree must not contain the mirror settings of the machine that built it.
    '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1"/etc/ssh/ssh_host_*',
]
BUILD = [
    *COMMON,
    "--dpkgopt=path-exclude=/usr/share/zoneinfo/*",
    # An ordinary user, for tests without root.
    '--customize-hook=chroot "$1" useradd --create-home --shell /bin/bash --uid 1000 user',
]


def need_tools() -> None:
    """Check for root and install missing programs."""
    if os.geteuid() != 0:
        raise Failure("the test bed creates namespaces and mounts: run it as root")
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


def install(missing: list[str]) -> None:
    """Install packages with apt-get; raise Failure without apt-get."""
    if missing:
        if not shutil.which("apt-get"):
            raise Failure("missing packages, install them first: %s" % ", ".join(missing))
        say("installing %s" % ", ".join(missing))
        call("apt-get", "update")
        options = ("--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300")
        call("apt-get", "install", *options, *missing)


def mirrors() -> list[str]:
    """Return the package archives of this machine, without the security archive."""
    if os.environ.get("VLAB_TESTBED_MIRROR"):
        return [os.environ["VLAB_TESTBED_MIRROR"]]
    columns = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    lines = call("apt-get", "indextargets", "--no-release-info", "--format", columns).splitlines()
    found = [
        line.split()[0] for line in lines if line.endswith(" main") and "-" not in line.split()[1]
    ]
    if not found:
        raise Failure("apt has no Debian mirror configured: set VLAB_TESTBED_MIRROR")
    return list(dict.fromkeys(found))


def apt_options() -> typing.Iterator[str]:
    """Yield mmdebstrap options that copy this machine's access to its mirror to apt.

    These are the proxy, the certificates, the retries and the clock checks.
    """
    prefixes = ("acquire::http::", "acquire::https::", "acquire::check-", "acquire::retries")
    for line in call("apt-config", "dump").splitlines():
        if line.lower().startswith(prefixes) and not line.endswith(' "";'):
            yield "--aptopt=" + line


def tree_path(name: str) -> pathlib.Path:
    """Return the path of a hypervisor's tree."""
    hypervisor = HYPERVISORS[name]
    return _path(hypervisor.release, PACKAGES + hypervisor.packages, BUILD)


def _path(prefix: str, packages: list[str], options: list[str]) -> pathlib.Path:
    """Return the path of a tree; its name contains a digest of the recipe."""
    recipe = json.dumps([prefix, packages, options])
    return TREES / ("%s-%s" % (prefix, hashlib.sha256(recipe.encode()).hexdigest()[:12]))


def build_tree(name: str) -> None:
    """Build the tree of a hypervisor if it does not exist."""
    hypervisor = HYPERVISORS[name]
    _build(tree_path(name), hypervisor.release, PACKAGES + hypervisor.packages, BUILD)


def make_tree(
    name: str,
    release: str,
    packages: list[str],
    hooks: list[str],
    mirror: typing.Optional[str] = None,
) -> pathlib.Path:
    """Build a tree for another use if it does not exist; return its path.

    hooks: more options of mmdebstrap. mirror: a mirror of Ubuntu (default: those of this machine).
    """
    need_tools()
    tree = _path(name, packages, [*COMMON, *hooks])
    _build(
        tree,
        release,
        packages,
        [*COMMON, *hooks],
        ["%s %s main universe" % (mirror, release)] if mirror else None,
    )
    return tree


def _build(
    tree: pathlib.Path,
    release: str,
    packages: list[str],
    options: list[str],
    sources: typing.Optional[list[str]] = None,
) -> None:
    """Build a tree from the first source that works."""
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
                done = subprocess.run(
                    argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
                )
            if done.returncode == 0:
                break
        else:
            shutil.rmtree(half, ignore_errors=True)
            raise Failure(
                "%s: mmdebstrap failed with every mirror; see %s "
                "(set VLAB_TESTBED_MIRROR to use another mirror)" % (tree.name, log.name)
            )
        half.rename(tree)
        say("%s: built in %.0f s" % (tree.name, time.monotonic() - started))


def prune(keep: set[str]) -> None:
    """Delete the hypervisors' trees of older recipes, with their logs and locks."""
    releases = tuple(hypervisor.release + "-" for hypervisor in HYPERVISORS.values())
    for path in TREES.iterdir():
        if path.name.startswith(releases) and path.name.partition(".")[0] not in keep:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
