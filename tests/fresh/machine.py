# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that has nothing: a tree of a distribution under an overlay that is thrown away, with this machine's way to its mirrors."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
import typing

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
sys.path.insert(0, str(CHECKOUT / "tests" / "testbed"))

from layout import Failure, call  # pylint: disable=wrong-import-position
from trees import apt_options, make_tree  # pylint: disable=wrong-import-position

WORK = CHECKOUT / ".cache" / "fresh"
# What somebody has who wants to try a checkout: see README.md.
PACKAGES = [
    "python3",
    "make",
    "sudo",
    "ca-certificates",
    "mount",
    "passwd",
    "login",
    "iproute2",
    "procps",
]
CUSTOMIZE = [
    '--customize-hook=chroot "$1" useradd --create-home --shell /bin/bash --groups sudo free',
    '--customize-hook=chroot "$1" useradd --create-home --shell /bin/bash --groups sudo asked',
    '--customize-hook=echo "asked:%(password)s" | chroot "$1" chpasswd',
    '--customize-hook=echo "free ALL=(ALL) NOPASSWD: ALL" >"$1/etc/sudoers.d/free"',
]
PASSWORD = "not-a-secret-1"
RELEASES = {"debian-12": "bookworm", "debian-13": "trixie"}
# Debian's mirrors do not have it: it is tested where one is named. Its keys are in the package ubuntu-keyring.
UBUNTU_MIRROR = os.environ.get("VLAB_UBUNTU_MIRROR")
if UBUNTU_MIRROR:
    RELEASES["ubuntu-24.04"] = "noble"
USERS = {
    "root": "root, without sudo",
    "free": "sudo without a password",
    "asked": "sudo with a password, on a terminal",
}
PROMPT = re.compile(rb"(?i)password[^\n]*: ?$")
# The way to the mirrors of packages, as this process was given it.
PASSED = re.compile(
    r"(PIP_(?!FIND_LINKS|CONSTRAINT)|SSL_CERT|REQUESTS_CA|CURL_CA|https?_proxy|no_proxy|VLAB_)",
    re.IGNORECASE,
)
MOUNTS = """
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount -t proc proc "$2/root/proc"
mount --rbind /sys "$2/root/sys"
mount --rbind /dev "$2/root/dev"
mount -t tmpfs tmpfs "$2/root/run"
mkdir -p "$2/root/run/lock"
mount --bind /etc/ssl/certs "$2/root/etc/ssl/certs"
[ ! -e /etc/resolv.conf ] || cp --dereference /etc/resolv.conf "$2/root/etc/resolv.conf"
cp /etc/hosts "$2/root/etc/hosts"
# shared
shift
folder=$1
shift
exec chroot "$folder/root" "$@"
"""


class Machine(typing.NamedTuple):
    """A tree, and the folder of its overlay."""

    name: str
    tree: pathlib.Path
    folder: pathlib.Path


@contextlib.contextmanager
def machine(name: str, extra: typing.Sequence[str] = ()) -> typing.Iterator[Machine]:
    """A fresh machine with a copy of this checkout for each user, without what was built in it. extra: more packages."""
    hooks = [hook.replace("%(password)s", PASSWORD) for hook in CUSTOMIZE]
    tree = make_tree(
        "fresh-" + name,
        RELEASES[name],
        [*PACKAGES, *extra],
        hooks,
        UBUNTU_MIRROR if name.startswith("ubuntu") else None,
    )
    folder = WORK / ("%s-%d" % (name, os.getpid()))
    for part in ("upper/etc/apt/apt.conf.d", "work", "root"):
        (folder / part).mkdir(parents=True)
    options = "".join(option.partition("=")[2].rstrip(";") + ";\n" for option in apt_options())
    (folder / "upper/etc/apt/apt.conf.d/99here").write_text(options, encoding="utf-8")
    try:
        yield Machine(name, tree, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_checkout(here: Machine, user: str) -> str:
    """Put the checkout where the user keeps it, as a clone would be; return its path."""
    path = "/root/vlab.qemu" if user == "root" else "/home/%s/vlab.qemu" % user
    target = here.folder / "upper" / path.lstrip("/")
    names = call(
        "git",
        "-c",
        "safe.directory=*",
        "-C",
        str(CHECKOUT),
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ).split("\0")
    for name in filter(None, names):
        source = CHECKOUT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    owner = subprocess.run(
        ["chroot", str(here.tree), "id", "-u", user], capture_output=True, text=True, check=True
    ).stdout.strip()
    call("chown", "-R", "%s:%s" % (owner, owner), str(target))
    call(
        "chown",
        "--reference",
        str(here.tree / path.lstrip("/").rpartition("/")[0]),
        str(target.parent),
    )
    call(
        "chmod",
        "--reference",
        str(here.tree / path.lstrip("/").rpartition("/")[0]),
        str(target.parent),
    )
    return path


def run(
    here: Machine,
    user: str,
    command: str,
    log: pathlib.Path,
    timeout: int,
    shared: typing.Optional[typing.Dict[str, pathlib.Path]] = None,
) -> typing.Tuple[int, str]:
    """Run a line of a user's shell on a terminal; prompts for a password are answered. Returns the exit code and the output.

    shared: folders of this machine that are seen there, by their paths there.
    """
    path = copy_checkout(here, user)
    mounts = ""
    for where, folder in (shared or {}).items():
        folder.mkdir(parents=True, exist_ok=True)
        (here.folder / "upper" / where.lstrip("/")).mkdir(parents=True, exist_ok=True)
        mounts += 'mount --bind %s "$2/root%s"\n' % (shlex.quote(str(folder)), where)
    passed = ["%s=%s" % pair for pair in os.environ.items() if PASSED.match(pair[0])]
    argv = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "/bin/sh",
        "-c",
        MOUNTS.replace("# shared\n", mounts),
        "sh",
        str(here.tree),
        str(here.folder),
        "/usr/bin/env",
        "-i",
        *passed,
        "TERM=dumb",
        "LANG=C.UTF-8",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "setpriv",
        "--reuid",
        user,
        "--regid",
        user,
        "--init-groups",
        "/bin/bash",
        "-c",
        "export HOME=~%s USER=%s; cd %s && {\n%s\n}" % (user, user, path, command),
    ]
    pid, terminal = pty.fork()
    if not pid:
        os.execvp(argv[0], argv)
    deadline = time.monotonic() + timeout
    output, answered = b"", 0.0
    with open(log, "ab") as sink:
        while True:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                output += b"\nstopped after %d s\n" % timeout
                break
            if user == "asked" and PROMPT.search(output[-200:]) and time.monotonic() - answered > 2:
                # Again after a while: what is typed while a program changes its terminal is lost.
                answered = time.monotonic()
                os.write(terminal, PASSWORD.encode() + b"\n")
            if not select.select([terminal], [], [], 0.5)[0]:
                continue
            try:
                data = os.read(terminal, 65536)
            except OSError:
                break  # the terminal was closed
            if not data:
                break
            sink.write(data)
            sink.flush()
            output += data
    os.close(terminal)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), output.decode("utf-8", "replace")


__all__ = ["CHECKOUT", "RELEASES", "USERS", "WORK", "Failure", "Machine", "machine", "run"]
