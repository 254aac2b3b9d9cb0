# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provide fresh machines: a minimal tree of a distribution below a temporary overlay.

They use the package mirrors and the proxy settings of this machine.
"""

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
# The requirements of a checkout: see README.md.
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
# Ubuntu is tested if a mirror is named. Its keys are in the package ubuntu-keyring.
UBUNTU_MIRROR = os.environ.get("VLAB_UBUNTU_MIRROR")
if UBUNTU_MIRROR:
    RELEASES["ubuntu-24.04"] = "noble"
USERS = {
    "root": "root, without sudo",
    "free": "sudo without a password",
    "asked": "sudo with a password, on a terminal",
}
PROMPT = re.compile(rb"(?i)password[^\n]*: ?$")
# The variables that describe how to reach package mirrors.
PASSED = re.compile(
    r"(PIP_(?!FIND_LINKS|CONSTRAINT)|SSL_CERT|REQUESTS_CA|CURL_CA|https?_proxy|no_proxy|VLAB_)",
    re.IGNORECASE,
)
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
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
    """A tree and the folder of its overlay."""

    name: str
    tree: pathlib.Path
    folder: pathlib.Path


@contextlib.contextmanager
def machine(name: str, extra: typing.Sequence[str] = ()) -> typing.Iterator[Machine]:
    """Provide a fresh machine. extra: more packages."""
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
    (folder / "upper/etc/apt/apt.conf.d/99mirror").write_text(options, encoding="utf-8")
    try:
        yield Machine(name, tree, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_checkout(fresh: Machine, user: str) -> str:
    """Copy the checkout, without ignored files, to the user's home; return its path there."""
    path = "/root/vlab.qemu" if user == "root" else "/home/%s/vlab.qemu" % user
    target = fresh.folder / "upper" / path.lstrip("/")
    git = ("git", "-c", "safe.directory=*", "-C", str(CHECKOUT))
    names = call(*git, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, names):
        source = CHECKOUT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    owner = subprocess.run(
        ["chroot", str(fresh.tree), "id", "-u", user], capture_output=True, text=True, check=True
    ).stdout.strip()
    call("chown", "-R", "%s:%s" % (owner, owner), str(target))
    home = str(fresh.tree / path.lstrip("/").rpartition("/")[0])
    for program in ("chown", "chmod"):
        call(program, "--reference", home, str(target.parent))
    return path


def run(
    fresh: Machine,
    user: str,
    command: str,
    log: pathlib.Path,
    timeout: int,
    shared: typing.Optional[dict[str, pathlib.Path]] = None,
) -> tuple[int, str]:
    """Run a shell command as a user, on a terminal; return the exit code and the output.

    Password prompts are answered. shared: folders of this machine, by their paths on the fresh one.
    """
    path = copy_checkout(fresh, user)
    mounts = ""
    for target, folder in (shared or {}).items():
        folder.mkdir(parents=True, exist_ok=True)
        (fresh.folder / "upper" / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
        mounts += 'mount --bind %s "$2/root%s"\n' % (shlex.quote(str(folder)), target)
    argv = [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
        *("/bin/sh", "-c", MOUNTS.replace("# shared\n", mounts), "sh"),
        *(str(fresh.tree), str(fresh.folder)),
        *("/usr/bin/env", "-i", *passed_environment(), "TERM=dumb", "LANG=C.UTF-8", PATH),
        *("setpriv", "--reuid", user, "--regid", user, "--init-groups", "/bin/bash", "-c"),
        "export HOME=~%s USER=%s; cd %s && {\n%s\n}" % (user, user, path, command),
    ]
    pid, terminal = pty.fork()
    if not pid:
        os.execvp(argv[0], argv)
    password = PASSWORD if user == "asked" else ""
    with log.open("ab") as sink:
        output, timed_out = read_terminal(terminal, sink, timeout, password)
    if timed_out:
        os.kill(pid, signal.SIGKILL)
        output += b"\nstopped after %d s\n" % timeout
    os.close(terminal)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), output.decode("utf-8", "replace")


def passed_environment() -> list[str]:
    """Return the variables of this process that fresh machines get, as NAME=VALUE."""
    return ["%s=%s" % pair for pair in os.environ.items() if PASSED.match(pair[0])]


def read_terminal(
    terminal: int, sink: typing.BinaryIO, timeout: int, password: str
) -> tuple[bytes, bool]:
    """Copy the output of a terminal to a log until it is closed; answer prompts for a password.

    Return the output and whether the time limit was reached.
    """
    deadline = time.monotonic() + timeout
    output, answered = b"", 0.0
    while time.monotonic() <= deadline:
        if password and PROMPT.search(output[-200:]) and time.monotonic() - answered > 2:
            # Repeated: input is lost while a program changes the mode of its terminal.
            answered = time.monotonic()
            os.write(terminal, password.encode() + b"\n")
        if not select.select([terminal], [], [], 0.5)[0]:
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:
            return output, False  # the terminal was closed
        if not data:
            return output, False
        sink.write(data)
        sink.flush()
        output += data
    return output, True


__all__ = ["CHECKOUT", "RELEASES", "USERS", "WORK", "Failure", "Machine", "machine", "run"]
