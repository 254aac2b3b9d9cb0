# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SCSI controller: which device it is, how many drives it has, and what changes live."""

from __future__ import annotations

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE, RESTART
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.storage import Storage
from ansible_collections.vlab.qemu.tests.unit.vm_world import (
    VERSIONS,
    FakeHost,
    argv,
    capabilities,
    compose,
    parsed,
    values,
)

DRIVERS = {
    "virtio": "virtio-scsi-pci",
    "pvscsi": "pvscsi",
    "megasas": "megasas",
    "mptsas1068": "mptsas1068",
    "lsilogic": "lsi53c895a",
    "lsi53c810": "lsi53c810",
}


def disk(name="s", **more):
    return {"name": name, "size": "1M", "bus": "scsi", **more}


def scsi(controller, *disks, **more):
    return {"memory": "64", "scsi_controller": controller, "disks": list(disks), **more}


def controllers(given, **more):
    """Return the drivers of controllers on the command line, and the buses of SCSI drives."""
    words = [dict(parsed(text, "driver")) for text in values(argv(given, **more), "-device")]
    drives = {each["bus"] for each in words if each["driver"] in ("scsi-hd", "scsi-cd")}
    return [each["driver"] for each in words if each.get("id") == "scsi"], drives


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", DRIVERS)
def test_the_device_of_a_controller(version, name):
    host = FakeHost(version)
    found = controllers(scsi(name, disk(), cdroms=[{"name": "c", "bus": "scsi"}]), host=host)
    assert found == ([DRIVERS[name]], {"scsi.0"})
    assert controllers(scsi(name, disk(bus="virtio")), host=FakeHost(version)) == ([], set())


@pytest.mark.parametrize(
    "name, units",
    [("lsilogic", 7), ("lsi53c810", 7), ("mptsas1068", 8), ("megasas", 64), ("pvscsi", 64)],
)
def test_a_controller_has_so_many_units(name, units):
    compose(scsi(name, *(disk("s%d" % number) for number in range(units))))
    compose(scsi(name, disk(index=units - 1)))
    with pytest.raises(
        OptionError,
        match=r"scsi_controller: %s has the units 0 to %d, and disks/s has the unit %d"
        % (name, units - 1, units),
    ):
        compose(scsi(name, disk(index=units)))
    compose(scsi("virtio", disk(index=units)))


def test_a_controller_that_is_not_there():
    host = FakeHost()
    types = host.capabilities.device_types - {"pvscsi"}
    host.__dict__["capabilities"] = capabilities("7.2", device_types=types)
    with pytest.raises(OptionError, match="scsi_controller: .* has no device 'pvscsi'"):
        compose(scsi("pvscsi", disk()), host=host)
    compose(scsi("pvscsi", disk(bus="virtio")), host=host)
    with pytest.raises(OptionError, match="scsi_controller: this machine has no PCI bus"):
        compose(scsi("pvscsi", disk(), machine="microvm"))


@pytest.mark.parametrize("name", DRIVERS)
def test_disks_come_and_go_live_only_if_the_guest_learns_of_it(name):
    """Without that, a guest would write to a disk that is no more."""
    saved = compose(scsi(name, disk()))
    how = LIVE if name in ("virtio", "pvscsi") else RESTART
    added = compose({"disks": [disk("t")]}, saved=saved)
    removed = compose({"remove_disks": ["s"]}, saved=saved)
    for desired in (added, removed):
        (change,) = Storage().compare(saved, desired)
        assert change.how == how
        assert bool(change.reason) == (how == RESTART)


def test_another_controller_needs_a_restart_if_there_is_one():
    saved = compose(scsi("virtio", disk()))
    assert Storage().compare(saved, compose({}, saved=saved)) == []
    (change,) = Storage().compare(saved, compose({"scsi_controller": "lsilogic"}, saved=saved))
    assert (change.option, change.how) == ("scsi_controller", RESTART)
    assert (change.before, change.after) == ("virtio", "lsilogic")
    unused = compose(scsi("virtio", disk(bus="virtio")))
    (change,) = Storage().compare(unused, compose({"scsi_controller": "lsilogic"}, saved=unused))
    assert change.how == LIVE
