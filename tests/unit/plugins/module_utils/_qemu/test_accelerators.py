# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import subprocess
import time
import types

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import accelerators as module
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import capabilities

WORKS = "printf K"
BURNS = "while :; do :; done"


def known(*accelerators, machines=("q35",)):
    return types.SimpleNamespace(
        accelerators=frozenset(accelerators),
        has_kvm="kvm" in accelerators,
        machine_name=lambda name: name if name in machines else None,
    )


class Host:
    """A host with the /dev/kvm, processor and QEMU that the test defines."""

    def __init__(self, tmp_path):
        self.path = str(tmp_path / "qemu-system-x86_64")
        self.device = str(tmp_path / "kvm")
        self.cache = str(tmp_path / "cache")
        self.starts = tmp_path / "starts"
        self.flags = {"vmx"}
        self.modules = ["kvm", "kvm_intel"]
        self.opening = self.creating = None  # an errno
        self.version = 12
        self.kind = None
        with open(self.device, "w", encoding="ascii"):
            pass
        self.qemu(WORKS)

    def qemu(self, script):
        with open(self.path, "w", encoding="ascii") as stream:
            stream.write('#!/bin/sh\necho "$@" >> %s\n%s\n' % (self.starts, script))
        os.chmod(self.path, 0o755)

    def ioctl(self, handle, number, argument):
        if number == 0xAE00:
            if self.version is None:
                raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")
            return self.version
        if number == 0xAE03:
            return 36
        self.kind = argument
        if self.creating:
            problem, self.creating = (
                self.creating,
                None if self.creating == errno.EINTR else self.creating,
            )
            raise OSError(problem, os.strerror(problem))
        return os.open("/dev/null", os.O_RDONLY)

    def count(self):
        return len(self.starts.read_text().splitlines()) if self.starts.exists() else 0

    def status(self, arch="x86_64", accelerators=("tcg", "kvm")):
        return module.kvm_status(self.path, arch, known(*accelerators), self.cache, self.device)

    def choose(self, accel, arch="x86_64", accelerators=("tcg", "kvm"), icount=False):
        return module.choose_accelerator(
            accel, self.path, arch, known(*accelerators), icount, self.cache, self.device
        )


@pytest.fixture(name="host")
def fixture_host(tmp_path, monkeypatch):
    host = Host(tmp_path)
    really_open = os.open

    def fake_open(path, *arguments, **more):
        if path == host.device and host.opening:
            raise OSError(host.opening, os.strerror(host.opening))
        return really_open(path, *arguments, **more)

    monkeypatch.setattr(os, "open", fake_open)
    monkeypatch.setattr(module.fcntl, "ioctl", host.ioctl)
    monkeypatch.setattr(module, "_cpu_flags", lambda: host.flags)
    monkeypatch.setattr(module, "_kvm_modules", lambda: host.modules)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return host


def test_works(host):
    assert host.status() == (True, host.device + " works: a test guest ran on it", "ok")
    assert "-machine q35 -accel kvm" in host.starts.read_text()


@pytest.mark.parametrize(
    "opening, flags, cause, text",
    [
        (errno.ENOENT, {"svm"}, "no_device", "modprobe kvm_intel or kvm_amd"),
        (errno.ENOENT, set(), "no_cpu_support", "firmware"),
        (
            errno.EACCES,
            {"svm"},
            "no_permission",
            r"owner %d:%d, mode 0600\): .* group" % (os.geteuid(), os.getegid()),
        ),
        (errno.EPERM, {"svm"}, "no_permission", "group"),
        (errno.ENODEV, {"svm"}, "stale_device", "kernel module"),
        (errno.ENXIO, {"svm"}, "stale_device", "kernel module"),
        (errno.EISDIR, {"svm"}, "not_a_kvm_device", "Is a directory"),
    ],
)
def test_device_cannot_be_opened(host, opening, flags, cause, text):
    os.chmod(host.device, 0o600)
    os.chown(host.device, os.geteuid(), os.getegid())
    host.opening, host.flags = opening, flags
    status = host.status()
    assert (status.usable, status.cause) == (False, cause)
    assert re.search(text, status.reason)
    assert host.count() == 0


@pytest.mark.parametrize(
    "version, creating, cause, text",
    [
        (None, None, "not_a_kvm_device", "not a KVM device"),
        (11, None, "not_a_kvm_device", "version 11"),
        (12, errno.EBUSY, "guests_do_not_run", "another hypervisor"),
        (12, errno.ENOMEM, "guests_do_not_run", "cannot create a VM"),
    ],
)
def test_device_is_no_use(host, version, creating, cause, text):
    host.version, host.creating = version, creating
    status = host.status()
    assert (status.usable, status.cause) == (False, cause)
    assert text in status.reason
    assert host.count() == 0


def test_a_file_is_not_a_kvm_device(host, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert host.status().cause == "not_a_kvm_device"


def test_interrupted_creation_is_tried_again(host):
    host.creating = errno.EINTR
    assert host.status().usable


@pytest.mark.parametrize(
    "machine, arch, cause",
    [
        ("x86_64", "x86_64", "ok"),
        ("x86_64", "i386", "ok"),
        ("i686", "x86_64", "wrong_architecture"),
        ("x86_64", "aarch64", "wrong_architecture"),
        ("aarch64", "aarch64", "ok"),
        ("aarch64", "arm", "ok"),
        ("aarch64", "x86_64", "wrong_architecture"),
        ("s390x", "s390x", "ok"),
    ],
)
def test_architectures(host, monkeypatch, machine, arch, cause):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    status = host.status(arch)
    assert (status.cause, status.usable) == (cause, cause == "ok")
    assert host.count() == (1 if cause == "ok" and machine == "x86_64" else 0)
    if machine == "aarch64" and cause == "ok":
        assert host.kind == 36


def test_not_built_in(host):
    assert host.status(accelerators=("tcg",)).cause == "not_built_in"
    assert host.status("arm", accelerators=("tcg",)).cause == "wrong_architecture"


@pytest.mark.parametrize(
    "script, text",
    [
        ("echo 'no such MSR' >&2; exit 1", r"exit code 1\): no such MSR"),
        ("true", r"exit code 0\)"),
        ("printf KK", r"exit code 0\)"),
        ("echo 'failed to set MSR' >&2; kill -ABRT $$", "signal 6: failed to set MSR"),
    ],
)
def test_guest_fails(host, script, text):
    host.qemu(script)
    status = host.status()
    assert (status.usable, status.cause) == (False, "guests_do_not_run")
    assert re.search(text, status.reason)


def test_guest_that_only_burns_time(host, monkeypatch):
    monkeypatch.setattr(module, "_GUEST_TIME", 1)
    monkeypatch.setattr(
        module, "_GUEST_TIMEOUT", 120
    )  # a busy machine may be slow to give it that second
    host.flags, host.modules = set(), ["kvm", "kvm_pvm"]
    host.qemu(BURNS)
    status = host.status()
    assert status.cause == "guests_do_not_run"
    assert "KVM is present but guests do not run on it" in status.reason
    assert "used 1 s of processor time" in status.reason
    assert "CPU flags vmx/svm missing; modules: kvm, kvm_pvm" in status.reason


def test_guest_that_hangs_is_ended(host, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_GUEST_TIMEOUT", 0.3)
    host.qemu("echo $$ > %s; exec sleep 60" % (tmp_path / "pid"))
    begin = time.monotonic()
    assert "did not end" in host.status().reason
    assert time.monotonic() - begin < 5
    assert not os.path.exists("/proc/%d" % int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("script, usable", [(WORKS, True), ("exit 1", False)])
def test_verdict_is_remembered(host, script, usable):
    host.qemu(script)
    assert host.status() == host.status()
    assert host.status().usable is usable
    assert host.count() == 1


@pytest.mark.parametrize("change", ["boot", "binary", "mode", "modules", "user"])
def test_verdict_is_forgotten(host, monkeypatch, change):
    host.status()
    if change == "boot":
        monkeypatch.setattr(module, "boot_id", lambda: "another")
    elif change == "binary":
        host.qemu("exit 1")
        os.utime(host.path, ns=(1, 1))
    elif change == "mode":
        os.chmod(host.device, 0o666)
    elif change == "modules":
        host.modules = ["kvm", "kvm_amd"]
    else:
        monkeypatch.setattr(module.os, "geteuid", lambda: 4711)
    assert host.status().usable is (change != "binary")
    assert host.count() == 2


def test_permission_is_looked_at_each_time(host):
    assert host.status().usable
    host.opening = errno.EACCES
    assert host.status().cause == "no_permission"


@pytest.mark.parametrize(
    "machines, machine", [(("q35", "pc"), "q35"), (("pc",), "pc"), (("microvm",), "microvm")]
)
def test_machine_of_the_guest(host, machines, machine):
    assert module._run_guest(host.path, known("kvm", machines=machines)) == ""
    assert "-machine %s " % machine in host.starts.read_text()
    assert "no machine type" in module._run_guest(host.path, known("kvm", machines=()))


def test_firmware_of_the_guest(host, tmp_path):
    host.qemu(
        'while [ "$1" != -bios ]; do shift; done; cat "$2" > %s; printf K' % (tmp_path / "rom")
    )
    assert host.status().usable
    rom = (tmp_path / "rom").read_bytes()
    assert len(rom) == 0x10000
    assert rom[0xFFF0:0xFFF5] == bytes.fromhex("ea000000f0")
    assert rom.startswith(bytes.fromhex(module._GUEST))


@pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("objcopy")) or platform.machine() != "x86_64",
    reason="needs gcc for x86_64",
)
def test_guest_is_what_its_source_says(tmp_path):
    source = os.path.join(os.path.dirname(__file__), "kvm_probe.S")
    subprocess.run(
        ["gcc", "-c", "-m64", "-nostdlib", "-o", str(tmp_path / "o"), source], check=True
    )
    subprocess.run(
        ["objcopy", "-O", "binary", "-j", ".text", str(tmp_path / "o"), str(tmp_path / "bin")],
        check=True,
    )
    assert (tmp_path / "bin").read_bytes().hex() == module._GUEST


@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="needs qemu-system-x86_64")
def test_guest_does_its_work_on_a_real_qemu(tmp_path):
    path = shutil.which("qemu-system-x86_64")
    real = capabilities.get_capabilities(path, str(tmp_path))
    for machine in ("q35", "pc", "microvm"):
        if real.machine_name(machine):
            assert module._run_guest(path, known("tcg", machines=(machine,)), accel="tcg") == ""


@pytest.mark.parametrize(
    "accel, icount, script, expected",
    [
        ("auto", False, WORKS, "kvm"),
        ("auto", False, "exit 1", "tcg"),
        ("kvm", False, WORKS, "kvm"),
        ("tcg", False, WORKS, "tcg"),
        ("auto", True, WORKS, "tcg"),
        ("tcg", True, WORKS, "tcg"),
    ],
)
def test_choice(host, accel, icount, script, expected):
    host.qemu(script)
    name, reason = host.choose(accel, icount=icount)
    assert name == expected
    assert reason
    if icount or accel == "tcg":
        assert host.count() == 0


def test_auto_returns_why_not_kvm(host):
    assert "icount" in host.choose("auto", icount=True)[1]
    assert "own architecture, x86_64, not arm" in host.choose("auto", "arm")[1]
    host.opening = errno.EACCES
    assert "permission" in host.choose("auto")[1]


def test_required_kvm_fails(host):
    host.opening = errno.ENODEV
    with pytest.raises(HostError, match="accel: kvm cannot be used: .*stale") as caught:
        host.choose("kvm")
    assert caught.value.facts == {"option": "accel", "cause": "stale_device"}


def test_other_accelerators(host):
    assert host.choose("hvf", accelerators=("hvf", "tcg"))[0] == "hvf"
    for accel in ("hvf", "whpx", "tcg"):
        with pytest.raises(HostError, match="built without it; it has kvm"):
            host.choose(accel, accelerators=("kvm",))


def test_without_tcg_there_is_no_fallback(host):
    assert host.choose("auto", accelerators=("kvm",))[0] == "kvm"
    host.qemu("exit 1")
    os.utime(host.path, ns=(1, 1))
    with pytest.raises(HostError, match="without tcg.*guests do not run"):
        host.choose("auto", accelerators=("kvm",))


@pytest.mark.parametrize("accel", ["kvm", "hvf", "whpx"])
def test_icount_contradicts(host, accel):
    with pytest.raises(OptionError, match="icount needs tcg") as caught:
        host.choose(accel, accelerators=("kvm", "hvf", "whpx"), icount=True)
    assert caught.value.facts["option"] == "accel"


def test_unknown_accelerator(host):
    with pytest.raises(OptionError, match="auto, kvm, tcg, hvf, whpx"):
        host.choose("xen")
