# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Limit the processor time of a process, by a control group or by the program cpulimit."""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import subprocess

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    process_start_time,
    find_processes,
    send_signal,
    start_program,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binaries import find_program

_PERIOD = 100000  # microseconds; the kernel's default for cpu.cfs_period_us and cpu.max
_V1 = ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct")
_V2 = "/sys/fs/cgroup"


def find_means() -> tuple[str, str]:
    """Return how this host can limit a process. Raises HostError if it cannot.

    ("v1", folder) or ("v2", folder) of the control groups, or ("cpulimit", program).
    """
    for folder in _V1:
        if os.path.exists(os.path.join(folder, "cpu.cfs_quota_us")) or os.path.exists(
            os.path.join(folder, "cgroup.procs")
        ):
            if os.access(folder, os.W_OK):
                return "v1", folder
    with (
        contextlib.suppress(OSError),
        open(os.path.join(_V2, "cgroup.subtree_control"), encoding="ascii") as stream,
    ):
        if "cpu" in stream.read().split() and os.access(_V2, os.W_OK):
            return "v2", _V2
    program = find_program("cpulimit")
    if program:
        return "cpulimit", program
    raise HostError(
        "cpu_limit: no control group can be made here (are we root?), and the program cpulimit is"
        " not installed: install it, or set cpu_limit: 0"
    )


def limit(pid: int, name: str, percent: int) -> None:
    """Limit a process to percent of one core; 0 for no limit. name: unique to the VM, as a UUID."""
    kind, path = find_means()
    if kind == "cpulimit":
        _run_cpulimit(path, pid, percent)
        return
    # VMs of one name in several containers share the groups of the host.
    group = os.path.join(path, "vlab-%s-%d" % (name, pid))
    try:
        os.makedirs(group, exist_ok=True)
        quota = percent * _PERIOD // 100
        if kind == "v1":
            _write(group, "cpu.cfs_quota_us", quota or -1)
        else:
            _write(group, "cpu.max", "%s %d" % (quota or "max", _PERIOD))
        _write(group, "cgroup.procs", pid)
    except OSError as error:
        raise HostError(
            "cpu_limit: cannot set up the control group %s: %s" % (group, error.strerror)
        )


def release(name: str) -> None:
    """Remove the control groups of a VM that has ended, except those that still have a process."""
    for folder in _V1 + (_V2,):
        for group in glob.glob(os.path.join(folder, "vlab-%s-*" % name)):
            with contextlib.suppress(OSError):
                os.rmdir(group)


def _write(group: str, name: str, value: object) -> None:
    with open(os.path.join(group, name), "w", encoding="ascii") as stream:
        stream.write(str(value))


def _run_cpulimit(program: str, pid: int, percent: int) -> None:
    for old in find_processes("--lazy", "--pid=%d" % pid):
        send_signal(old, process_start_time(old), signal.SIGTERM)
    send_signal(pid, process_start_time(pid), signal.SIGCONT)
    if percent:
        # With --lazy, it ends when the process ends.
        start_program(
            [program, "--lazy", "--pid=%d" % pid, "--limit=%d" % percent],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
