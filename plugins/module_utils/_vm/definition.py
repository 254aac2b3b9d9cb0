# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The definition of a VM: composed, saved whole as vm.json without secrets, and loaded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_json, write_json
from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses, shapes
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import root_folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS, PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import (
    without_none,
    written_option,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import check_distinct

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Params,
        RunRecord,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import PortRequest

FORMAT = 2
# Required keys that have no default.
_REQUIRED = {
    "name",
    "lab",
    "uuid",
    "machine",
    "family",
    "arch",
    "slots",
    "ports",
    "pci_devices",
    "bases",
}

# Options that a clone keeps: what identifies the guest, or is on media that it has read.
_IDENTITY = ("uuid", "cloud_init", "config_drive", "tftp_files", "mac_base", "mac_copy_from")
# What a definition keeps besides its options: where a clone comes from, and digests of what a lab
# has typed on the console and run.
_KEPT = ("origin", "bootstrap", "exec")
# What qemu_vm adds to the options of the parts; no definition keeps it.
RUN_SPEC: dict[str, dict[str, Any]] = {
    "purge_disks": {"type": "bool", "default": False},
    "purge_nics": {"type": "bool", "default": False},
}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Return the argument spec of the options of all parts."""
    return {name: dict(option.spec) for name, option in OPTIONS.items()}


def migrate(definition: Definition) -> None:
    """Convert a definition that an earlier version of the collection saved, in place.

    Format 1 had places for slots. Nothing changes what QEMU runs, so a running VM goes on.
    """
    for part in PARTS:
        part.migrate(definition)
    if definition.get("format") == 1:
        definition["format"] = FORMAT
        if "places" in definition:
            definition["slots"] = definition.pop("places")


def add_defaults(definition: Definition) -> None:
    """Add options and suboptions that did not exist when a definition was saved, in place.

    QEMU was started without them, so their defaults are what it runs.
    """
    for name, option in OPTIONS.items():
        if name not in definition:
            definition[name] = plain_copy(option.default)
        items = definition[name] if option.item_defaults else ()
        for item in items if isinstance(items, list) else ():
            if not isinstance(item, dict):
                continue  # the check of the shape finds it
            for key, default in (option.item_defaults or {}).items():
                if key not in item:
                    item[key] = plain_copy(default)


def _wrong_value(path: str, definition: Definition) -> str | None:
    """Return the path of the first value in a saved definition that cannot be used, or None."""
    wrong = shapes.definition(path, definition)
    if wrong is not None:
        return wrong
    try:
        # What the values of a link or a device need of each other, only the parts know.
        port_requests(definition)
        keys = [slot[0] for part in PARTS for slot in part.slots(definition)]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, VlabError):
        return path
    missing = next((key for key in keys if key not in definition["slots"]), None)
    return None if missing is None else "%sslots[%s]" % (path and path + ".", missing)


def load(folder: Folder) -> Definition | None:
    """Return the saved definition, or None.

    Raises HostError for a damaged one, and for one of a newer version of the collection.
    """
    saved = read_json(folder.definition)
    if saved is None and not folder.exists():
        return None
    saved_format = saved.get("format") if isinstance(saved, dict) else None
    if isinstance(saved_format, int):
        migrate(saved)
    if not isinstance(saved_format, int) or not _REQUIRED <= set(saved):
        raise HostError(
            "%s is damaged: it is not a complete definition. "
            "Restore it, or remove it to start again" % folder.definition,
            path=folder.definition,
        )
    shapes.check_format(folder.definition, saved_format, FORMAT)
    definition: Definition = saved
    add_defaults(definition)
    wrong = _wrong_value("", definition)
    if wrong is not None:
        raise shapes.damaged(folder.definition, wrong)
    return definition


def load_run(folder: Folder) -> RunRecord:
    """Return the record in run.json; empty if it does not exist. Raises HostError."""
    saved = read_json(folder.run)
    if saved is None and not os.path.exists(folder.run):
        return {}
    wrong = shapes.run("", saved)
    if wrong is None and saved.get("pid"):
        wrong = shapes.alive_run("", saved)
    if wrong is not None:
        raise shapes.damaged(folder.run, wrong)
    if "definition" in saved:
        check_saved(folder.run, "definition", saved["definition"])
    record: RunRecord = saved
    return record


def check_saved(file: str, path: str, definition: Definition) -> None:
    """Convert and complete a definition that is part of a file, in place.

    path: where it is in the file. Raises HostError for a damaged one.
    """
    migrate(definition)
    add_defaults(definition)
    wrong = _wrong_value(path, definition)
    if wrong is not None:
        raise shapes.damaged(file, wrong)


def save(folder: Folder, definition: Definition) -> None:
    """Save a definition."""
    write_json(folder.definition, definition)


def compose(saved: Definition | None, given: Params, host: Host) -> Definition:
    """Return the desired definition: the given options over the saved ones, completed.

    Raises OptionError.
    """
    base = plain_copy(saved or {})
    desired: Definition = {
        "format": FORMAT,
        "lab": host.folder.lab,
        "name": host.folder.name,
        "ports": base.get("ports", {}),
    }
    desired.update({key: base[key] for key in _KEPT if key in base})
    for part in PARTS:
        desired.update(plain_copy(part.merge(base, given)))
    for part in PARTS:
        part.complete(desired, base, given, host)
    desired["slots"] = addresses.assign(
        base.get("slots", {}), [slot for part in PARTS for slot in part.slots(desired)]
    )
    for part in PARTS:
        part.complete_with_slots(desired, host)
    check_distinct([*port_requests(desired), *private_ports(desired)])
    return desired


def without_identity(options: Params) -> Params:
    """Return options without what a clone keeps from its origin."""
    kept = {key: value for key, value in options.items() if key not in _IDENTITY}
    if kept.get("nics"):
        kept["nics"] = [
            {key: value for key, value in nic.items() if key != "mac"} for nic in kept["nics"]
        ]
    return kept


def written(folder: Folder, definition: Definition) -> Params:
    """Return a definition in the words of qemu_vm's options.

    Given to the same VM, they change nothing. They leave out what has its default, what identifies
    the VM, and secrets.
    """
    options = {"name": folder.name, "lab": folder.lab}
    if folder.root != root_folder(None):
        options["root"] = folder.root
    given = {name: written_option(option, definition[name]) for name, option in OPTIONS.items()}
    return {**options, **without_none(given)}


def port_requests(definition: Definition) -> list[PortRequest]:
    """Return the host ports that the definition needs."""
    return [request for part in PARTS for request in part.port_requests(definition)]


def private_ports(definition: Definition) -> list[PortRequest]:
    """Return the ports on loopback addresses of one NIC, which need no registry."""
    return [request for part in PARTS for request in part.private_ports(definition)]


def lacks_ports(definition: Definition) -> bool:
    """Whether the definition needs other ports than it holds."""
    needed = {request.key: request.port for request in port_requests(definition)}
    held = definition["ports"]
    return set(needed) != set(held) or any(
        port not in ("auto", held[key]) for key, port in needed.items()
    )
