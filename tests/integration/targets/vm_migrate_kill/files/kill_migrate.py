# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill the processes of a migration at one step after the other, and run it again.

kill_migrate.py FOLDER EVERY

A step is an exchange with a monitor, a file that is replaced or one that is removed; EVERY: 1 for
all steps, 3 for each third one. The VM moves between two folders of labs. After the second run, it
runs in the other one, and the first has nothing of it.
"""

import os
import pathlib
import signal
import subprocess
import sys
import threading

from ansible.errors import AnsibleError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._remote.protocol import RequestError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.converge import (
    converge_vm,
    vm_argument_spec,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.migration_service import HANDLERS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import observe
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.migration import Migration, Options

LINK = {"type": "udp", "local_port": 26761, "remote_port": 26762}


class Local:
    """A hypervisor that is this process."""

    def __init__(self, name):
        self.name = name

    def request(self, name, data=b"", **parameters):
        try:
            return HANDLERS[name](parameters, data)
        except RequestError as error:
            raise AnsibleError(error.message)


def vm(root, **options):
    params = {name: option.get("default") for name, option in vm_argument_spec().items()}
    converge_vm(dict(params, root=root, lab="default", allow_container=True, **options), False)


def migrate(root, to_root):
    request = {"host": None, "port": None, "nics": None, "allow_container": True}
    limits = {"downtime": 300, "bandwidth": 0, "timeout": 60}
    common = {"lock_timeout": 60, "start_timeout": 60}
    options = Options("r1", "default", root, to_root, request, True, limits, common, False)
    return Migration(Local("one"), Local("other"), [], options).run()


class Killer:
    """Counts steps, and kills the process group before the last one."""

    def __init__(self, last):
        self.last, self.count, self.lock = last, 0, threading.Lock()

    def count_calls(self, owner, name):
        function = getattr(owner, name)

        def counted(*args, **options):
            with self.lock:
                self.count += 1
                if self.count == self.last:
                    os.killpg(os.getpgid(0), signal.SIGKILL)
            return function(*args, **options)

        setattr(owner, name, counted)


def child(root, to_root, last):
    killer = Killer(last)
    for owner, name in ((Monitor, "_exchange"), (os, "replace"), (os, "unlink")):
        killer.count_calls(owner, name)
    migrate(root, to_root)
    print(killer.count)


def run_child(root, to_root, last):
    return subprocess.run(
        [sys.executable, __file__, "child", root, to_root, str(last)],
        stdout=subprocess.PIPE,
        check=False,
        start_new_session=True,
    )


def status(root):
    observation = observe(Folder(root, "default", "r1"))
    observation.close()
    return observation.status


def main(folder, every):
    roots = [os.path.join(folder, name) for name in "ab"]
    disks, nics = [{"name": "disk0", "size": "8M"}], [{"name": "eth0", "link": LINK}]
    try:
        vm(roots[0], name="r1", memory="64M", accel="tcg", disks=disks, nics=nics)
        steps = int(run_child(*roots, 0).stdout)
        root, to_root = reversed(roots)
        for last in range(1, steps, every):
            code = run_child(root, to_root, last).returncode
            left = status(root), status(to_root)
            changed = migrate(root, to_root)["changed"]
            after = status(root), status(to_root)
            print(last, code, left, after, changed, flush=True)
            files = set(os.listdir(os.path.join(to_root, "default", "r1")))
            assert code == -signal.SIGKILL and after == ("absent", "running")
            assert not os.path.exists(os.path.join(root, "default", "r1"))
            assert not files & {"receiving.json", "migrate-tls", "migrate.sock"}
            root, to_root = to_root, root
    finally:
        for root in roots:
            if pathlib.Path(root).exists():
                vm(root, name="r1", state="absent")


if sys.argv[1] == "child":
    child(sys.argv[2], sys.argv[3], int(sys.argv[4]))
else:
    main(sys.argv[1], int(sys.argv[2]))
