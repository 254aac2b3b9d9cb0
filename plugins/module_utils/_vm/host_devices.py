# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The host devices of a VM: which ones it has, bound to vfio-pci for as long as its QEMU runs.

The folder of the VM has the record of what was bound, written before the first of it, so that a run
after a killed one can give everything back.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from typing import TYPE_CHECKING, Any, Dict, Iterator, NamedTuple, Union

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    OptionError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    read_json,
    remove_file,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.locks import file_lock
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import shown
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host_pci import VFIO, HostPci

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

# As the definition has it: an address, an interface, or {"device", "virtual_functions"}.
Entry = Union[str, Dict[str, Any]]

_FILE = "host-devices.json"
_LOCK = "devices.lock"
_ADDRESS = re.compile(r"(?:([0-9a-f]{4}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE)
_INTERFACE = re.compile(r"[^\s/:\x00-\x1f\x7f]{1,15}")  # linux/if.h, IFNAMSIZ
_MAX_FUNCTIONS = 256


class Device(NamedTuple):
    """A device of the host for a VM.

    key: its name within the VM, which its slot has, too. driver: the one before vfio-pci, None
    for a device that the user has bound.
    """

    key: str
    address: str
    driver: str | None


# What the user gives.


def normalise(path: str, value: list[Any]) -> list[Entry]:
    """Return the option passthrough as the definition keeps it. Raises OptionError."""
    entries = [_entry("%s[%d]" % (path, number), given) for number, given in enumerate(value)]
    keys = [key for entry in entries for key in keys_of(entry)]
    if len(set(keys)) != len(keys):
        raise OptionError(path, "a device is named twice")
    return entries


def _entry(path: str, given: Any) -> Entry:
    if isinstance(given, str):
        return _device(path, given)
    if not isinstance(given, dict):
        raise OptionError(path, "%s is neither a device nor a dictionary" % shown(given))
    given = {key: value for key, value in given.items() if value is not None}
    unknown = sorted(map(str, set(given) - {"interface", "address", "virtual_functions"}))
    if unknown:
        raise OptionError("%s.%s" % (path, unknown[0]), "there is no such suboption")
    names = [key for key in ("interface", "address") if key in given]
    if len(names) != 1 or not isinstance(given[names[0]], str):
        raise OptionError(path, "give one of interface and address")
    device = _device("%s.%s" % (path, names[0]), given[names[0]])
    count = given.get("virtual_functions")
    if count is None:
        return device
    text = str(count)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MAX_FUNCTIONS):
        raise OptionError(
            path + ".virtual_functions",
            "%s is not a number of functions: 1 to %d" % (shown(count), _MAX_FUNCTIONS),
        )
    return {"device": device, "virtual_functions": int(text)}


def _device(path: str, text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if match:
        return "%s:%s:%s.%s" % tuple((part or "0000").lower() for part in match.groups())
    if not _INTERFACE.fullmatch(text) or text in (".", ".."):
        raise OptionError(
            path,
            "%r is not a PCI address, such as 0000:3b:00.1, and no name of an interface" % text,
        )
    return text


def is_address(entry: Entry) -> bool:
    """Whether a device is given by its address, and bound to vfio-pci by the user."""
    return isinstance(entry, str) and ":" in entry


def is_exclusive(entry: Entry) -> bool:
    """Whether only one VM can have what an entry names: not free functions of a device."""
    return isinstance(entry, str)


def written(entries: list[Entry]) -> list[Entry]:
    """Return the option as a user gives it; the reverse of normalise."""
    return [
        entry
        if isinstance(entry, str)
        else {
            "address" if is_address(entry["device"]) else "interface": entry["device"],
            "virtual_functions": entry["virtual_functions"],
        }
        for entry in entries
    ]


def keys_of(entry: Entry) -> list[str]:
    """Return the keys of an entry, one for each device that the guest gets."""
    if isinstance(entry, str):
        return [entry]
    return ["%s/%d" % (entry["device"], number) for number in range(entry["virtual_functions"])]


# What the VM gets.


def choose(folder: Folder, entries: list[Entry], pci: HostPci) -> list[Device]:
    """Return the devices that a start now would take, and take none. Raises VlabError."""
    recorded = _read(folder)
    taken = _taken_by_others(folder)
    devices: list[Device] = []
    for number, entry in enumerate(entries):
        option = "passthrough[%d]" % number
        if is_address(entry):
            devices.append(Device(str(entry), str(entry), None))
        elif isinstance(entry, str):
            devices.append(_interface(option, entry, recorded, taken, pci))
        else:
            all_taken = {**taken, **{device.address: "this VM" for device in devices}}
            devices += _functions(option, entry, recorded, all_taken, pci)
    return devices


def _interface(
    option: str, name: str, recorded: dict[str, Device], taken: dict[str, str], pci: HostPci
) -> Device:
    kept = recorded.get(name)
    if kept and pci.exists(kept.address) and pci.driver(kept.address) == VFIO:
        return kept
    address = pci.physical_function(option, name)
    if address in taken:
        raise HostError("%s: %s is in use by the VM %s" % (option, name, taken[address]))
    use = pci.use_of(address)
    if use:
        raise HostError(
            "%s: %s is in use by the hypervisor, %s: set it down first, and be sure that you do not"
            " reach the hypervisor through it" % (option, name, use)
        )
    return Device(name, address, pci.driver(address))


def _functions(
    option: str,
    entry: dict[str, Any],
    recorded: dict[str, Device],
    taken: dict[str, str],
    pci: HostPci,
) -> list[Device]:
    device, count = entry["device"], entry["virtual_functions"]
    functions = pci.virtual_functions(pci.physical_function(option, device))
    if not functions:
        raise HostError(
            "%s: %s has no virtual functions: create them (echo %d >"
            " /sys/class/net/INTERFACE/device/sriov_numvfs)" % (option, device, count)
        )
    kept = {
        key: recorded[key]
        for key in keys_of(entry)
        if key in recorded
        and recorded[key].address in functions
        and pci.driver(recorded[key].address) == VFIO
    }
    addresses = {found.address for found in kept.values()}
    free = [
        address
        for address in functions
        if address not in taken and address not in addresses and not pci.use_of(address)
    ]
    missing = [key for key in keys_of(entry) if key not in kept]
    if len(missing) > len(free):
        raise HostError(
            "%s: %s has %d free virtual functions of %d, but %d are needed; a function whose"
            " interface is up is in use"
            % (option, device, len(kept) + len(free), len(functions), count)
        )
    new = {key: Device(key, address, pci.driver(address)) for key, address in zip(missing, free)}
    return [{**kept, **new}[key] for key in keys_of(entry)]


def bound(folder: Folder, entries: list[Entry]) -> dict[str, str]:
    """Return the devices of a running VM: {key: address}."""
    addresses = {key: device.address for key, device in _read(folder).items()}
    addresses.update((str(entry), str(entry)) for entry in entries if is_address(entry))
    keys = [key for entry in entries for key in keys_of(entry)]
    return {key: addresses[key] for key in keys if key in addresses}


def check(folder: Folder, entries: list[Entry], pci: HostPci) -> None:
    """Raise a VlabError if the VM cannot have its devices."""
    numbers = {key: number for number, e in enumerate(entries) for key in keys_of(e)}
    for device in choose(folder, entries, pci):
        option = "passthrough[%d]" % numbers[device.key]
        if device.driver is None:
            pci.check_bound("passthrough", device.address)
        else:
            pci.check_can_bind(option, device.address)


@contextlib.contextmanager
def _lock(folder: Folder) -> Iterator[None]:
    """Hold the lock of all records below the root; the last one removes it."""
    lock = os.path.join(folder.host, _LOCK)

    def remake() -> None:
        make_folder(os.path.dirname(folder.host))
        make_folder(folder.host)

    with file_lock(lock, remake=remake):
        yield
        if not _records(folder):
            remove_file(lock)
            with contextlib.suppress(OSError):
                os.rmdir(folder.host)


def take(folder: Folder, entries: list[Entry], pci: HostPci) -> None:
    """Bind the devices of a VM to vfio-pci, before its QEMU starts. Raises VlabError."""
    if not any(not is_address(entry) for entry in entries):
        return
    with _lock(folder):
        devices = [device for device in choose(folder, entries, pci) if device.driver is not None]
        write_json(
            folder.file(_FILE),
            {
                device.key: {"address": device.address, "driver": device.driver}
                for device in devices
            },
        )
    try:
        for device in devices:
            pci.bind("passthrough", device.address)
    except VlabError:
        list(give_back(folder, pci))
        raise


def give_back(folder: Folder, pci: HostPci) -> Iterator[str]:
    """Give the devices of a VM back to their drivers, after QEMU has ended.

    Yield what could not be given back; it stays in the record.
    """
    if not os.path.exists(folder.file(_FILE)):
        return
    try:
        recorded = _read(folder)
    except HostError as error:
        yield error.message
        return
    left = {}
    for device in recorded.values():
        try:
            pci.give_back(device.address, device.driver or "")
        except VlabError as error:
            left[device.key] = {"address": device.address, "driver": device.driver}
            yield "%s was not given back to the driver %s: %s" % (
                device.address,
                device.driver,
                error.message,
            )
    with _lock(folder):
        if left:
            write_json(folder.file(_FILE), left)
        else:
            remove_file(folder.file(_FILE))


def _read(folder: Folder) -> dict[str, Device]:
    """Return the devices that are bound for a VM. Raises HostError for a damaged record."""
    return _checked(folder.file(_FILE))


def _checked(path: str) -> dict[str, Device]:
    saved = read_json(path)
    saved = {} if saved is None else saved
    is_valid = isinstance(saved, dict) and all(
        isinstance(device, dict)
        and _ADDRESS.fullmatch(str(device.get("address")))
        and isinstance(device.get("driver"), str)
        and "/" not in device["driver"]
        for device in saved.values()
    )
    if not is_valid:
        raise HostError(
            "%s is damaged: it is not a record of host devices. Remove it, and bind the devices to"
            " their drivers yourself" % path,
            path=path,
        )
    return {key: Device(key, device["address"], device["driver"]) for key, device in saved.items()}


def _taken_by_others(folder: Folder) -> dict[str, str]:
    """Return the devices of other VMs below the root: {address: LAB/VM}."""
    taken: dict[str, str] = {}
    for path in sorted(set(_records(folder)) - {folder.file(_FILE)}):
        vm = os.path.relpath(os.path.dirname(path), folder.root)
        # A damaged record of another VM is that one's: its devices are bound, and seen as open.
        with contextlib.suppress(HostError):
            taken.update((device.address, vm) for device in _checked(path).values())
    return taken


def _records(folder: Folder) -> list[str]:
    """Return the records of all VMs below the root."""
    return glob.glob(os.path.join(glob.escape(folder.root), "*", "*", _FILE))
