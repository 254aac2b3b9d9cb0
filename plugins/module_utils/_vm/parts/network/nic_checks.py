# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Checks of the model and the properties of a NIC against the machine and its QEMU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import suggestion
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.capabilities import nic_models
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses, binary_checks, buses

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.nic_devices import Nic


def complete_model(path: str, nic: Nic, desired: Definition, host: Host) -> str:
    """Return the model; virtio as the virtio NIC that suits the machine."""
    model: str = nic["model"]
    if model in ("virtio", "virtio-net", "virtio-net-pci"):
        model = "virtio-net-" + addresses.virtio_suffix(desired["family"], host.arch)
    every = nic_models(host.capabilities)
    models = [name for name in every if not buses.lacks_bus(name, desired, host)]
    name = host.capabilities.device_name(model)
    if name not in every:
        raise OptionError(
            path + ".model",
            "%s has no NIC model %r; for the machine %s it has %s%s"
            % (
                host.binary,
                model,
                desired["machine"],
                ", ".join(models),
                suggestion(model, models),
            ),
        )
    if name not in models and "bus" not in nic["properties"]:
        raise OptionError(
            path + ".model",
            "the machine %s has no bus of type %s for %s; its models are %s"
            % (
                desired["machine"],
                buses.lacks_bus(model, desired, host),
                model,
                ", ".join(models),
            ),
        )
    return model


def check_properties(nic: Nic, host: Host) -> None:
    """Check the names of the properties of a NIC."""
    path = "nics[%s].properties" % nic["name"]
    binary_checks.check_device(path, nic["model"], nic["properties"], host)
