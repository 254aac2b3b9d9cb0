# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Which accelerator works here, and why another one does not. KVM counts as usable when a guest has run on it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import subprocess
import typing

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_text
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    boot_id,
    start_program,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.binaries import host_architecture
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import (
    binary_identity,
    cache_file,
    read_cached,
    write_cached,
)

ACCELERATORS = ("auto", "kvm", "tcg", "hvf", "whpx")

# Numbers of ioctls, from linux/kvm.h.
_GET_API_VERSION, _CREATE_VM, _CHECK_EXTENSION = 0xAE00, 0xAE01, 0xAE03
_CAP_ARM_VM_IPA_SIZE = 165
_API_VERSION = 12

_X86 = ("i386", "x86_64")
# Guests of another architecture that a host's processor runs all the same, where QEMU was built so.
_ALSO_RUNS = {
    ("i386", "x86_64"),
    ("arm", "aarch64"),
    ("ppc", "ppc64"),
    ("mips", "mips64"),
    ("mipsel", "mips"),
    ("mipsel", "mips64"),
    ("mips64el", "mips64"),
}

# The test guest: it enters long mode (protected mode where the processor has no other), counts down from 10^7, prints K on the first
# serial port and resets. Its source is tests/unit/plugins/module_utils/_qemu/kvm_probe.S.
_GUEST = (
    "fa8cc88ed8660f0116b00066b8110000000f22c066ea1c000f00080066b810008ed88ed0b8010000800fa20fbae21d7347bf000001008d870310000089070500"
    "100000898700100000c68700200000830f22dfb8200000000f22e0b9800000c031d2b8000100000f30b8110000800f22c0ea78000f001800b98096980083e901"
    "75fb66baf803b04beeb0fee6640f0b000000000000000000ffff0000009bcf00ffff00000093cf00ffff0000009baf001f0090000f00"
)
_GUEST_TIME = 2  # s of processor time; a working KVM needs 0.1 s, most of it QEMU's own start
_GUEST_DEADLINE = 10  # s in all, for a guest that does not even use the processor


class KvmStatus(typing.NamedTuple):
    """Whether KVM runs guests of a binary here.

    cause: ok, wrong_architecture, not_built_in, no_device, no_cpu_support, no_permission, stale_device, not_a_kvm_device or
    guests_do_not_run. reason: the same for a person, with what to do about it.
    """

    usable: bool
    reason: str
    cause: str


def choose_accelerator(accel, path, arch, known, icount=False, cache=None, device="/dev/kvm"):
    """The accelerator to start a VM with, and why: (name, reason).

    accel: auto, kvm, tcg, hvf or whpx. path, arch, known: the QEMU binary, its guests' architecture, its Capabilities. icount: the
    VM counts instructions, which only TCG does. cache: see kvm_status().
    Raises HostError naming option accel when the one asked for does not work here; OptionError when it contradicts icount.
    """
    if accel not in ACCELERATORS:
        raise OptionError("accel", "%r is none of %s" % (accel, ", ".join(ACCELERATORS)))
    if icount and accel not in ("auto", "tcg"):
        raise OptionError("accel", "%s cannot count instructions: icount needs tcg" % accel)
    if accel in ("tcg", "hvf", "whpx"):
        if accel not in known.accelerators:
            raise _refusal(
                accel,
                "%s was built without it; it has %s"
                % (path, ", ".join(sorted(known.accelerators))),
                "not_built_in",
            )
        return accel, "%s was asked for" % accel
    status = None
    if icount:
        reason = "icount needs tcg"
    else:
        status = kvm_status(path, arch, known, cache, device)
        if status.usable:
            return "kvm", status.reason
        reason = status.reason
    if accel == "kvm":
        raise _refusal("kvm", reason, status.cause)
    if "tcg" not in known.accelerators:
        raise _refusal(
            "auto",
            "%s was built without tcg, and kvm cannot be used: %s" % (path, reason),
            "not_built_in",
        )
    return "tcg", reason


def kvm_status(path, arch, known, cache=None, device="/dev/kvm"):
    """The KvmStatus of the QEMU binary at path, for guests of arch. known: its Capabilities.

    On x86 the last word has a small test guest, as a KVM without hardware behind it passes every other check. Its verdict is kept
    in the cache folder (default: see capabilities.cache_folder) until the next boot, so that its time, 0.1 s and up to 10 s where
    KVM is broken, is spent once. Elsewhere the kernel's answers decide.
    """
    host = host_architecture()
    if arch != host and (arch, host) not in _ALSO_RUNS:
        return KvmStatus(
            False,
            "KVM runs guests of the host's own architecture, %s, not %s" % (host, arch),
            "wrong_architecture",
        )
    if not known.has_kvm:
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
    modules = _kvm_modules()
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
        modules,
    ]
    file = cache_file(path, "kvm", cache)
    said = read_cached(file, identity)
    if not isinstance(said, str):
        said = _run_guest(path, known)
        write_cached(file, identity, said)
    if not said:
        return KvmStatus(True, "%s works: a test guest ran on it" % device, "ok")
    hint = "" if _cpu_flags() & {"vmx", "svm"} else "CPU flags vmx/svm missing; "
    return KvmStatus(
        False,
        "KVM is present but guests do not run on it: %s (%smodules: %s)"
        % (said, hint, ", ".join(modules) or "none"),
        "guests_do_not_run",
    )


def _refusal(accel, reason, cause):
    return HostError("accel: %s cannot be used: %s" % (accel, reason), option="accel", cause=cause)


def _ask_kernel(device, host):
    """What opening the device and creating an empty VM tells: a KvmStatus for what is wrong, None when nothing is."""
    try:
        handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return _unopened(device, host, error)
    try:
        version = _ioctl(handle, _GET_API_VERSION, 0)
        if version != _API_VERSION:
            return KvmStatus(
                False,
                "%s has version %d of KVM's interface, not %d" % (device, version, _API_VERSION),
                "not_a_kvm_device",
            )
        # The default size of guest addresses is too large for some ARM processors: the kernel tells one that is not.
        kind = (
            max(0, _ioctl(handle, _CHECK_EXTENSION, _CAP_ARM_VM_IPA_SIZE))
            if host == "aarch64"
            else 0
        )
        os.close(_ioctl(handle, _CREATE_VM, kind))
    except OSError as error:
        if error.errno == errno.ENOTTY:
            return KvmStatus(False, "%s is not a KVM device" % device, "not_a_kvm_device")
        more = (
            ": another hypervisor on this host holds the processor's virtualization"
            if error.errno == errno.EBUSY
            else ""
        )
        return KvmStatus(
            False,
            "KVM is present but creates no VM: %s%s" % (error.strerror, more),
            "guests_do_not_run",
        )
    finally:
        os.close(handle)
    return None


def _unopened(device, host, error):
    if error.errno == errno.ENOENT:
        if host in _X86 and not _cpu_flags() & {"vmx", "svm"}:
            return KvmStatus(
                False,
                "%s does not exist, and the CPU flags vmx/svm are missing: switch virtualization on in the firmware, "
                "or, if this host is a VM, allow it nested virtualization" % device,
                "no_cpu_support",
            )
        return KvmStatus(
            False,
            "%s does not exist: load the kernel module (%s), or, in a container, pass the device into it"
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
            "%s is a stale device node: no kernel module is behind it; load kvm_intel or kvm_amd"
            % device,
            "stale_device",
        )
    return KvmStatus(
        False, "%s cannot be opened: %s" % (device, error.strerror), "not_a_kvm_device"
    )


def _ioctl(handle, number, argument):
    for attempt in range(8):
        with contextlib.suppress(InterruptedError):  # KVM_CREATE_VM may ask for another try
            return fcntl.ioctl(handle, number, argument)
    raise OSError(errno.EINTR, os.strerror(errno.EINTR))


def _cpu_flags():
    """The flags of the first processor, from /proc/cpuinfo."""
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def _kvm_modules():
    try:
        return sorted(name for name in os.listdir("/sys/module") if name.startswith("kvm"))
    except OSError:
        return []


def _run_guest(path, known, accel="kvm"):
    """Run the test guest. Empty text when it did its work, else what went wrong."""
    machine = next((name for name in ("q35", "pc", "microvm") if known.machine_name(name)), None)
    if not machine:
        return "%s has no machine type for a test guest" % path
    code = bytes.fromhex(_GUEST)
    # In memory, so that not even a killed run leaves a file. 16 bytes below its end is where the processor starts: a jump to the code.
    firmware = os.memfd_create("vlab-kvm-probe")
    try:
        with os.fdopen(os.dup(firmware), "wb") as stream:
            stream.write(code.ljust(0xFFF0, b"\0") + bytes.fromhex("ea000000f0").ljust(16, b"\0"))
        argv = [
            path,
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-machine",
            machine,
            "-accel",
            accel,
            "-m",
            "16",
            "-bios",
            "/proc/self/fd/%d" % firmware,
            "-serial",
            "stdio",
            "-no-reboot",
        ]
        try:
            process = start_program(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[firmware],
                env=dict(os.environ, LC_ALL="C"),
            )
        except OSError as error:
            return "cannot run %s: %s" % (path, error.strerror)
    finally:
        os.close(firmware)
    # The limit is on processor time: on a busy host the guest is slow, not broken. The kernel keeps it even if we are killed.
    with contextlib.suppress(OSError, ValueError):
        resource.prlimit(process.pid, resource.RLIMIT_CPU, (_GUEST_TIME, _GUEST_TIME))
    try:
        out, err = process.communicate(timeout=_GUEST_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "a test guest did not end within %d s" % _GUEST_DEADLINE
    if process.returncode == 0 and out == b"K":
        return ""
    if process.returncode < 0 and not out:
        return (
            "a test guest used %d s of processor time for work of 0.1 s" % _GUEST_TIME
            if process.returncode in (-9, -24)
            else "QEMU was ended by signal %d: %s" % (-process.returncode, _last_line(err))
        )
    return "a test guest failed (exit code %d): %s" % (process.returncode, _last_line(err))


def _last_line(text):
    return (text.decode("utf-8", "replace").strip().splitlines() or ["QEMU said nothing"])[-1]
