# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import platform

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import binaries


@pytest.fixture(name="host")
def fixture_host(tmp_path, monkeypatch):
    """An x86_64 host whose PATH and libexec are in tmp_path. host(name) creates a program there."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "libexec").mkdir()
    monkeypatch.setattr(binaries, "_PROGRAM_FOLDERS", ())
    monkeypatch.setattr(binaries, "_LIBEXEC", str(tmp_path / "libexec"))
    monkeypatch.setenv("PATH", "%s:relative/bin:" % (tmp_path / "bin"))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")

    def put(name, mode=0o755):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
        path.chmod(mode)
        return str(path)

    return put


@pytest.mark.parametrize(
    "machine, arch",
    [
        ("x86_64", "x86_64"),
        ("amd64", "x86_64"),
        ("AMD64", "x86_64"),
        ("i686", "i386"),
        ("i386", "i386"),
        ("arm64", "aarch64"),
        ("armv7l", "arm"),
        ("ppc64le", "ppc64"),
        ("s390x", "s390x"),
        ("riscv64", "riscv64"),
        ("parisc", "hppa"),
    ],
)
def test_host_architecture(monkeypatch, machine, arch):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert binaries.host_architecture() == arch
    assert arch in binaries.ARCHITECTURES


@pytest.mark.parametrize(
    "name, arch",
    [
        ("qemu-system-x86_64", "x86_64"),
        ("qemu-system-x86_64-microvm", "x86_64"),
        ("qemu-system-arm.old", "arm"),
        ("qemu-system-amd64", "x86_64"),
        ("qemu-system-mips64el", "mips64el"),
        ("qemu-kvm", "x86_64"),
        ("kvm", "x86_64"),
        ("emulator", None),
    ],
)
def test_architecture_in_the_name(host, name, arch):
    assert binaries.architecture_of("/nowhere/" + name) == arch


def test_architecture_in_the_name_of_the_link_target(host, tmp_path):
    host("bin/qemu-system-sparc")
    os.symlink(str(tmp_path / "bin" / "qemu-system-sparc"), str(tmp_path / "emulator"))
    assert binaries.find_qemu(binary=str(tmp_path / "emulator")) == (
        str(tmp_path / "emulator"),
        "sparc",
    )


def test_default_is_host_architecture(host):
    path = host("bin/qemu-system-x86_64")
    host("bin/qemu-system-arm")
    assert binaries.find_qemu() == (path, "x86_64")


def test_by_architecture(host):
    path = host("bin/qemu-system-aarch64")
    assert binaries.find_qemu("aarch64") == (path, "aarch64")
    assert binaries.find_qemu("arm64") == (path, "aarch64")


def test_qemu_kvm_serves_host_architecture_only(host):
    path = host("libexec/qemu-kvm")
    assert binaries.find_qemu() == (path, "x86_64")
    assert binaries.find_qemu("x86_64") == (path, "x86_64")
    assert binaries.find_qemu(binary="qemu-kvm") == (path, "x86_64")
    with pytest.raises(OptionError, match="qemu-system-arm,"):
        binaries.find_qemu("aarch64")


def test_qemu_system_is_preferred_to_qemu_kvm(host):
    host("libexec/qemu-kvm")
    path = host("bin/qemu-system-x86_64")
    assert binaries.find_qemu() == (path, "x86_64")


@pytest.mark.parametrize(
    "arch, package",
    [
        ("i386", "qemu-system-x86"),
        ("arm", "qemu-system-arm"),
        ("ppc64", "qemu-system-ppc"),
        ("m68k", "qemu-system-misc"),
        ("riscv64", "qemu-system-riscv "),
    ],
)
def test_missing_architecture_names_package(host, arch, package):
    with pytest.raises(OptionError, match="install the package " + package) as caught:
        binaries.find_qemu(arch)
    assert caught.value.facts["option"] == "arch"


def test_by_name_and_by_path(host):
    path = host("bin/qemu-system-x86_64")
    assert binaries.find_qemu(binary="qemu-system-x86_64") == (path, "x86_64")
    assert binaries.find_qemu(binary=path) == (path, "x86_64")
    assert binaries.find_qemu("amd64", path) == (path, "x86_64")


def test_three_different_errors(host, tmp_path):
    host("bin/qemu-system-arm", mode=0o644)
    (tmp_path / "bin" / "qemu-system-ppc").mkdir()
    (tmp_path / "bin" / "qemu-system-rx").symlink_to("/nowhere")
    for binary, text in (
        ("qemu-system-sparc", "not found"),
        ("qemu-system-rx", "not found"),
        ("qemu-system-ppc", "not a file"),
        ("qemu-system-arm", "not executable"),
    ):
        for given in (binary, str(tmp_path / "bin" / binary)):
            with pytest.raises(OptionError, match=text) as caught:
                binaries.find_qemu(binary=given)
            assert caught.value.facts["option"] == "qemu_binary"


def test_the_first_candidate_that_exists(host, tmp_path):
    path = host("bin/qemu-system-x86_64")
    host("bin/qemu-system-arm", mode=0o644)
    found = binaries.first_binary(["/opt/new/qemu-system-x86_64", "qemu-system-arm", path, "other"])
    assert found == path
    assert binaries.first_binary([]) is None
    assert binaries.first_binary(["not-looked-at"]) == "not-looked-at"
    with pytest.raises(OptionError) as caught:
        binaries.first_binary(["/opt/qemu", "qemu-system-arm"])
    assert caught.value.option == "qemu_binary"
    assert caught.value.reason == "/opt/qemu was not found; %s is not executable" % (
        tmp_path / "bin/qemu-system-arm"
    )


def test_relative_path_is_refused(host):
    with pytest.raises(OptionError, match="absolute"):
        binaries.find_qemu(binary="bin/qemu-system-x86_64")


@pytest.mark.parametrize("arguments", [{"arch": "z80"}, {"binary": "qemu-system-z80"}])
def test_unknown_architecture_lists_the_known(host, arguments):
    host("bin/qemu-system-z80")
    with pytest.raises(OptionError, match="z80.*aarch64, alpha.*xtensaeb") as caught:
        binaries.find_qemu(**arguments)
    assert caught.value.facts["option"] == "arch"


def test_architecture_must_be_the_binarys(host):
    path = host("bin/qemu-system-arm")
    with pytest.raises(OptionError, match="x86_64 was asked for.*is for arm"):
        binaries.find_qemu("x86_64", path)


def test_a_name_without_architecture_needs_arch(host):
    path = host("bin/emulator")
    with pytest.raises(OptionError, match="give arch"):
        binaries.find_qemu(binary=path)
    assert binaries.find_qemu("arm", path) == (path, "arm")


def test_qemu_img_beside_the_binary_first(host, tmp_path):
    qemu = host("opt/qemu-system-x86_64")
    with pytest.raises(HostError, match="qemu-utils"):
        binaries.find_qemu_img(qemu)
    in_path = host("bin/qemu-img")
    assert binaries.find_qemu_img() == binaries.find_qemu_img(qemu) == in_path
    link = tmp_path / "bin" / "qemu-system-x86_64"
    link.symlink_to(qemu)
    beside = host("opt/qemu-img")
    assert binaries.find_qemu_img(qemu) == beside
    assert binaries.find_qemu_img(str(link)) == in_path
    os.unlink(in_path)
    assert binaries.find_qemu_img(str(link)) == beside


def test_find_program(host):
    assert binaries.find_program("tool") is None
    host("bin/tool", mode=0o644)
    assert binaries.find_program("tool") is None
    path = host("bin/other")
    assert binaries.find_program("other") == path


def test_list_binaries(host, tmp_path):
    arm, kvm = host("bin/qemu-system-arm"), host("libexec/qemu-kvm")
    host("bin/qemu-system-z80")
    host("bin/qemu-system-ppc", mode=0o644)
    host("libexec/qemu-system-i386")
    (tmp_path / "bin" / "qemu-system-arm64").symlink_to(arm)
    assert binaries.list_binaries() == [(arm, "arm"), (kvm, "x86_64")]
