# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The types of the data that modules of this package exchange."""

from __future__ import annotations

from typing import Any, Dict

# Options as a user gives them, None where an option is omitted. Lists of items (nics, disks, ...)
# hold dicts with a "name".
Params = Dict[str, Any]

# What a VM is to be, as vm.json keeps it: a flat dict of every option of every part, complete with
# defaults, and these derived keys:
#   format: int, lab, name, uuid, arch, machine: str
#   family: str, the PCI layout of the machine (addresses.family)
#   slots: {"nics/eth0": {"kind": str, "index": int}}, the slot of each device
#   ports: {key of a PortRequest: int}, the host ports that the VM holds
#   pci_devices: [int], bases: {disk: {...}}, the recorded base images
#   digest: str or None, set by a lab: the options that the definition was composed from
#   origin: {lab, vm, snapshot}, only of a clone
Definition = Dict[str, Any]

# The run of a QEMU, as run.json keeps it: pid, start, boot_id (the identity of the process), uuid,
# argv, qemu_version, accel, accel_reason, machine_type: the versioned type, started, console_from:
# where the run begins in the log of the first console, definition: the one that it runs; resume:
# "running" or "paused" while a power cycle is in progress.
RunRecord = Dict[str, Any]

# What a module returns of a VM, or the whole result of a module.
Result = Dict[str, Any]

# How to change and stop a VM (settings.settings_of): shutdown: {acpi, timeout, quit_timeout,
# term_timeout, force}, keep_disks: bool, start_timeout, unplug_timeout, lock_timeout, save_timeout:
# int, seconds.
Settings = Dict[str, Any]
