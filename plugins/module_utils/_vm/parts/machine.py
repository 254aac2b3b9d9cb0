# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The machine: architecture, type, processors, accelerator, and further command line words."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import shown, suggestion
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import accelerators
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import (
    check_properties,
    keyval,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses, binary_checks
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import (
    Option,
    Part,
    checked,
    left_out,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import Capabilities
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Params,
        Result,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation

# The default machine types, where QEMU has none or an outdated one.
_MACHINES = {
    "x86_64": ("pc", "q35"),
    "i386": ("pc", "q35"),
    "aarch64": ("virt",),
    "arm": ("virt",),
    "riscv64": ("virt",),
    "riscv32": ("virt",),
    "loongarch64": ("virt",),
    "ppc64": ("pseries",),
    "s390x": ("s390-ccw-virtio",),
}

# Words that would conflict with the module, with what to use instead.
_RESERVED = {
    "-daemonize": "the module detaches QEMU itself",
    "-pidfile": "the module keeps its own",
    "-S": "use state: paused",
    "-name": "use name",
    "-uuid": "use uuid",
    "-sandbox": "use sandbox",
    "-incoming": "use incoming",
    "-accel": "use accel; QEMU takes the first one, which the module gives",
}

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _uuid(path: str, value: str) -> str:
    if value in ("derived", "random"):
        return value
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise OptionError(path, "%r is not a UUID: give one, or derived, or random" % value)


def derived_uuid(lab: str, name: str) -> str:
    """Return the UUID that is derived from lab and name (RFC 4122, version 5)."""
    return str(
        uuid.uuid5(uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8"), "vlab/%s/%s" % (lab, name))
    )


def _topology(path: str, value: dict[str, Any]) -> dict[str, int] | None:
    given = {key: count for key, count in value.items() if count is not None}
    for key, count in given.items():
        if count < 1:
            raise OptionError("%s.%s" % (path, key), "%d is not a number of processors" % count)
    return given or None


def _words(path: str, value: list[str]) -> list[str]:
    for word in value:
        # QEMU accepts two dashes as well as one.
        reserved = (
            _RESERVED.get(word[1:] if word.startswith("--") else word)
            if path == "extra_args"
            else None
        )
        if reserved:
            raise OptionError(path, "%s cannot be given: %s" % (word, reserved))
    return value


def _environment(path: str, value: dict[str, Any]) -> dict[str, str]:
    for name, content in value.items():
        # The shell that records QEMU's exit code does not pass on other names.
        if not _VARIABLE.fullmatch(name):
            raise OptionError(
                path,
                "%r cannot be an environment variable: letters, digits and _, no digit first"
                % name,
            )
        if isinstance(content, (dict, list)):
            raise OptionError(
                "%s.%s" % (path, name),
                "%s cannot be the value of an environment variable" % shown(content),
            )
    return {name: str(content) for name, content in value.items() if content is not None}


def _binaries(path: str, value: Any) -> str | list[str] | None:
    """Return the candidates, as one text if there is only one; None without any."""
    candidates = value if isinstance(value, list) else [value]
    for candidate in candidates:
        if not isinstance(candidate, str) or not candidate:
            raise OptionError(path, "%s is not the name of a program" % shown(candidate))
    return candidates if len(candidates) > 1 else next(iter(candidates), None)


def _properties(path: str, value: dict[str, Any]) -> dict[str, Any]:
    check_properties(path, value, reserved=("accel", "memory-backend", "type"))
    return {key: content for key, content in value.items() if content is not None}


def uses_icount(definition: Definition) -> bool:
    """Return whether instruction counting is requested, which only TCG supports."""
    return "-icount" in definition["extra_args"] or "--icount" in definition["extra_args"]


def choose_accelerator(definition: Definition, host: Host) -> None:
    """Set host.accel and host.accel_reason. Raises a VlabError."""
    host.accel, host.accel_reason = accelerators.choose_accelerator(
        definition["accel"],
        host.binary,
        host.arch,
        host.capabilities,
        icount=uses_icount(definition),
    )


def _check_machine_options(desired: Definition, host: Host) -> None:
    binary_checks.check_machine(
        "machine_options", desired["machine_options"], desired["machine"], host
    )


def _machine_names(capabilities: Capabilities) -> list[str]:
    """Return the machine types and their aliases."""
    aliases = [facts["alias"] for facts in capabilities.machines.values() if facts.get("alias")]
    return [*capabilities.machines, *aliases]


class Machine(Part):
    """The part that owns the machine itself."""

    name = "machine"
    options = {
        "uuid": Option({"type": "str"}, "derived", normalise=_uuid, written=left_out),
        "description": Option({"type": "str"}, "", how=LIVE),
        "arch": Option({"type": "str", "aliases": ["platform"]}),
        "qemu_binary": Option({"type": "raw"}, normalise=_binaries),
        "machine": Option({"type": "str"}),
        "machine_options": Option({"type": "dict"}, {}, normalise=_properties),
        "accel": Option({"type": "str", "choices": ["auto", "kvm", "tcg", "hvf", "whpx"]}, "auto"),
        "cpu": Option({"type": "str"}),
        "vcpus": Option(
            {"type": "int", "aliases": ["cpus"]},
            1,
            normalise=checked(
                lambda count: (
                    None
                    if 1 <= count <= 4096
                    else "%d is not a number of virtual CPUs: 1 to 4096" % count
                )
            ),
            written=int,  # without it, smp would decide
        ),
        "smp": Option(
            {
                "type": "dict",
                "options": {
                    "sockets": {"type": "int"},
                    "cores": {"type": "int"},
                    "threads": {"type": "int"},
                    "maxcpus": {"type": "int"},
                },
            },
            normalise=_topology,
        ),
        "extra_args": Option({"type": "list", "elements": "str"}, [], normalise=_words),
        "wrapper": Option({"type": "list", "elements": "str"}, [], normalise=_words),
        "environment": Option({"type": "dict"}, {}, normalise=_environment),
    }

    def complete(self, desired: Definition, saved: Definition, given: Params, host: Host) -> None:
        if desired["uuid"] == "random":
            desired["uuid"] = saved.get("uuid") or str(uuid.uuid4())
        elif desired["uuid"] == "derived":
            desired["uuid"] = saved.get("uuid") or derived_uuid(host.folder.lab, host.folder.name)
        if given.get("qemu_binary") and not given.get("arch"):
            desired["arch"] = None
        host.find(desired["arch"], desired["qemu_binary"] or None)
        desired["arch"] = host.arch
        capabilities = host.capabilities
        if not desired["machine"]:
            usual = [
                name for name in _MACHINES.get(host.arch, ()) if capabilities.machine_name(name)
            ]
            desired["machine"] = usual[0] if usual else capabilities.default_machine
        if not desired["machine"]:
            raise OptionError(
                "machine",
                "%s has no default machine: choose one of %s"
                % (host.binary, ", ".join(sorted(capabilities.machines))),
            )
        if not capabilities.machine_name(desired["machine"]):
            raise OptionError(
                "machine",
                "%s does not have the machine %r; it has %s%s"
                % (
                    host.binary,
                    desired["machine"],
                    ", ".join(sorted(capabilities.machines)),
                    suggestion(desired["machine"], _machine_names(capabilities)),
                ),
            )
        desired["family"] = addresses.family(
            capabilities.machine_name(desired["machine"]) or "", host.arch
        )
        self._complete_topology(desired, given)
        self._check_processors(desired, host)
        self._check_words(desired, saved, host)

    @staticmethod
    def _check_processors(desired: Definition, host: Host) -> None:
        machine = host.capabilities.machine_name(desired["machine"]) or ""
        most = host.capabilities.machines[machine]["cpu_max"]
        for option, count in (
            ("smp.maxcpus", (desired["smp"] or {}).get("maxcpus", 0)),
            ("vcpus", desired["vcpus"]),
        ):
            if count > most:
                raise OptionError(
                    option,
                    "the machine %s of %s has %d virtual CPUs at most, not %d"
                    % (desired["machine"], host.binary, most, count),
                )

    @staticmethod
    def _check_words(desired: Definition, saved: Definition, host: Host) -> None:
        """Check what is new in QEMU's own words; check_start checks all of it."""
        if desired["machine_options"] and binary_checks.is_new("machine_options", desired, saved):
            _check_machine_options(desired, host)
        if desired["cpu"] and binary_checks.is_new("cpu", desired, saved):
            accel = "tcg" if desired["accel"] == "tcg" else ""
            binary_checks.check_cpu("cpu", desired["cpu"], host, accel)
        if desired["extra_args"] and binary_checks.is_new("extra_args", desired, saved):
            binary_checks.check_extra_args(desired["extra_args"], desired, host)

    @staticmethod
    def _complete_topology(desired: Definition, given: Params) -> None:
        smp = desired["smp"]
        if not smp:
            return
        product = smp.get("sockets", 1) * smp.get("cores", 1) * smp.get("threads", 1)
        if given.get("smp") and given.get("vcpus") is None and not smp.get("maxcpus"):
            desired["vcpus"] = product
        maximum = smp.get("maxcpus", desired["vcpus"])
        if maximum < desired["vcpus"]:
            raise OptionError(
                "smp.maxcpus", "%d is less than vcpus, %d" % (maximum, desired["vcpus"])
            )
        if all(key in smp for key in ("sockets", "cores", "threads")) and product != maximum:
            raise OptionError(
                "smp",
                "%d sockets x %d cores x %d threads are %d, but %d are requested (%s)"
                % (
                    smp["sockets"],
                    smp["cores"],
                    smp["threads"],
                    product,
                    maximum,
                    "smp.maxcpus" if "maxcpus" in smp else "vcpus",
                ),
            )

    def sharing_blockers(self, definition: Definition) -> list[str]:
        return ["extra_args: they may need other memory"] if definition["extra_args"] else []

    def check_start(self, desired: Definition, host: Host) -> None:
        choose_accelerator(desired, host)
        _check_machine_options(desired, host)
        if desired["cpu"]:
            binary_checks.check_cpu("cpu", desired["cpu"], host, host.accel)
        binary_checks.check_extra_args(desired["extra_args"], desired, host)

    def leading_arguments(self, desired: Definition, host: Host) -> list[str]:
        properties = dict(desired["machine_options"])
        if desired["memory_backend"]:
            properties["memory-backend"] = "ram"
        properties.update(host.machine_properties)
        cpus = {"cpus": desired["vcpus"]}
        cpus.update(
            {
                key: (desired["smp"] or {}).get(key)
                for key in ("maxcpus", "sockets", "cores", "threads")
            }
        )
        words = [
            "-name",
            keyval("", {"guest": host.folder.name}),
            "-uuid",
            desired["uuid"],
            "-machine",
            keyval(host.machine_type or desired["machine"], properties),
            "-accel",
            host.accel,
            "-smp",
            keyval("", cpus),
        ]
        cpu = desired["cpu"] or ("host" if host.accel in ("kvm", "hvf") else None)
        return words + (["-cpu", cpu] if cpu else [])

    def report(self, definition: Definition, observation: Observation, result: Result) -> None:
        for key in ("uuid", "description", "arch", "machine", "vcpus"):
            result[key] = definition[key]
        result["origin"] = definition.get("origin")
        run = observation.run or {}
        result["accel"] = (
            {"type": run.get("accel"), "reason": run.get("accel_reason")}
            if observation.alive
            else {}
        )
