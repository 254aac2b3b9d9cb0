# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A running VM whose QEMU is this process, with a QMP server that captures as QEMU does."""

from __future__ import annotations

import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.files import write_json
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    boot_id,
    process_start_time,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.tests.unit.fake_qmp import FakeQmp, Refusal
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose

UUID = "11111111-2222-3333-4444-555555555555"


class Qemu(FakeQmp):
    """QEMU with a NIC. filters: {id: file} of what exists."""

    def __init__(self, path, **options):
        self.filters, self.added = {}, []
        super().__init__(
            path,
            {
                "query-status": {"status": "running", "running": True},
                "query-uuid": {"UUID": UUID},
                "qom-list": self.objects,
                "object-add": self.add,
                "object-del": lambda given: self.filters.pop(given["id"], Refusal("not found")),
            },
            **options,
        )

    def objects(self, given):
        if given["path"] == "/machine/peripheral":
            return [{"name": "nic0", "type": "child<virtio-net-pci>"}]
        return [] if os.path.basename(given["path"]) in self.filters else Refusal("not found")

    def add(self, given):
        self.added.append(given)
        given = dict(given, **given.get("props", {}))
        self.filters[given["id"]] = given["file"]
        self.write(b"pcap")
        return {}

    def write(self, data):
        for path in self.filters.values():
            with open(path, "ab") as stream:
                stream.write(data)


def running_vm(root):
    """The folder of a VM with the NIC e. root: a folder."""
    host = FakeHost(root=root / "r")
    host.folder.make()
    definition = compose(nics=[{"name": "e", "link": {"type": "user"}}], uuid=UUID, host=host)
    definitions.save(host.folder, definition)
    run = {
        "pid": os.getpid(),
        "start": process_start_time(os.getpid()),
        "boot_id": boot_id(),
        "uuid": UUID,
        "definition": definition,
        "format": 1,
        "argv": [],
        "qemu_version": "7.2.0",
    }
    write_json(host.folder.run, run)
    return host.folder
