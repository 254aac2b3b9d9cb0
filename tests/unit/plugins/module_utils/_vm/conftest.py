# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._vm import container


@pytest.fixture(autouse=True)
def on_a_machine(monkeypatch):
    """Run the tests also in an application container, where no VM would be started."""
    monkeypatch.setattr(container, "_current_container", lambda: None)
