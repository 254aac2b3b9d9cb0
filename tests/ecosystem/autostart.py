# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test autostart with systemd: a Debian in namespaces of its own, which systemd boots and reboots.

    python tests/ecosystem/autostart.py

The playbook autostart.yml makes VMs and labs of root and of a user without privileges on it, and
reboots it: all its processes end, /run and the boot ID are new, its disk stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

import yaml

from tools import ROOT, environment, need_program, until

sys.path.insert(0, str(ROOT / "tests/testbed"))

from layout import Failure, call  # pylint: disable=wrong-import-position
from trees import make_tree  # pylint: disable=wrong-import-position

IMAGES = pathlib.Path("/var/lib/vlab/images")
TIMEOUT = 600  # s for the playbook
PACKAGES = [
    "systemd-sysv",
    "libpam-systemd",
    "dbus",
    "openssh-server",
    "python3",
    "iproute2",
    "procps",
    "mount",
    "qemu-system-x86",
    "qemu-utils",
]
# The key is valid for this tree only.
HOOKS = [
    "--customize-hook=" + hook
    for hook in (
        'echo "127.0.0.1 localhost hypervisor" >"$1/etc/hosts"; echo hypervisor >"$1/etc/hostname"',
        'chroot "$1" useradd --create-home --shell /bin/bash --uid 1000 user',
        'chroot "$1" ssh-keygen -A',
        'ssh-keygen -q -t ed25519 -N "" -f "$1/key"',
        'for home in root home/user; do mkdir -p "$1/$home/.ssh"; chmod 0700 "$1/$home/.ssh"'
        '; cp "$1/key.pub" "$1/$home/.ssh/authorized_keys"; done',
        'chown -R 1000:1000 "$1/home/user"',
    )
]
# Arguments: a cgroup, the network namespace, the tree, the folder of its overlay, the images.
OUTSIDE = """
echo $$ >"$1/cgroup.procs"
exec nsenter --net="/run/netns/$2" \\
    unshare --mount --pid --ipc --uts --cgroup --fork --kill-child /bin/sh -ec "$0" sh "$@"
"""
INSIDE = """
mount --make-rprivate /
root=$4/root
mount -t overlay -o "lowerdir=$3,upperdir=$4/upper,workdir=$4/work" overlay "$root"
mkdir -p "$root/srv/images"
mount --bind "$5" "$root/srv/images"
hostname hypervisor
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
cat /proc/sys/kernel/random/uuid >run/boot_id
mount --bind run/boot_id proc/sys/kernel/random/boot_id
pivot_root . mnt
exec chroot . /usr/bin/env -i container=vlab PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    /bin/sh -ec 'umount -l /mnt; exec /lib/systemd/systemd'
"""


class Hypervisor:
    """A machine of its own, booted again after each reboot. boots: how often it has booted."""

    def __init__(self, tree: pathlib.Path, folder: pathlib.Path) -> None:
        self.boots, self._is_ended = 0, False
        self.network = f"vlab-auto-{os.getpid()}"
        self._cgroup = cgroup_folder() / self.network
        names = (self._cgroup, self.network, tree, folder, IMAGES)
        self._command = ["/bin/sh", "-ec", OUTSIDE, INSIDE, *map(str, names)]
        self._log = folder / "boot.log"
        for name in ("upper", "work", "root"):
            (folder / name).mkdir()
        self._cgroup.mkdir()
        call("ip", "netns", "add", self.network)
        self._process = self._boot()
        self._thread = threading.Thread(target=self._boot_again)
        self._thread.start()

    def _boot(self) -> subprocess.Popen[bytes]:
        self.boots += 1
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
            )

    def _boot_again(self) -> None:
        """The kernel ends the namespaces at a reboot inside them."""
        while self._process.wait() is not None and not self._is_ended and self.boots < 9:
            self._process = self._boot()

    def close(self) -> None:
        """End it, and remove what was made for it."""
        self._is_ended = True
        self._process.kill()
        self._thread.join()
        call("ip", "netns", "delete", self.network)
        until(self._remove_cgroups, f"the end of all processes in {self._cgroup}", 30)

    def _remove_cgroups(self) -> bool:
        for path, _folders, _names in os.walk(self._cgroup, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        return not self._cgroup.exists()


def cgroup_folder() -> pathlib.Path:
    """Return where this host has the second version of cgroups."""
    for line in pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        if line.split()[2] == "cgroup2":
            return pathlib.Path(line.split()[1])
    raise Failure("this host has no cgroups of version 2")


@contextlib.contextmanager
def hypervisor(folder: pathlib.Path) -> Iterator[tuple[Hypervisor, dict[str, str]]]:
    """Boot a hypervisor; yield it and the variables of the playbook."""
    tree = make_tree("autostart", "bookworm", PACKAGES, HOOKS)
    key = folder / "key"
    key.touch(0o600)
    key.write_bytes((tree / "key").read_bytes())
    manifest = max(IMAGES.glob("tiny-*.json"), key=os.path.getmtime)
    tiny = json.loads(manifest.read_text(encoding="utf-8"))["key"]
    one = Hypervisor(tree, folder)
    proxy = f"ip netns exec {one.network} socat - TCP:127.0.0.1:22"
    variables = {
        "key": str(key),
        "proxy": proxy,
        "tiny_kernel": f"/srv/images/vmlinuz-tiny-{tiny}",
        "tiny_initrd": f"/srv/images/tiny-{tiny}.initrd",
    }
    try:
        yield one, variables
    finally:
        one.close()


def main() -> int:
    """Run the test; return the exit code."""
    need_program("socat", "socat")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vlab-auto-"))
    playbook = pathlib.Path(__file__).with_suffix(".yml")
    env = environment(ANSIBLE_HOME=str(folder / "home"), ANSIBLE_PIPELINING="1", COLUMNS="200")
    env["ANSIBLE_SSH_CONTROL_PATH_DIR"] = str(folder / "cp")
    try:
        with hypervisor(folder) as (one, variables):
            path = folder / "variables.yml"
            path.write_text(yaml.safe_dump(variables), encoding="utf-8")
            words = ["ansible-playbook", "-i", "localhost,", str(playbook), "-e", f"@{path}"]
            code = subprocess.run(
                [*words, *sys.argv[1:]],
                env=env,
                stdin=subprocess.DEVNULL,
                timeout=TIMEOUT,
                check=False,
            ).returncode
            assert code or one.boots == 2, one.boots
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("0 passed, 1 failed" if code else "1 passed, 0 failed")
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"autostart: {failure}")
