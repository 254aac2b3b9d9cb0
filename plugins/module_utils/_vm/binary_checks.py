# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Checks of what a user wrote in QEMU's own words, against the QEMU of the VM.

They make check mode and a run refuse what QEMU would refuse at the start. What the binary does not
report is not checked.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Iterable, Mapping, NoReturn

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import suggestion
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import parse_keyval

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host

_EXTRA = "extra_args"
_X86 = ("i386", "x86_64")
_PREFIXED_FLAGS = (*_X86, "sparc", "sparc64")  # where +flag and -flag are CPU flags
_HARDWARE = ("kvm", "hvf")
# Further words for -machine, which QEMU hands on to the accelerator.
_OF_THE_ACCELERATOR = frozenset(("kernel-irqchip", "kvm-shadow-mem", "igd-passthru"))
# Words for every -device, of which some are properties that QMP does not list.
_OF_EVERY_DEVICE = ("driver", "id", "bus", "type", "hotplugged", "hotpluggable", "realized")
_MACHINE_WORDS = {"type": "machine", "accel": "accel", "memory-backend": "memory_backend"}
_QEMU = ("qemu_binary", "arch", "machine")


def is_new(name: str, desired: Definition, saved: Definition) -> bool:
    """Return whether an option, or the QEMU that is to accept it, differs from the saved one."""
    return any(desired[key] != saved.get(key) for key in (name, *_QEMU))


def check_cpu(option: str, cpu: str, host: Host, accel: str) -> None:
    """Check a CPU model and its flags. accel: which one runs the VM, empty if that is open."""
    model, *flags = cpu.split(",")
    if model == "host" and accel and accel not in _HARDWARE:
        raise OptionError(
            option,
            "host is the processor of the hypervisor, which needs kvm or hvf, but the VM would run"
            " with %s (%s): use max, or omit it" % (accel, host.accel_reason or "accel: tcg"),
        )
    models = host.vocabulary.cpu_models()
    # PowerPC also takes names in other cases and numbers of processor versions.
    if models is None or host.arch.startswith("ppc"):
        return
    if model not in models and model != "host":  # it may be reported with KVM only
        raise OptionError(
            option,
            "%s has no CPU model %r%s" % (host.binary, model, suggestion(model, models)),
        )
    # Elsewhere, the properties depend on the accelerator; only TCG was asked.
    if host.arch in _X86 or accel == "tcg":
        _check_flags(option, model, flags, host)


def _check_flags(option: str, model: str, flags: list[str], host: Host) -> None:
    offered = host.vocabulary.cpu_properties(model) if flags else None
    for flag in flags if offered else ():
        name = flag.partition("=")[0]
        if host.arch in _PREFIXED_FLAGS:
            name = name[1:] if name[:1] in ("+", "-") else name
            name = "tsc-frequency" if name == "tsc-freq" else name.replace("_", "-")
        elif "=" not in flag:
            raise OptionError(
                option,
                "%r is not a flag of a CPU of %s: give NAME=on or NAME=off" % (flag, host.arch),
            )
        if name not in (offered or ()):
            raise OptionError(
                option,
                "the CPU model %s of %s has no flag %r%s"
                % (model, host.binary, name, suggestion(name, offered or ())),
            )


def check_machine(option: str, properties: Iterable[str], machine: str, host: Host) -> None:
    """Check names of properties of a machine. option: path of the dict that has them."""
    if not properties:
        return
    real = host.capabilities.machine_name(machine) or machine
    offered = host.vocabulary.machine_properties(real)
    for name in properties if offered else ():
        plain = name.replace("_", "-")
        if plain not in _OF_THE_ACCELERATOR and not _has(plain, offered or ()):
            _refuse_property(option, name, "machine " + machine, host, offered or ())


def check_device(option: str, driver: str, properties: Iterable[str], host: Host) -> None:
    """Check names of properties of a device. option: path of the dict that has them."""
    names = [name for name in properties if name not in _OF_EVERY_DEVICE]
    if not names:
        return
    offered = host.vocabulary.device_properties(host.capabilities.device_name(driver) or driver)
    for name in names if offered else ():
        if not _has(name, offered or ()):
            _refuse_property(option, name, "device " + driver, host, offered or ())


def _refuse_property(
    option: str, name: str, of: str, host: Host, offered: Iterable[str]
) -> NoReturn:
    raise OptionError(
        option if option == _EXTRA else "%s.%s" % (option, name),
        "the %s of %s has no property %r%s" % (of, host.binary, name, suggestion(name, offered)),
    )


def check_driver(option: str, driver: str, host: Host) -> None:
    """Check that QEMU has a device type."""
    if not host.capabilities.has_device(driver):
        raise OptionError(
            option,
            "%s has no device %r%s"
            % (host.binary, driver, suggestion(driver, host.capabilities.device_types)),
        )


def _has(name: str, offered: Iterable[str]) -> bool:
    """Return whether a name is offered: an element of a list or of a dict by the name of that."""
    base = name.partition(".")[0].partition("[")[0]
    return bool({name, base, "len-" + base} & set(offered))


def check_extra_args(words: list[str], desired: Definition, host: Host) -> None:
    """Check further command line words: that QEMU has the options, and what some of them say."""
    if not words:
        return
    refusal = host.vocabulary.refusal(words)
    if refusal:
        name = refusal.partition(":")[0].lstrip("-")
        similar = suggestion(name, host.vocabulary.options()) if "invalid" in refusal else ""
        raise OptionError(
            _EXTRA,
            "%s refuses them: %s%s" % (host.binary, refusal, similar.replace("mean ", "mean -")),
        )
    for word, value in zip(words, words[1:]):
        check = _WORDS.get(word[1:] if word.startswith("--") else word)
        if check:
            check(word, value, desired, host)


def _check_machine_word(word: str, value: str, desired: Definition, host: Host) -> None:
    properties = parse_keyval(value, "type")
    for name, option in _MACHINE_WORDS.items():
        if name in properties:
            raise OptionError(_EXTRA, "%s %s cannot be given here: use %s" % (word, value, option))
    check_machine(_EXTRA, properties, desired["machine"], host)


def _check_cpu_word(word: str, value: str, desired: Definition, host: Host) -> None:
    check_cpu(_EXTRA, value, host, host.accel)


def _check_device_word(word: str, value: str, desired: Definition, host: Host) -> None:
    properties: Mapping[str, Any] = parse_keyval(value, "driver")
    if value.startswith("{"):
        try:
            properties = json.loads(value)
        except ValueError as error:
            raise OptionError(_EXTRA, "%s %s is not JSON: %s" % (word, value, error))
    driver = properties.get("driver")
    if isinstance(driver, str):
        check_driver(_EXTRA, driver, host)
        check_device(_EXTRA, driver, properties, host)


# How the value of a command line word is checked.
_WORDS = {
    "-machine": _check_machine_word,
    "-M": _check_machine_word,
    "-cpu": _check_cpu_word,
    "-device": _check_device_word,
}
