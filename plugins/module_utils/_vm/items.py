# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Lists whose items have a name: disks, NICs, cdroms, floppies."""

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import check_number
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import check_name


# Numbers of which -1, as in QEMU, means none.
_OR_NONE = ("index", "boot_index")


def by_name(items):
    """The items of a list by their names, in their order."""
    return {item["name"]: item for item in items}


def unrecorded(option, observation, identify):
    """The items that a killed run plugged in and did not record: the saved definition has them, and QEMU has their devices.

    identify(definition, name): the id of an item's device.
    """
    running, saved = observation.running, observation.saved
    known = {identify(running, name) for name in by_name(running[option])}
    return [
        plain_copy(item)
        for name, item in by_name(saved[option]).items()
        if name not in by_name(running[option])
        and identify(saved, name) in observation.devices
        and identify(saved, name) not in known
    ]


def merge_items(option, saved, given, defaults, normalise, purge=False, remove=()):
    """The new list: what was given laid over what is saved, item by item and suboption by suboption; the others stay.

    given: the user's list, or None for nothing said. purge: drop the items that are not named. normalise(path, item without
    its name). remove: names to drop. An empty text, and -1 as an index, take back what was said. Raises OptionError naming the
    item, also when a name comes twice.
    """
    merged = {} if purge and given is not None else plain_copy(by_name(saved))
    observation = {}
    for number, item in enumerate(given or ()):
        here = "%s[%d]" % (option, number)
        name = item.get("name")
        if name is None:
            raise OptionError(here + ".name", "each item needs a name")
        check_name(here + ".name", name)
        if name in observation:
            raise OptionError(
                here + ".name", "%r is also the name of %s[%d]" % (name, option, observation[name])
            )
        observation[name] = number
        path = "%s[%s]" % (option, name)
        for key in _OR_NONE:
            if item.get(key) is not None:
                check_number(
                    "%s.%s" % (path, key), item[key], -1, (1 << 31) - 1, "a number to sort by"
                )
        back = {
            key: defaults[key]
            for key, value in item.items()
            if value == "" or key in _OR_NONE and value == -1
        }
        said = normalise(
            path, {key: value for key, value in item.items() if key != "name" and key not in back}
        )
        merged[name] = plain_copy(
            {**defaults, "name": name, **by_name(saved).get(name, {}), **said, **back}
        )
    return [item for name, item in merged.items() if name not in remove]
