# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The definition: what a VM is to be. A flat dict, complete with defaults, saved whole as vm.json; no secrets."""

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_json, write_json
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import OPTIONS, PARTS

FORMAT = 2
# What no default stands in for.
_DERIVED = {
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

# What qemu_vm adds to the parts' options and no definition keeps.
RUN_SPEC = {
    "purge_disks": {"type": "bool", "default": False},
    "purge_nics": {"type": "bool", "default": False},
}


def argument_spec():
    """The argument spec of a VM's options."""
    return {name: dict(option.spec) for name, option in OPTIONS.items()}


def migrate(definition):
    """Convert a definition that an earlier version of the collection saved, in place.

    Format 1 had places for slots. It does not change what QEMU runs, so a running VM goes on.
    """
    if definition.get("format") == 1:
        definition["format"] = FORMAT
        if "places" in definition:
            definition["slots"] = definition.pop("places")


def load(folder):
    """The saved definition, or None. Raises HostError for one that a newer version of the collection wrote."""
    saved = read_json(folder.definition)
    if saved is None:
        return None
    form = saved.get("format") if isinstance(saved, dict) else None
    if isinstance(form, int):
        migrate(saved)
    if not isinstance(form, int) or not _DERIVED <= set(saved):
        raise HostError(
            "%s is damaged: it is not a whole definition. Restore it, or remove it to begin anew"
            % folder.definition,
            path=folder.definition,
        )
    if form > FORMAT:
        raise HostError(
            "%s has format %d; this version of vlab.qemu reads up to %d: use a newer one"
            % (folder.definition, form, FORMAT),
            path=folder.definition,
        )
    for name, option in OPTIONS.items():
        if name not in saved:
            saved[name] = plain_copy(option.default)
    return saved


def save(folder, definition):
    """Save a definition, whole."""
    write_json(folder.definition, definition)


def compose(saved, given, host):
    """The definition that is wanted: given laid over saved, then completed. Raises OptionError.

    saved: a definition or None. given: the module's options, None for what was not said.
    """
    base = plain_copy(saved or {})
    desired = {
        "format": FORMAT,
        "lab": host.folder.lab,
        "name": host.folder.name,
        "ports": base.get("ports", {}),
    }
    for part in PARTS:
        desired.update(plain_copy(part.merge(base, given)))
    for part in PARTS:
        part.complete(desired, base, given, host)
    desired["slots"] = addresses.assign(
        base.get("slots", {}), [slot for part in PARTS for slot in part.slots(desired)]
    )
    for part in PARTS:
        part.complete_with_slots(desired, host)
    return desired


def port_requests(definition):
    """The host ports that the definition needs."""
    return [request for part in PARTS for request in part.port_requests(definition)]


def lacks_ports(definition):
    """Whether a port is still to be claimed, or one is held for nothing."""
    desired = {wish.key: wish.port for wish in port_requests(definition)}
    held = definition["ports"]
    return set(desired) != set(held) or any(
        port not in ("auto", held[key]) for key, port in desired.items()
    )
