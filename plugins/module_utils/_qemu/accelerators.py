# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Find out which accelerator works on this host, and why others do not.

KVM counts as usable once a test guest has run on it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import signal
import subprocess
from typing import NamedTuple, NoReturn

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_text
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    boot_id,
    start_program,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binaries import host_architecture
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import (
    Capabilities,
    binary_identity,
    cache_file,
    read_cached,
    write_cached,
)

ACCELERATORS = ("auto", "kvm", "tcg", "hvf", "whpx")

# ioctl numbers from linux/kvm.h.
_GET_API_VERSION, _CREATE_VM, _CHECK_EXTENSION = 0xAE00, 0xAE01, 0xAE03
_CAP_ARM_VM_IPA_SIZE = 165
_API_VERSION = 12

_X86 = ("i386", "x86_64")
# (guest, host): other architectures that the host's processor runs, if QEMU was built for that.
_ALSO_RUNS = {
    ("i386", "x86_64"),
    ("arm", "aarch64"),
    ("ppc", "ppc64"),
    ("mips", "mips64"),
    ("mipsel", "mips"),
    ("mipsel", "mips64"),
    ("mips64el", "mips64"),
}

# The test guest enters long mode (protected mode if the processor has no other), counts down from
# 10^7, prints K on the first serial port and resets.
# Its source is tests/unit/plugins/module_utils/_qemu/kvm_probe.S.
_GUEST = (
    "fa8cc88ed8660f0116b00066b8110000000f22c066ea1c000f00080066b810008ed88ed0b8010000800fa20f"
    "bae21d7347bf000001008d870310000089070500100000898700100000c68700200000830f22dfb820000000"
    "0f22e0b9800000c031d2b8000100000f30b8110000800f22c0ea78000f001800b98096980083e90175fb66ba"
    "f803b04beeb0fee6640f0b000000000000000000ffff0000009bcf00ffff00000093cf00ffff0000009baf00"
    "1f0090000f00"
)
_GUEST_TIME = 2  # s of processor time; with KVM it is 0.1 s, most of it for QEMU's start
_GUEST_TIMEOUT = 10  # s, for a guest that does not use the processor


class KvmStatus(NamedTuple):
    """Whether KVM runs guests of a binary on this host.

    cause: ok, wrong_architecture, not_built_in, no_device, no_cpu_support, no_permission,
    stale_device, not_a_kvm_device or guests_do_not_run.
    reason: the cause as text for the user, with a remedy.
    """

    usable: bool
    reason: str
    cause: str


def choose_accelerator(
    accel: str,
    path: str,
    arch: str,
    capabilities: Capabilities,
    icount: bool = False,
    cache: str | None = None,
    device: str = "/dev/kvm",
) -> tuple[str, str]:
    """Return the accelerator to start a VM with, and the reason.

    accel: auto, kvm, tcg, hvf or whpx. path: the QEMU binary. arch: the architecture of its guests.
    icount: the VM counts instructions, which only TCG does. cache: see kvm_status().
    Raises HostError, naming option accel, if the requested one does not work on this host;
    OptionError if it contradicts icount.
    """
    if accel not in ACCELERATORS:
        raise OptionError("accel", "%r is none of %s" % (accel, ", ".join(ACCELERATORS)))
    if icount and accel not in ("auto", "tcg"):
        raise OptionError("accel", "%s cannot count instructions: icount needs tcg" % accel)
    if accel in ("tcg", "hvf", "whpx"):
        if accel not in capabilities.accelerators:
            _refuse(
                accel,
                "%s was built without it; it has %s"
                % (path, ", ".join(sorted(capabilities.accelerators))),
                "not_built_in",
            )
        return accel, "%s was requested" % accel
    if icount:
        reason = "icount needs tcg"
    else:
        status = kvm_status(path, arch, capabilities, cache, device)
        if status.usable:
            return "kvm", status.reason
        if accel == "kvm":
            _refuse("kvm", status.reason, status.cause)
        reason = status.reason
    if "tcg" not in capabilities.accelerators:
        _refuse(
            "auto",
            "%s was built without tcg, and kvm cannot be used: %s" % (path, reason),
            "not_built_in",
        )
    return "tcg", reason


def kvm_status(
    path: str,
    arch: str,
    capabilities: Capabilities,
    cache: str | None = None,
    device: str = "/dev/kvm",
) -> KvmStatus:
    """Return the KvmStatus of the QEMU binary at path, for guests of arch.

    On x86 a small test guest decides, because a KVM without hardware behind it passes all other
    checks. It takes 0.1 s, and up to 10 s if KVM is broken. Its result is kept in the cache folder
    (default: see capabilities.cache_folder) until the next boot. Elsewhere the kernel decides.
    """
    host = host_architecture()
    if arch != host and (arch, host) not in _ALSO_RUNS:
        return KvmStatus(
            False,
            "KVM runs guests of the host's own architecture, %s, not %s" % (host, arch),
            "wrong_architecture",
        )
    if not capabilities.has_kvm:
        return KvmStatus(
            False,
            "%s was built without KVM for %s guests on %s" % (path, arch, host),
            "not_built_in",
        )
    problem = _ask_kernel(device, host)
    if problem:
        return problem
    if host not in _X86:
        return KvmStatus(True, "%s works" % device, "ok")
    failure = _guest_failure(path, capabilities, cache, device)
    if not failure:
        return KvmStatus(True, "%s works: a test guest ran on it" % device, "ok")
    hint = "" if _cpu_flags() & {"vmx", "svm"} else "CPU flags vmx/svm missing; "
    return KvmStatus(
        False,
        "KVM is present but guests do not run on it: %s (%smodules: %s)"
        % (failure, hint, ", ".join(_kvm_modules()) or "none"),
        "guests_do_not_run",
    )


def _guest_failure(path: str, capabilities: Capabilities, cache: str | None, device: str) -> str:
    """Return why the test guest failed, empty if it ran; from the cache if nothing has changed."""
    state = os.stat(device)
    identity = [
        boot_id(),
        binary_identity(path),
        device,
        state.st_rdev,
        state.st_mode,
        state.st_uid,
        state.st_gid,
        os.geteuid(),
        _kvm_modules(),
    ]
    file = cache_file(path, "kvm", cache)
    failure = read_cached(file, identity)
    if not isinstance(failure, str):
        failure = _run_guest(path, capabilities)
        write_cached(file, identity, failure)
    return failure


def _refuse(accel: str, reason: str, cause: str) -> NoReturn:
    raise HostError("accel: %s cannot be used: %s" % (accel, reason), option="accel", cause=cause)


def _ask_kernel(device: str, host: str) -> KvmStatus | None:
    """Open the device and create an empty VM; return a KvmStatus if that fails, else None."""
    try:
        handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return _open_failure(device, host, error)
    try:
        version = _ioctl(handle, _GET_API_VERSION, 0)
        if version != _API_VERSION:
            return KvmStatus(
                False,
                "%s has version %d of KVM's interface, not %d" % (device, version, _API_VERSION),
                "not_a_kvm_device",
            )
        # The default size of guest addresses is too large for some ARM processors.
        address_bits = (
            max(0, _ioctl(handle, _CHECK_EXTENSION, _CAP_ARM_VM_IPA_SIZE))
            if host == "aarch64"
            else 0
        )
        os.close(_ioctl(handle, _CREATE_VM, address_bits))
    except OSError as error:
        if error.errno == errno.ENOTTY:
            return KvmStatus(False, "%s is not a KVM device" % device, "not_a_kvm_device")
        hint = (
            ": another hypervisor on this host uses the processor's virtualization"
            if error.errno == errno.EBUSY
            else ""
        )
        return KvmStatus(
            False,
            "KVM is present but cannot create a VM: %s%s" % (error.strerror, hint),
            "guests_do_not_run",
        )
    finally:
        os.close(handle)
    return None


def _open_failure(device: str, host: str, error: OSError) -> KvmStatus:
    """Return why the device cannot be opened."""
    if error.errno == errno.ENOENT:
        if host in _X86 and not _cpu_flags() & {"vmx", "svm"}:
            return KvmStatus(
                False,
                "%s does not exist, and the CPU flags vmx/svm are missing: switch virtualization "
                "on in the firmware, or, if this host is a VM, allow it nested virtualization"
                % device,
                "no_cpu_support",
            )
        return KvmStatus(
            False,
            "%s does not exist: load the kernel module (%s), or, in a container, pass the device "
            "into it"
            % (device, "modprobe kvm_intel or kvm_amd" if host in _X86 else "modprobe kvm"),
            "no_device",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        state = None
        with contextlib.suppress(OSError):
            state = os.stat(device)
        owner = (
            " (owner %d:%d, mode %04o)" % (state.st_uid, state.st_gid, state.st_mode & 0o7777)
            if state
            else ""
        )
        return KvmStatus(
            False,
            "no permission to open %s%s: add the user with id %d to its group, usually kvm"
            % (device, owner, os.geteuid()),
            "no_permission",
        )
    if error.errno in (errno.ENODEV, errno.ENXIO):
        return KvmStatus(
            False,
            "%s is a stale device node without a kernel module: load kvm_intel or kvm_amd" % device,
            "stale_device",
        )
    return KvmStatus(
        False, "%s cannot be opened: %s" % (device, error.strerror), "not_a_kvm_device"
    )


def _ioctl(handle: int, number: int, argument: int) -> int:
    for _attempt in range(8):
        with contextlib.suppress(InterruptedError):  # KVM_CREATE_VM may need another try
            return fcntl.ioctl(handle, number, argument)
    raise OSError(errno.EINTR, os.strerror(errno.EINTR))


def _cpu_flags() -> set[str]:
    """Return the flags of the first processor, from /proc/cpuinfo."""
    for line in (read_text("/proc/cpuinfo", "")).splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def _kvm_modules() -> list[str]:
    try:
        return sorted(name for name in os.listdir("/sys/module") if name.startswith("kvm"))
    except OSError:
        return []


def _run_guest(path: str, capabilities: Capabilities, accel: str = "kvm") -> str:
    """Run the test guest; return why it failed, empty if it did its work."""
    machine = next(
        (name for name in ("q35", "pc", "microvm") if capabilities.machine_name(name)), None
    )
    if not machine:
        return "%s has no machine type for a test guest" % path
    try:
        process = _start_guest(path, machine, accel)
    except OSError as error:
        return "cannot run %s: %s" % (path, error.strerror)
    # The limit is on processor time: on a busy host the guest is slow, not broken. The kernel
    # enforces it even if this process is killed.
    with contextlib.suppress(OSError, ValueError):
        resource.prlimit(process.pid, resource.RLIMIT_CPU, (_GUEST_TIME, _GUEST_TIME))
    try:
        out, err = process.communicate(timeout=_GUEST_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "a test guest did not end within %d s" % _GUEST_TIMEOUT
    if process.returncode == 0 and out == b"K":
        return ""
    if process.returncode < 0 and not out:
        if -process.returncode in (signal.SIGKILL, signal.SIGXCPU):
            return "a test guest used %d s of processor time for work of 0.1 s" % _GUEST_TIME
        return "QEMU was ended by signal %d: %s" % (-process.returncode, _last_line(err))
    return "a test guest failed (exit code %d): %s" % (process.returncode, _last_line(err))


def _start_guest(path: str, machine: str, accel: str) -> subprocess.Popen[bytes]:
    # Firmware in memory: not even a killed run leaves a file. The processor starts 16 bytes below
    # its end, where it jumps to the code.
    firmware = os.memfd_create("vlab-kvm-probe")
    try:
        with os.fdopen(os.dup(firmware), "wb") as stream:
            code = bytes.fromhex(_GUEST).ljust(0xFFF0, b"\0")
            stream.write(code + bytes.fromhex("ea000000f0").ljust(16, b"\0"))
        return start_program(
            [path, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
            + ["-machine", machine, "-accel", accel, "-m", "16"]
            + ["-bios", "/proc/self/fd/%d" % firmware, "-serial", "stdio"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[firmware],
            env=dict(os.environ, LC_ALL="C"),
        )
    finally:
        os.close(firmware)


def _last_line(text: bytes) -> str:
    return (text.decode("utf-8", "replace").strip().splitlines() or ["QEMU printed nothing"])[-1]
