#!/usr/bin/env python
# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the capabilities of the test bed's QEMUs to files, as far as the unit tests need them.

Run it from the top of a checkout while the test bed is up and has run a VM on each hypervisor.
"""

from __future__ import annotations

import json
import os
import subprocess

HYPERVISORS = {"hv11": "5.2", "hv12": "7.2", "hv13": "10.0"}
DEVICES = frozenset(
    """ahci e1000 e1000e floppy ib700 i6300esb ich9-ahci ide-cd ide-hd intel-iommu isa-fdc
    isa-serial nvme pci-bridge pcie-pci-bridge pcie-root-port pvpanic qemu-xhci qxl-vga scsi-cd
    scsi-hd sd-card sdhci-pci tpm-tis usb-storage usb-tablet vfio-pci virtio-balloon-pci
    virtio-blk-pci virtio-rng-pci virtio-scsi-pci virtio-serial-pci virtserialport VGA
    virtio-blk-device virtio-scsi-device virtio-serial-device virtio-rng-device
    virtio-balloon-device virtio-9p-pci""".split()
)
MACHINES = ("isapc", "microvm", "none")
OPTIONS = ("sandbox", "spice", "machine", "icount", "smbios-opts", "action")


def trimmed(answer):
    """As much of the Capabilities as is kept."""
    devices = (DEVICES | set(answer["nic_devices"])) & set(answer["device_types"])
    return dict(
        answer,
        device_types=sorted(devices),
        pci_devices=sorted(devices & set(answer["pci_devices"])),
        device_buses={
            name: bus for name, bus in sorted(answer["device_buses"].items()) if name in devices
        },
        device_aliases={
            alias: name
            for alias, name in sorted(answer["device_aliases"].items())
            if name in devices
        },
        machines={
            name: facts
            for name, facts in sorted(answer["machines"].items())
            if facts.get("alias") or name in MACHINES
        },
        options={name: [] for name in OPTIONS if name in answer["options"]},
    )


def main():
    folder = os.path.dirname(os.path.abspath(__file__))
    for name, version in HYPERVISORS.items():
        text = subprocess.run(
            [
                "tests/testbed/testbed",
                "exec",
                name,
                "cat /var/cache/vlab/capabilities-qemu-system-x86_64-????????????.json",
            ],
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        with open(os.path.join(folder, version + ".json"), "w", encoding="utf-8") as stream:
            json.dump(trimmed(json.loads(text)["answer"]), stream, indent=1, sort_keys=True)
            stream.write("\n")


if __name__ == "__main__":
    main()
