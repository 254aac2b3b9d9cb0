# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What QEMU would refuse at the start is refused before any change, naming the option."""

from __future__ import annotations

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.machine import Machine
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, FakeVocabulary, compose

CPUS = {
    "qemu64": {"ssse3", "sse4.1", "sse4-1", "tsc-frequency", "enforce"},
    "host": set(),
    "max": {"aes"},
}
DEVICES = {
    "pvpanic": {"ioport"},
    "e1000": {"addr", "mac", "mitigation"},
    "rocker": {"len-ports"},
    "virtio-rng-pci": {"rng", "max-bytes"},
}
MACHINES = {"pc-q35-7.2": {"smbus", "usb", "smp"}, "pc-i440fx-7.2": {"vmport"}}
BINARY = "/usr/bin/qemu-system-x86_64"


def fake_host(arch="x86_64", accel="tcg", refusal=""):
    host = FakeHost(arch=arch)
    host.accel, host.accel_reason = accel, "because"
    host.__dict__["vocabulary"] = FakeVocabulary(
        CPUS, DEVICES, MACHINES, refusal, ("no-reboot", "device")
    )
    return host


def check(given, host=None):
    host = host or fake_host()
    desired = compose({"memory": "64", "disks": [], **given}, host=host)
    Machine().check_start(desired, host)


def nic(**properties):
    return {"nics": [{"name": "eth0", "model": "e1000", "properties": properties}]}


REFUSED = [
    ({"cpu": "host", "accel": "tcg"}, "cpu: host is the processor of the hypervisor, which needs"),
    ({"cpu": "qemu46"}, "cpu: %s has no CPU model 'qemu46'; did you mean qemu64?" % BINARY),
    ({"cpu": "?"}, "cpu: %s has no CPU model '?'" % BINARY),
    (
        {"cpu": "qemu64,+sse3"},
        "cpu: the CPU model qemu64 of %s has no flag 'sse3'; did you mean ssse3?" % BINARY,
    ),
    ({"cpu": "max,-nosuch,aes=off"}, "no flag 'nosuch'"),
    ({"cpu": "max,nosuch=3"}, "no flag 'nosuch'"),
    (
        {"machine": "q35", "machine_options": {"smbuss": False}},
        "machine_options.smbuss: the machine q35 of %s has no property 'smbuss';"
        " did you mean smbus?" % BINARY,
    ),
    ({"machine_options": {"smbus": False}}, "machine_options.smbus: the machine pc of"),
    ({"vcpus": 300}, "vcpus: the machine pc of %s has 255 virtual CPUs at most, not 300" % BINARY),
    (
        {"vcpus": 1, "smp": {"maxcpus": 256}},
        "smp.maxcpus: the machine pc of %s has 255 virtual CPUs at most, not 256" % BINARY,
    ),
    (
        {"devices": [{"driver": "e1000"}, {"driver": "pvpanic", "ioprot": 1}]},
        "devices[1].ioprot: the device pvpanic of %s has no property 'ioprot';"
        " did you mean ioport?" % BINARY,
    ),
    ({"devices": [{"driver": "pvpanik"}]}, "has no device 'pvpanik'; did you mean pvpanic?"),
    (nic(mitigatoin=True), "nics[eth0].properties.mitigatoin: the device e1000 of"),
    ({"boot_order": "cp"}, "boot_order: the machine pc cannot boot from p: use n for the network"),
    ({"boot_order": "cdna", "machine": "q35"}, "boot_order: 'cdna' has more than the 3 devices"),
    ({"extra_args": ["-accel", "kvm"]}, "extra_args: -accel cannot be given: use accel"),
    ({"extra_args": ["--accel", "kvm"]}, "extra_args: --accel cannot be given: use accel"),
    ({"extra_args": ["-M", "pc"]}, "extra_args: -M pc cannot be given here: use machine"),
    ({"extra_args": ["-machine", "usb=on,type=pc"]}, "type=pc cannot be given here: use machine"),
    ({"extra_args": ["-machine", "accel=kvm"]}, "extra_args: -machine accel=kvm cannot be given"),
    (
        {"machine": "q35", "extra_args": ["--machine", "usbb=on"]},
        "extra_args: the machine q35 of %s has no property 'usbb'; did you mean usb?" % BINARY,
    ),
    ({"extra_args": ["-cpu", "qemu46"]}, "extra_args: %s has no CPU model 'qemu46'" % BINARY),
    ({"extra_args": ["-device", "e1001"]}, "extra_args: %s has no device 'e1001'" % BINARY),
    (
        {"extra_args": ["-device", "pvpanic,id=a,,b,ioprot=3"]},
        "extra_args: the device pvpanic of %s has no property 'ioprot'" % BINARY,
    ),
    ({"extra_args": ["-device", '{"driver": "pvpanic", "x": 1}']}, "has no property 'x'"),
    ({"extra_args": ["-device", '{"driver"']}, 'extra_args: -device {"driver" is not JSON'),
]
ACCEPTED = [
    {"cpu": "qemu64,+ssse3,-sse4.1,sse4_1=on,tsc-freq=1000,enforce"},
    {"cpu": "max,+aes"},
    {"machine": "q35", "machine_options": {"smbus": False, "kernel_irqchip": "off"}},
    {"machine": "q35", "machine_options": {"smp.cpus": 1, "usb": True}},
    {"vcpus": 255},
    {"devices": [{"driver": "pvpanic", "id": "x", "ioport": 5}, {"driver": "ib700", "any": 1}]},
    {"devices": [{"driver": "e1000"}]},
    nic(mitigation=True),
    {"boot_order": "ndc"},
    {"extra_args": ["-machine", "vmport=off", "-cpu", "max", "-device", "pvpanic,ioport=5"]},
    {"extra_args": ["-no-reboot", "-serial", "none"]},
]


@pytest.mark.parametrize("given, message", REFUSED)
def test_refused(given, message):
    with pytest.raises(OptionError) as caught:
        check(given)
    assert message in caught.value.message
    assert caught.value.option.partition(".")[0].partition("[")[0] in given


@pytest.mark.parametrize("given", ACCEPTED)
def test_accepted(given):
    check(given)


@pytest.mark.parametrize("accel, is_refused", [("tcg", True), ("kvm", False), ("hvf", False)])
def test_the_processor_of_the_host_needs_hardware(accel, is_refused, monkeypatch):
    host = fake_host(accel=accel)
    monkeypatch.setattr(
        "ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.machine.choose_accelerator",
        lambda desired, host: None,
    )
    if not is_refused:
        return check({"cpu": "host"}, host)
    with pytest.raises(OptionError, match=r"would run with tcg \(because\): use max, or omit it"):
        check({"cpu": "host"}, host)


def test_a_definition_may_wait_for_kvm():
    compose({"cpu": "host", "memory": "64", "disks": []}, host=fake_host())


@pytest.mark.parametrize(
    "arch, accel, cpu, message",
    [
        ("aarch64", "tcg", "max,+aes", "'+aes' is not a flag of a CPU of aarch64: give NAME=on"),
        ("aarch64", "tcg", "max,sve=off", "has no flag 'sve'"),
        ("aarch64", "tcg", "max,aes=off", None),
        ("aarch64", "kvm", "max,kvm-steal-time=off", None),
        ("ppc64", "tcg", "POWER9_v2.0", None),
        ("s390x", "kvm", "host", None),
    ],
)
def test_other_architectures(arch, accel, cpu, message):
    from ansible_collections.vlab.qemu.plugins.module_utils._vm import binary_checks

    host = fake_host(arch, accel)
    host.arch = arch
    host.vocabulary.cpus = {name: flags for name, flags in CPUS.items() if name != "host"}
    if message is None:
        return binary_checks.check_cpu("cpu", cpu, host, accel)
    with pytest.raises(OptionError) as caught:
        binary_checks.check_cpu("cpu", cpu, host, accel)
    assert message in caught.value.message


@pytest.mark.parametrize(
    "refusal, message",
    [
        ("-no-rebot: invalid option", "-no-rebot: invalid option; did you mean -no-reboot?"),
        ("-device: requires an argument", "-device: requires an argument"),
    ],
)
def test_words_that_qemu_lacks(refusal, message):
    with pytest.raises(OptionError) as caught:
        check({"extra_args": ["-x"]}, fake_host(refusal=refusal))
    assert caught.value.message == "extra_args: %s refuses them: %s" % (BINARY, message)


@pytest.mark.parametrize(
    "given, asked",
    [
        ({}, []),
        ({"devices": [{"driver": "pvpanic"}], "vcpus": 2, "boot_order": "c"}, []),
        (nic(), []),
        ({"cpu": "max"}, ["cpus"]),
    ],
)
def test_nothing_is_asked_without_need(given, asked):
    host = fake_host()
    compose({"memory": "64", "disks": [], **given}, host=host)
    assert host.vocabulary.asked == asked


def test_what_is_saved_is_asked_again_only_for_a_start():
    given = {
        "memory": "64",
        "disks": [],
        "cpu": "max,+aes",
        "machine_options": {"vmport": "off"},
        "extra_args": ["-no-reboot"],
        "devices": [{"driver": "pvpanic", "ioport": 1285}],
        **nic(mitigation=True),
    }
    saved = compose(given, host=fake_host())
    host = fake_host()
    desired = compose({**given, "memory": "96"}, saved, host)
    assert host.vocabulary.asked == []
    Machine().check_start(desired, host)
    assert host.vocabulary.asked
