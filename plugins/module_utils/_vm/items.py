# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Lists of items that are identified by name: disks, NICs, cdroms, floppies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Collection, Dict, Iterable

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import check_number
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import check_name

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation

ListItem = Dict[str, Any]

# Numbers for which -1 means no number, as in QEMU.
_INDEXES = ("index", "boot_index")


def by_name(items: Iterable[ListItem]) -> dict[str, ListItem]:
    """Return the items of a list by name, in their order."""
    return {item["name"]: item for item in items}


def unrecorded(
    option: str, observation: Observation, device_id: Callable[[Definition, str], str]
) -> list[ListItem]:
    """Return the items that a killed run plugged in and did not record.

    The saved definition has them, and QEMU has their devices. device_id(definition, name): the ID
    of an item's device.
    """
    running, saved = observation.running, observation.saved or {}
    recorded = by_name(running[option])
    recorded_ids = {device_id(running, name) for name in recorded}
    found = []
    for name, item in by_name(saved.get(option, ())).items():
        if name not in recorded:
            identifier = device_id(saved, name)
            if identifier in observation.devices and identifier not in recorded_ids:
                found.append(plain_copy(item))
    return found


def merge_items(
    option: str,
    saved: list[ListItem],
    given: list[ListItem] | None,
    defaults: dict[str, Any],
    normalise: Callable[[str, dict[str, Any]], dict[str, Any]],
    purge: bool | None = False,
    remove: Collection[str] = (),
) -> list[ListItem]:
    """Return the new list: given merged into saved, item by item and suboption by suboption.

    given: the user's list, or None if the option is omitted. purge: remove the items that it does
    not name. normalise(path, item without its name). remove: the names of items to remove. An empty
    string, and -1 as an index, restore the default. Raises OptionError naming the item.
    """
    merged = {} if purge and given is not None else plain_copy(by_name(saved))
    numbers: dict[str, int] = {}
    for number, item in enumerate(given or ()):
        name = _check_item_name("%s[%d].name" % (option, number), item.get("name"))
        if name in numbers:
            raise OptionError(
                "%s[%d].name" % (option, number),
                "%r is also the name of %s[%d]" % (name, option, numbers[name]),
            )
        numbers[name] = number
        path = "%s[%s]" % (option, name)
        restored = _restored(path, item, defaults)
        changed = {key: item[key] for key in item if key != "name" and key not in restored}
        merged[name] = plain_copy(
            {
                **defaults,
                "name": name,
                **by_name(saved).get(name, {}),
                **normalise(path, changed),
                **restored,
            }
        )
    return [item for name, item in merged.items() if name not in remove]


def _check_item_name(path: str, name: str | None) -> str:
    if name is None:
        raise OptionError(path, "each item needs a name")
    check_name(path, name)
    return name


def _restored(path: str, item: ListItem, defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults of the suboptions that an item restores."""
    for key in _INDEXES:
        if item.get(key) is not None:
            check_number("%s.%s" % (path, key), item[key], -1, (1 << 31) - 1, "a number to sort by")
    return {
        key: defaults[key]
        for key, value in item.items()
        if value == "" or key in _INDEXES and value == -1
    }
