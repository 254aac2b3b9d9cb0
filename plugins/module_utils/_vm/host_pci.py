# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The PCI devices of the host: which there are, who drives them, and to whom they are given.

Source: the Linux kernel, Documentation/ABI/testing/sysfs-bus-pci and sysfs-class-net.
"""

from __future__ import annotations

import contextlib
import errno
import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    OptionError,
    report_os_errors,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_text

VFIO = "vfio-pci"
_FLAG_UP = 1  # linux/if.h, IFF_UP


class HostPci:
    """The PCI devices as sysfs shows them. sysfs, dev: the folders; tests use others."""

    def __init__(self, sysfs: str = "/sys", dev: str = "/dev") -> None:
        self._sysfs, self._dev = sysfs, dev

    def _device(self, address: str, *names: str) -> str:
        return os.path.join(self._sysfs, "bus/pci/devices", address, *names)

    def _net(self, interface: str, *names: str) -> str:
        return os.path.join(self._sysfs, "class/net", interface, *names)

    def write(self, path: str, text: str) -> None:
        """Write to a file of sysfs, which is an instruction to the kernel."""
        with report_os_errors("cannot give a device to a VM or back"):
            with open(path, "w", encoding="ascii") as stream:
                stream.write(text)

    # What there is.

    def exists(self, address: str) -> bool:
        """Whether the host has a device."""
        return os.path.isdir(self._device(address))

    def driver(self, address: str) -> str:
        """Return the driver of a device; empty without one."""
        link = self._device(address, "driver")
        return os.path.basename(os.path.realpath(link)) if os.path.exists(link) else ""

    def address_of(self, interface: str) -> str | None:
        """Return the address of the device of a network interface; None without one."""
        link = self._net(interface, "device")
        address = os.path.basename(os.path.realpath(link)) if os.path.exists(link) else ""
        return address if address and self.exists(address) else None

    def has_interface(self, interface: str) -> bool:
        """Whether the host has a network interface, of whatever device."""
        return os.path.exists(self._net(interface))

    def virtual_functions(self, address: str) -> list[str]:
        """Return the addresses of the virtual functions of a device, in their order."""
        folder = self._device(address)
        names = [name for name in os.listdir(folder) if name.startswith("virtfn")]
        names = sorted(
            (name for name in names if name[6:].isdigit()), key=lambda name: int(name[6:])
        )
        return [os.path.basename(os.path.realpath(os.path.join(folder, name))) for name in names]

    def use_of(self, address: str) -> str:
        """Return what the host does with a device, for a message; empty if nothing."""
        interfaces = []
        with contextlib.suppress(OSError):
            interfaces = sorted(os.listdir(self._device(address, "net")))
        for interface in interfaces:
            flags = (read_text(self._net(interface, "flags")) or "").strip() or "0"
            if os.path.exists(self._net(interface, "master")):
                return "its interface %s is part of a bridge or a bond" % interface
            if int(flags, 16) & _FLAG_UP:
                return "its interface %s is up" % interface
        group = self._group(address)
        if self.driver(address) == VFIO and group and self._is_open(group):
            return "another program has it"
        return ""

    def _group(self, address: str) -> str | None:
        link = self._device(address, "iommu_group")
        return os.path.basename(os.path.realpath(link)) if os.path.exists(link) else None

    def _is_open(self, group: str) -> bool:
        """Whether a program has an IOMMU group open: the kernel allows only one."""
        try:
            os.close(os.open(os.path.join(self._dev, "vfio", group), os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return error.errno == errno.EBUSY
        return False

    # What must be there.

    def check_group(self, option: str, address: str) -> str:
        """Return the IOMMU group of a device. Raises HostError without one."""
        group = self._group(address)
        if group is None:
            raise HostError(
                "%s: %s is in no IOMMU group: switch the IOMMU on (intel_iommu=on or"
                " amd_iommu=on) and in the firmware" % (option, address)
            )
        return group

    def check_bound(self, option: str, address: str) -> None:
        """Raise HostError if a device cannot be passed through as it is, with what is missing."""
        if not self.exists(address):
            raise HostError("%s: the host has no PCI device %s (see lspci -D)" % (option, address))
        group, driver = self.check_group(option, address), self.driver(address)
        if driver != VFIO:
            raise HostError(
                "%s: %s is bound to %s: bind it to vfio-pci first (driverctl set-override %s"
                " vfio-pci)" % (option, address, driver or "no driver", address)
            )
        if not os.access(os.path.join(self._dev, "vfio", group), os.R_OK | os.W_OK):
            raise HostError(
                "%s: no permission on /dev/vfio/%s, the IOMMU group of %s: become root, or"
                " change its owner" % (option, group, address)
            )

    def check_can_bind(self, option: str, address: str) -> None:
        """Raise HostError if a device cannot be bound to vfio-pci, with what is missing."""
        self.check_group(option, address)
        if not os.path.isdir(os.path.join(self._sysfs, "bus/pci/drivers", VFIO)):
            raise HostError(
                "%s: this host has no driver vfio-pci: load it (modprobe vfio-pci)" % option
            )
        if not os.access(self._device(address, "driver_override"), os.W_OK):
            raise HostError(
                "%s: no permission to bind %s to vfio-pci: become root, or bind it yourself and"
                " give its address" % (option, address)
            )

    def physical_function(self, option: str, device: str) -> str:
        """Return the address of a device that is given by address or interface.

        Raises OptionError.
        """
        address = device if self.exists(device) else self.address_of(device)
        if address is None:
            what = (
                "the interface %s of the host is not of a PCI device"
                if self.has_interface(device)
                else "the host has no network interface %s (see ip link), and no such PCI device"
            )
            raise OptionError(option, what % device)
        return address

    # Give a device to QEMU, and back.

    def bind(self, option: str, address: str) -> None:
        """Bind a device to vfio-pci. Raises HostError."""
        driver = self.driver(address)
        if driver == VFIO:
            return
        self.write(self._device(address, "driver_override"), VFIO)
        if driver:
            self.write(self._device(address, "driver/unbind"), address)
        self.write(os.path.join(self._sysfs, "bus/pci/drivers_probe"), address)
        if self.driver(address) != VFIO:
            raise HostError("%s: the driver vfio-pci does not accept %s" % (option, address))

    def give_back(self, address: str, driver: str) -> None:
        """Give a device back to the driver that it had; empty: to none. Raises HostError."""
        if driver == VFIO or not self.exists(address):
            return
        self.write(self._device(address, "driver_override"), "\n")
        if self.driver(address) == VFIO:
            self.write(self._device(address, "driver/unbind"), address)
            if driver:
                self.write(os.path.join(self._sysfs, "bus/pci/drivers_probe"), address)
