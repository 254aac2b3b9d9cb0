# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A share of the processor for one process: a control group where we may make one, else the cpulimit program."""

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


def find_means():
    """How a process can be limited here: ("v1", folder), ("v2", folder) or ("cpulimit", program). Raises HostError."""
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
        "cpu_limit: no control group can be made here (are we root?), and the program cpulimit is not installed: "
        "install it, or set cpu_limit: 0"
    )


def limit(pid, name, percent):
    """Let process pid use percent of one core at most, 0 for no limit. name: a word of the VM's own, such as its UUID."""
    kind, where = find_means()
    if kind == "cpulimit":
        _run_cpulimit(where, pid, percent)
        return
    # VMs of one name in several containers share the host's groups.
    group = os.path.join(where, "vlab-%s-%d" % (name, pid))
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


def release(name):
    """Remove the control groups of a VM that is gone; one that a process is in stays."""
    for folder in _V1 + (_V2,):
        for group in glob.glob(os.path.join(folder, "vlab-%s-*" % name)):
            with contextlib.suppress(OSError):
                os.rmdir(group)


def _write(group, name, value):
    with open(os.path.join(group, name), "w", encoding="ascii") as stream:
        stream.write(str(value))


def _run_cpulimit(program, pid, percent):
    for old in find_processes("--lazy", "--pid=%d" % pid):
        send_signal(old, process_start_time(old), signal.SIGTERM)
    send_signal(pid, process_start_time(pid), signal.SIGCONT)
    if percent:
        # It ends by itself with the process (--lazy).
        start_program(
            [program, "--lazy", "--pid=%d" % pid, "--limit=%d" % percent],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
