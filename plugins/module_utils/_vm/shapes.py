# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The shapes of saved files: a damaged one is found when it is read, before anything uses it."""

from __future__ import annotations

from typing import Any, Callable, Collection, Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.addresses import UNITS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import (
    dhcp_options,
    links,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Option
from ansible_collections.vlab.qemu.plugins.module_utils._wire import engine

_MAX_DEPTH = 16  # of free-form values, such as the properties of a device
_MAX_NUMBER = 1 << 64
_MAX_PID = (1 << 31) - 1  # pid_t

# A check returns the path of the first wrong value, or None.
Check = Callable[[str, Any], "str | None"]


def damaged(file: str, path: str) -> HostError:
    """Return the error for a saved file with an unusable value at path."""
    return HostError(
        "%s is damaged: %s cannot be used. Restore it, or remove it to start again"
        % (file, path or "its content"),
        path=file,
    )


def check_format(file: str, found: int, newest: int) -> None:
    """Raise HostError for a file that a newer version of the collection saved.

    newest: the newest format that this version reads.
    """
    if found > newest:
        raise HostError(
            "%s has format %d; this version of vlab.qemu reads up to %d: use a newer one"
            % (file, found, newest),
            path=file,
        )


def _first(wrong: Iterator[str | None]) -> str | None:
    return next((path for path in wrong if path is not None), None)


def any_value(path: str, value: Any, depth: int = 0) -> str | None:
    """Check a free-form value: its depth, its numbers and its texts."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return text(path, value)
    if isinstance(value, int):
        return number(path, value)
    if isinstance(value, float):
        return None if abs(value) < _MAX_NUMBER else path
    if depth == _MAX_DEPTH:
        return path
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    return _first(
        text(path, str(key)) or any_value("%s.%s" % (path, key), item, depth + 1)
        for key, item in entries
    )


def text(path: str, value: Any) -> str | None:
    """Check a text: it can be a word of a command line."""
    if not isinstance(value, str) or "\0" in value:
        return path
    if not value.isascii():
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return path
    return None


def number(path: str, value: Any, low: int = -_MAX_NUMBER, high: int = _MAX_NUMBER) -> str | None:
    """Check a whole number."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and low <= value < high
    return None if is_number else path


def boolean(path: str, value: Any) -> str | None:
    """Check a boolean."""
    return None if isinstance(value, bool) else path


def natural(path: str, value: Any) -> str | None:
    """Check a whole number that is not negative."""
    return number(path, value, 0)


def positive(path: str, value: Any) -> str | None:
    """Check a whole number above zero."""
    return number(path, value, 1)


def pid(path: str, value: Any) -> str | None:
    """Check a process id."""
    return number(path, value, 1, _MAX_PID + 1)


def port(path: str, value: Any) -> str | None:
    """Check the number of a port."""
    return number(path, value, 1, 65536)


def file_name(path: str, value: Any) -> str | None:
    """Check a name that files are called by."""
    return text(path, value) or (path if not value or "/" in value else None)


def free_dict(path: str, value: Any) -> str | None:
    """Check a dict with any content."""
    return any_value(path, value) if isinstance(value, dict) else path


def checked_later(path: str, value: Any) -> str | None:
    """Check only that a value is a dict: its content has a check of its own."""
    return None if isinstance(value, dict) else path


def optional(check: Check) -> Check:
    """Return a check that also accepts None."""
    return lambda path, value: None if value is None else check(path, value)


def one_of(choices: Collection[Any]) -> Check:
    """Return a check for a value of a few."""
    return lambda path, value: None if isinstance(value, (str, int)) and value in choices else path


def either(*checks: Check) -> Check:
    """Return a check that one of several checks passes."""
    return lambda path, value: None if any(check(path, value) is None for check in checks) else path


def list_of(check: Check) -> Check:
    """Return a check for a list."""
    return lambda path, value: (
        _first(check("%s[%d]" % (path, index), item) for index, item in enumerate(value))
        if isinstance(value, list)
        else path
    )


def dict_of(check: Check) -> Check:
    """Return a check for a dict whose values pass check."""
    return lambda path, value: (
        _first(
            text(path, key) or check("%s[%s]" % (path, key), item) for key, item in value.items()
        )
        if isinstance(value, dict)
        else path
    )


def record(required: dict[str, Check], more: dict[str, Check] | None = None) -> Check:
    """Return a check for a dict with required keys; more: keys that it may have."""
    checks = {**required, **(more or {})}

    def check(path: str, value: Any) -> str | None:
        if not isinstance(value, dict):
            return path
        prefix = path + "." if path else ""
        return _first(prefix + key for key in required if key not in value) or _first(
            checks.get(key, any_value)(prefix + key, item) for key, item in value.items()
        )

    return check


_auto_port = either(port, one_of(("auto",)))
_FILES = record(
    {
        "files": dict_of(text),
        "kind": text,
        "label": text,
        "format": text,
        "bus": text,
        "digested": boolean,
    },
    {"generation": natural},
)
_FORWARD = record(
    {"protocol": one_of(("tcp", "udp")), "host_address": text, "host_port": _auto_port},
    {"guest_port": port, "guest_address": optional(text)},
)


def _impairment(path: str, value: Any) -> str | None:
    try:
        engine.check(value)
    except ValueError:
        return path
    return None


def _dhcp_options(path: str, value: Any) -> str | None:
    try:
        return None if dhcp_options.normalise(path, value) == value else path
    except (AttributeError, VlabError):
        return path


_LINK = record(
    {"type": one_of(links.SPEC["type"]["choices"])},
    {
        "forwards": optional(list_of(_FORWARD)),
        "dns_search": optional(list_of(text)),
        "options": optional(free_dict),
        "dhcp_options": optional(_dhcp_options),
        "queues": optional(positive),
        "vhost": optional(boolean),
        "impair": optional(_impairment),
        **{key: optional(_auto_port) for key in ("local_port", "remote_port", "port")},
    },
)
# Options whose saved value has another shape than their argument spec, or a deeper one.
_OPTION_CHECKS: dict[str, Check] = {
    "memory": positive,
    "vcpus": positive,
    "arch": text,
    "machine": text,
    "consoles": list_of(
        record(
            {
                "name": file_name,
                "type": one_of(("unix", "tcp", "telnet")),
                "log": boolean,
                "host": optional(text),
                "port": optional(_auto_port),
            },
            {"clients": one_of(("one", "many")), "writers": one_of(("one", "many"))},
        )
    ),
    "monitors": list_of(record({"name": file_name, "type": one_of(("hmp", "qmp"))})),
    "display": record(
        {"type": one_of(OPTIONS["display"].spec["options"]["type"]["choices"])},
        {"host": optional(text), "port": optional(_auto_port), "password": boolean},
    ),
    "smp": optional(dict_of(natural)),
    "memory_backend": optional(free_dict),
    "cloud_init": optional(_FILES),
    "config_drive": optional(_FILES),
    "tftp_files": optional(record({"nic": file_name, "files": dict_of(text), "digested": boolean})),
    "extra_args": list_of(text),
    "wrapper": list_of(text),
    "fds": list_of(
        record(
            {"set": natural, "path": text, "mode": one_of(("r", "w", "rw"))},
            {"opaque": optional(text)},
        )
    ),
    "qemu_binary": optional(either(text, list_of(text))),
    "passthrough": list_of(either(text, record({"device": text, "virtual_functions": positive}))),
    "environment": dict_of(text),
    "devices": list_of(free_dict),
    "smbios": list_of(free_dict),
}
_ITEM_CHECKS: dict[str, Check] = {
    "name": file_name,
    "mac": text,
    "size": optional(natural),
    "link": _LINK,
    "capture": optional(
        record(
            {"path": optional(text), "snaplen": optional(positive)},
            {"size": positive, "count": positive},
        )
    ),
    "index": optional(natural),
    "boot_index": optional(natural),
    "mtu": optional(natural),
    "limits": dict_of(natural),
}
_TYPES: dict[str, Check] = {
    "bool": boolean,
    "int": number,
    "str": text,
    "path": text,
    "dict": free_dict,
    "list": list_of(any_value),
}


def _check_of(spec: dict[str, Any], default: Any) -> Check:
    """Return the check of a value that is saved as it is given."""
    check = one_of(spec["choices"]) if "choices" in spec else _TYPES[spec["type"]]
    return optional(check) if default is None else check


def _items_check(option: Option) -> Check:
    """Return the check of a list of named items."""
    defaults, specs = option.item_defaults or {}, option.spec["options"]
    checks = {
        key: _ITEM_CHECKS.get(key) or _check_of(specs[key], default)
        for key, default in defaults.items()
        if key in specs
    }
    checks["name"] = file_name
    return list_of(record(checks))


def _option_check(name: str, option: Option) -> Check:
    if name in _OPTION_CHECKS:
        return _OPTION_CHECKS[name]
    if option.item_defaults is not None:
        return _items_check(option)
    return _check_of(option.spec, option.default)


_BASE: dict[str, Check] = {
    "path": text,
    "size": natural,
    "mtime_ns": natural,
    "inode": natural,
    "samples": text,
}
_slots = dict_of(record({"kind": one_of(UNITS), "index": natural}))
definition = record(
    {
        "name": text,
        "lab": text,
        "uuid": text,
        "family": text,
        "slots": _slots,
        "ports": dict_of(port),
        "pci_devices": list_of(natural),
        "bases": dict_of(record(_BASE, {"under": list_of(record(_BASE))})),
        **{name: _option_check(name, option) for name, option in OPTIONS.items()},
    },
    {
        "digest": optional(text),
        "bootstrap": text,
        "exec": text,
        "slots_at_start": _slots,
        "usb_devices": list_of(natural),
        "usb_nics": list_of(text),
        "origin": record({"lab": text, "vm": text, "snapshot": text}),
    },
)
_PROCESS = {"pid": pid, "start": natural, "boot_id": text}
# What a VM that does not run may have: the rest of a power cycle that was killed.
run = record(
    {},
    {
        **{key: optional(check) for key, check in _PROCESS.items()},
        "resume": optional(one_of(("running", "paused"))),
        "sending": record({"to": text, "status": one_of(("running", "paused"))}),
        "uuid": text,
        "argv": list_of(text),
        "console_from": natural,
        "definition": checked_later,
    },
)
alive_run = record({**_PROCESS, "uuid": text, "definition": checked_later})
hub = record(
    {
        **_PROCESS,
        "ports": dict_of(
            record(
                {
                    "id": natural,
                    "local_address": text,
                    "local_port": port,
                    "remote_address": text,
                    "remote_port": port,
                }
            )
        ),
    },
    {"uplink": free_dict},
)
