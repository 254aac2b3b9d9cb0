# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked of QEMU to save and load the memory of a guest."""

from __future__ import annotations

import os

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    MonitorTimeout,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import memory
from ansible_collections.vlab.qemu.tests.unit.fake_qmp import FakeQmp


class Qemu(FakeQmp):
    """A QEMU whose migrations end at once with a status, and that has continued from a template."""

    def __init__(self, path, status="completed", **more):
        def migrate(arguments):
            self.event("MIGRATION", {"status": status})
            return {}

        answers = {
            "migrate": migrate,
            "migrate-incoming": migrate,
            "query-status": {"status": "postmigrate"},
            "query-migrate": {"status": status},
        }
        super().__init__(path, answers, **more)

    def capabilities(self):
        """The capabilities that are on. QEMU keeps those of the load of its template."""
        states = {"x-ignore-shared": True}
        for name, more in self.requests:
            if name == "migrate-set-capabilities":
                states.update({one["capability"]: one["state"] for one in more["capabilities"]})
        return sorted(name for name, is_on in states.items() if is_on)


@pytest.mark.parametrize(
    ("memory_file", "capabilities"),
    [(None, ["events"]), ("ram", ["events", "x-ignore-shared"])],
)
def test_memory_that_is_mapped_from_a_file_is_not_copied(tmp_path, memory_file, capabilities):
    if memory_file:
        memory_file = str(tmp_path / memory_file)
        open(memory_file, "w", encoding="ascii").close()
    state = str(tmp_path / "memory")
    with Qemu(tmp_path / "qmp.sock") as qemu, Monitor(qemu.path) as monitor:
        memory.save_memory(monitor, state, 5, memory_file)
        assert qemu.capabilities() == capabilities
    assert os.stat(state).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("is_mapped", [False, True])
def test_it_is_loaded_as_it_was_saved(tmp_path, is_mapped):
    state = tmp_path / "memory"
    state.write_bytes(b"pages")
    with Qemu(tmp_path / "qmp.sock", version=(10, 0, 0)) as qemu, Monitor(qemu.path) as monitor:
        memory.load_memory(monitor, str(state), 5, is_mapped)
        assert ("x-ignore-shared" in qemu.capabilities()) == is_mapped
        assert qemu.requests[-1] == ("migrate-incoming", {"uri": "file:%s" % state})


def test_a_memory_file_that_is_gone_is_an_error_and_leaves_no_state(tmp_path):
    state = tmp_path / "memory"
    with Qemu(tmp_path / "qmp.sock") as qemu, Monitor(qemu.path) as monitor:
        with pytest.raises(HostError, match="ram"):
            memory.save_memory(monitor, str(state), 5, str(tmp_path / "ram"))
    assert not state.exists()


def test_a_migration_that_qemu_does_not_cancel_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CANCEL_TIMEOUT", 0.1)
    with Qemu(tmp_path / "qmp.sock", "active") as qemu, Monitor(qemu.path) as monitor:
        with pytest.raises(MonitorTimeout, match="^QEMU did not cancel its migration within"):
            memory.cancel(monitor)
        assert qemu.requests[-1][0] == "migrate_cancel"
