# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""QEMU's process: started detached from us, recognised again, ended step by step."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    LaunchError,
    MonitorError,
    MonitorClosed,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    read_text,
    remove_file,
    tail,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    process_handle,
    process_start_time,
    find_processes,
    send_signal,
    start_program,
    wait_for_exit,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor

# The shell waits for QEMU, keeps its exit code for us, and reaps it where PID 1 does not. Its input is the exit code's file,
# opened before, so that a shell that ends late never writes into the file of the next run; and locked, as long as the shell lives.
_SUPERVISOR = '"$@" </dev/null; code=$?; echo $code >&0; exit $code'
_PROBE = 0.004  # seconds between two looks at a socket that is not there yet


class Child:
    """A QEMU that we have just started. argv: its command line."""

    def __init__(self, argv, folder, environment):
        self.argv, self.folder = argv, folder
        remove_file(folder.exit_code)
        log = _open(folder.log, os.O_WRONLY | os.O_APPEND)
        code = _open(folder.exit_code, os.O_RDWR)
        fcntl.flock(code, fcntl.LOCK_EX)
        try:
            self.process = start_program(
                ["/bin/sh", "-c", _SUPERVISOR, "vlab-qemu"] + argv,
                stdin=code,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env=dict(os.environ, **environment),
            )
        except OSError as error:
            raise LaunchError("cannot run %s: %s" % (argv[0], error.strerror), cmd=argv)
        finally:
            os.close(log)
            os.close(code)

    def connect(self, timeout):
        """The monitor of the new QEMU, as soon as it answers. Raises LaunchError when QEMU ends or says nothing for timeout seconds."""
        deadline = time.monotonic() + timeout
        with process_handle(self.process.pid) as handle:
            while True:
                if os.path.exists(self.folder.qmp):
                    with contextlib.suppress(MonitorClosed):
                        return Monitor(
                            self.folder.qmp, timeout=max(1, deadline - time.monotonic())
                        ).connect()
                # The end of QEMU wakes us up; its socket does not.
                if (
                    select.select([] if handle is None else [handle], [], [], _PROBE)[0]
                    or handle is None
                    and self.process.poll() is not None
                ):
                    raise self.failure("QEMU ended with exit code %s" % self.process.wait())
                if time.monotonic() > deadline:
                    raise self.failure("QEMU's monitor did not answer within %d s" % timeout)

    def failure(self, what):
        """A LaunchError with QEMU's own words and the command line."""
        said = tail(self.folder.log)
        return LaunchError(
            "cannot start the VM %s: %s. It said: %s%s"
            % (self.folder.name, what, said or "nothing", _hint(said)),
            cmd=self.argv,
            rc=self.process.returncode,
            log=said,
        )

    def end(self):
        """Kill what was started; nothing of it stays."""
        end_orphans(self.folder)
        self.process.wait(10)


def _open(path, flags):
    try:
        return os.open(path, flags | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError("cannot write %s: %s" % (path, error.strerror), path=path)


def _hint(said):
    """What to do about the failures that users meet most."""
    for words, advice in (
        (
            "Could not access KVM",
            "KVM cannot be used: set accel: auto or tcg, or see qemu_host_info",
        ),
        (
            "failed to initialize kvm",
            "KVM cannot be used: set accel: auto or tcg, or see qemu_host_info",
        ),
        (
            "Failed to initialize KVM",
            "KVM cannot be used: set accel: auto or tcg, or see qemu_host_info",
        ),
        (
            "host doesn't support requested feature",
            "the CPU model asks for more than this host has: choose another cpu",
        ),
        (
            "unable to map backing store",
            "the memory backend cannot be had: fewer hugepages are free than memory needs",
        ),
        ("cannot set up guest memory", "the host cannot give that much memory: lower memory"),
        ("Cannot allocate memory", "the host cannot give that much memory: lower memory"),
        ('Failed to get "write" lock', "another QEMU has that image open"),
        (
            "Could not open '/dev/vfio",
            "the passthrough device cannot be opened: is it bound to vfio-pci, and may we use it?",
        ),
        (
            "could not configure /dev/net/tun",
            "a tap link needs privileges: become root, or use a tap made for this user",
        ),
        (
            "failed to parse default acl file",
            "a bridge link needs /etc/qemu/bridge.conf with a line: allow BRIDGE",
        ),
    ):
        if words in said:
            return " (%s)" % advice
    return ""


def read_pid(folder):
    """The pid in QEMU's pidfile, or None."""
    text = (read_text(folder.pidfile) or "").strip()
    return int(text) if text.isdigit() else None


def is_supervised(folder):
    """Whether a QEMU of this VM, or the shell that started it, lives: to ask the lock is cheaper than to look at all processes."""
    try:
        code = os.open(folder.exit_code, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(code, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(code)


def orphans(folder):
    """QEMUs of this VM, by the pidfile on their command line, whoever started them."""
    return [
        pid
        for pid in _processes(folder)
        if not (read_text("/proc/%d/cmdline" % pid) or "").startswith("/bin/sh\0-c\0")
    ]


def _processes(folder):
    return find_processes("-pidfile", folder.pidfile)


def end_orphans(folder):
    """End the QEMUs of this VM that nobody recorded, and the shells that started them; return the pids of the QEMUs."""
    ended = []
    # A QEMU listens at its monitor even where the VM's folder was deleted under it.
    if is_supervised(folder) or folder.qmp in (read_text("/proc/net/unix") or ""):
        deadline = time.monotonic() + 10
        while True:
            ended += orphans(folder)
            found = _processes(folder)
            for pid in found:
                kill(pid, process_start_time(pid))
            if not found and not is_supervised(folder):
                break
            if time.monotonic() > deadline:
                raise HostError("a start of the VM %s by another run does not end" % folder.name)
            select.select([], [], [], _PROBE)  # it is between fork and exec
    return ended


def kill(pid, start):
    """End a process that must not be there: TERM, then KILL."""
    if start is None or not send_signal(pid, start, signal.SIGTERM) or wait_for_exit(pid, start, 5):
        return
    send_signal(pid, start, signal.SIGKILL)
    if not wait_for_exit(pid, start, 10):
        raise HostError(
            "process %d does not end, not even by SIGKILL: the host's kernel holds it" % pid
        )


def listens_to_power_button(monitor, family):
    """Whether the guest has enabled the ACPI power button: an operating system that runs has, a boot loader has not.

    None where that cannot be told. Source: ACPI specification, PM1 enable register, PWRBTN_EN; PC machines have it at I/O port
    0x602. QMP cannot read a port, so this asks the human monitor.
    """
    if family not in ("i440fx", "q35"):
        return None
    try:
        text = monitor.human("i /h 0x602")
        enabled = int(text.rpartition("=")[2].strip(), 0)
    except (MonitorError, ValueError):
        return None
    # Where the firmware has not come so far, nothing is at that port, and all bits read as ones.
    return enabled != 0xFFFF and bool(enabled & 0x100)


def shut_down(monitor, pid, start, policy, family, status):
    """End QEMU by the ladder: power button, quit, TERM, KILL; return how far it had to go.

    policy: {acpi, timeout, quit_timeout, term_timeout, force}, times in seconds. monitor may be None, when it does not answer.
    Raises HostError when the guest does not obey and force is false.
    """
    was_asked = (
        monitor
        and policy["acpi"]
        and status == "running"
        and listens_to_power_button(monitor, family) is not False
    )
    if was_asked:
        with contextlib.suppress(MonitorClosed):  # it may end at this very moment
            monitor.execute("system_powerdown")
        if wait_for_exit(pid, start, policy["timeout"]):
            return "acpi"
    if policy["acpi"] and not policy["force"]:
        why = (
            "did not power down within %d s, and shutdown.force is false: raise shutdown.timeout, or"
            % policy["timeout"]
            if was_asked
            else "does not listen to the power button (%s), and shutdown.force is false: wait until it is up, or"
            % status
        )
        raise HostError("the guest %s set shutdown.force: true" % why)
    if monitor:
        try:
            monitor.execute("quit")
        except MonitorError:
            pass  # it may end before it answers, or hang: the process tells
        if wait_for_exit(pid, start, policy["quit_timeout"]):
            return "quit"
    send_signal(pid, start, signal.SIGTERM)
    if wait_for_exit(pid, start, policy["term_timeout"]):
        return "term"
    kill(pid, start)
    return "kill"
