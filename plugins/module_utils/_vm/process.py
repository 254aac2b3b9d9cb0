# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The process of QEMU: start it detached, recognise it again, end it step by step."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shlex
import signal
import time
from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    LaunchError,
    MonitorClosed,
    MonitorError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    read_text,
    tail,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    command_line,
    executable,
    find_processes,
    process_handle,
    process_start_time,
    send_signal,
    wait_for_exit,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._vm.supervisor import (
    SCRIPT,
    start_supervised,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

_SUPERVISOR_NAME = "vlab-qemu"
_POLL_INTERVAL = 0.004  # seconds: no event reports a new socket
_ORPHAN_TIMEOUT = 10
_TERM_TIMEOUT, _KILL_TIMEOUT = 5, 10

# The failures that users meet most, and what to do.
_KVM_HINT = "KVM cannot be used: set accel: auto or tcg, or see qemu_host_info"
_MEMORY_HINT = "the host cannot give that much memory: lower memory"
_HINTS = (
    ("Could not access KVM", _KVM_HINT),
    ("failed to initialize kvm", _KVM_HINT),
    ("Failed to initialize KVM", _KVM_HINT),
    (
        "host doesn't support requested feature",
        "the CPU model asks for more than this host has: choose another cpu",
    ),
    (
        "unable to map backing store",
        "cannot allocate the memory backend: fewer hugepages are free than memory needs",
    ),
    ("cannot set up guest memory", _MEMORY_HINT),
    ("Cannot allocate memory", _MEMORY_HINT),
    ('Failed to get "write" lock', "another QEMU has that image open"),
    (
        "Could not open '/dev/vfio",
        "the passthrough device cannot be opened: is it bound to vfio-pci, and accessible?",
    ),
    (
        "could not configure /dev/net/tun",
        "a tap link needs privileges: become root, or use a tap made for this user",
    ),
    (
        "failed to parse default acl file",
        "a bridge link needs /etc/qemu/bridge.conf with a line: allow BRIDGE",
    ),
)


class Child:
    """A QEMU that was just started. argv: its command line. descriptors: those that it inherits."""

    def __init__(
        self,
        argv: list[str],
        folder: Folder,
        environment: Mapping[str, str],
        descriptors: Collection[int] = (),
    ) -> None:
        self.argv, self.folder = argv, folder
        try:
            self.process = start_supervised(
                _SUPERVISOR_NAME,
                argv,
                folder.exit_code,
                folder.log,
                _log_head(argv),
                env=dict(os.environ, **environment),
                pass_fds=descriptors,
                umask=0o077,  # of captures and sockets outside the VM's folder
            )
        except OSError as error:
            raise LaunchError("cannot run %s: %s" % (argv[0], error.strerror), cmd=argv)

    def connect(self, timeout: float) -> Monitor:
        """Return the open monitor as soon as it answers.

        Raises LaunchError if QEMU ends, or does not answer for timeout seconds.
        """
        deadline = time.monotonic() + timeout
        with process_handle(self.process.pid) as handle:
            while True:
                if os.path.exists(self.folder.qmp):
                    left = max(1, deadline - time.monotonic())
                    with contextlib.suppress(MonitorClosed):
                        return Monitor(self.folder.qmp, timeout=left).connect()
                # The handle reports the end of QEMU at once.
                handles = [] if handle is None else [handle]
                has_ended = bool(select.select(handles, [], [], _POLL_INTERVAL)[0])
                if has_ended or handle is None and self.process.poll() is not None:
                    raise self.failure("QEMU ended with exit code %s" % self.process.wait())
                if time.monotonic() > deadline:
                    raise self.failure("QEMU's monitor did not answer within %d s" % timeout)

    def failure(self, what: str) -> LaunchError:
        """Return a LaunchError with QEMU's log and command line."""
        log = qemu_output(self.folder, self.argv)
        return LaunchError(
            "cannot start the VM %s: %s. QEMU's output: %s%s"
            % (self.folder.name, what, log or "nothing", _hint(log)),
            cmd=self.argv,
            rc=self.process.returncode,
            log=log,
        )

    def end(self) -> None:
        """Kill what was started."""
        end_orphans(self.folder)
        self.process.wait(10)


def _log_head(argv: list[str]) -> bytes:
    """Return the first line of a log: the command, as a shell reads it."""
    return os.fsencode(" ".join(map(shlex.quote, argv)) + "\n")


def qemu_output(folder: Folder, argv: list[str]) -> str:
    """Return the last lines of QEMU's log without the command, its argv, at the beginning."""
    return tail(folder.log, head=_log_head(argv))


def _hint(log: str) -> str:
    hint = next((hint for text, hint in _HINTS if text in log), None)
    return " (%s)" % hint if hint else ""


def is_supervised(folder: Folder) -> bool:
    """Whether a QEMU of this VM, or the shell that started it, lives.

    Testing the lock is cheaper than looking at all processes.
    """
    try:
        exit_code = os.open(folder.exit_code, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(exit_code, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(exit_code)


def orphans(folder: Folder) -> list[int]:
    """Return the pids of the QEMUs with this VM's pidfile on their command line."""
    return [pid for pid in _processes(folder) if not _is_supervisor(pid)]


def is_qemu_of(folder: Folder, pid: int) -> bool:
    """Whether a process is a QEMU of this VM, by its command line, user and program."""
    return pid in orphans(folder)


def _processes(folder: Folder) -> list[int]:
    """Return the pids of the QEMUs of this VM and of their supervisors.

    Root also manages the VMs of other users, whose processes run as the owner of the folder.
    """
    users = {os.geteuid()}
    with contextlib.suppress(OSError):
        users.add(os.lstat(folder.path).st_uid)
    return [
        pid
        for pid in find_processes("-pidfile", folder.pidfile, uids=users)
        if _is_supervisor(pid) or _runs_its_program(pid)
    ]


def _is_supervisor(pid: int) -> bool:
    return command_line(pid)[:4] == ["/bin/sh", "-c", SCRIPT, _SUPERVISOR_NAME]


def _runs_its_program(pid: int) -> bool:
    """Whether a process runs the QEMU binary that its command line begins with.

    A wrapper script may start another QEMU.
    """
    program = executable(pid)
    argv = command_line(pid)
    return "qemu" in os.path.basename(program) or bool(
        argv and os.path.isabs(argv[0]) and os.path.realpath(argv[0]) == program
    )


def _has_socket(path: str) -> bool:
    """Whether a process listens at a UNIX socket. The path may not exist any more.

    Lines of /proc/net/unix have the path as their eighth word; "@" begins an abstract name.
    """
    lines = (read_text("/proc/net/unix") or "").splitlines()
    return any(fields[7:] == [path] for fields in (line.split(None, 7) for line in lines))


def end_orphans(folder: Folder) -> list[int]:
    """End the QEMUs of this VM that no record names, and their shells; return the QEMUs' pids."""
    ended: list[int] = []
    # A QEMU listens at its monitor even if the VM's folder was deleted.
    if not is_supervised(folder) and not _has_socket(folder.qmp):
        return ended
    deadline = time.monotonic() + _ORPHAN_TIMEOUT
    while True:
        ended += orphans(folder)
        found = _processes(folder)
        for pid in found:
            kill(pid, process_start_time(pid))
        if not found and not is_supervised(folder):
            return ended
        if time.monotonic() > deadline:
            raise HostError("a start of the VM %s by another run does not end" % folder.name)
        select.select([], [], [], _POLL_INTERVAL)  # it is between fork and exec


def kill(pid: int, start: int | None) -> None:
    """End a process with SIGTERM, then with SIGKILL."""
    if start is None or not send_signal(pid, start, signal.SIGTERM):
        return
    if wait_for_exit(pid, start, _TERM_TIMEOUT):
        return
    send_signal(pid, start, signal.SIGKILL)
    if not wait_for_exit(pid, start, _KILL_TIMEOUT):
        raise HostError(
            "process %d does not end, not even by SIGKILL: the host's kernel holds it" % pid
        )


def listens_to_power_button(monitor: Monitor, family: str) -> bool | None:
    """Whether the guest has enabled the ACPI power button, as a running operating system does.

    None if that is unknown. Source: ACPI specification, PM1 enable register, PWRBTN_EN; PC machines
    have it at I/O port 0x602. QMP cannot read a port, so this uses the human monitor.
    """
    if family not in ("i440fx", "q35"):
        return None
    try:
        text = monitor.human("i /h 0x602")
        enabled = int(text.rpartition("=")[2].strip(), 0)
    except (MonitorError, ValueError):
        return None
    # Before the firmware has set up the port, all its bits read as ones.
    return enabled != 0xFFFF and bool(enabled & 0x100)


def shut_down(
    monitor: Monitor | None,
    pid: int,
    start: int | None,
    policy: dict[str, Any],
    family: str,
    status: str,
) -> str:
    """End QEMU by power button, quit, SIGTERM, SIGKILL, in this order; return what ended it.

    monitor: None if it does not answer. policy: {acpi, timeout, quit_timeout, term_timeout, force}.
    Raises HostError if the guest does not shut down and force is false.
    """
    if policy["acpi"]:
        was_asked = (
            monitor is not None
            and status == "running"
            and listens_to_power_button(monitor, family) is not False
        )
        if monitor and was_asked and _power_down(monitor, pid, start, policy["timeout"]):
            return "acpi"
        if not policy["force"]:
            raise _not_shut_down(was_asked, policy["timeout"], status)
    if monitor:
        # It may end before it answers, or hang: the process shows which.
        with contextlib.suppress(MonitorError):
            monitor.execute("quit")
        if wait_for_exit(pid, start, policy["quit_timeout"]):
            return "quit"
    send_signal(pid, start, signal.SIGTERM)
    if wait_for_exit(pid, start, policy["term_timeout"]):
        return "term"
    kill(pid, start)
    return "kill"


def _power_down(monitor: Monitor, pid: int, start: int | None, timeout: float) -> bool:
    # It may end at this moment, or hang: the process shows which.
    with contextlib.suppress(MonitorError):
        monitor.execute("system_powerdown")
    return wait_for_exit(pid, start, timeout)


def _not_shut_down(was_asked: bool, timeout: int, status: str) -> HostError:
    if was_asked:
        why = (
            "did not power down within %d s, and shutdown.force is false: raise shutdown.timeout"
            % timeout
        )
    else:
        why = (
            "does not listen to the power button (%s), and shutdown.force is false: "
            "wait until it is up" % status
        )
    return HostError("the guest %s, or set shutdown.force: true" % why)
