# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qmp_names import to_qmp


@pytest.mark.parametrize(
    "given, expected",
    [
        (("query_status",), ("query-status", None)),
        (("query-status", {}), ("query-status", {})),
        (
            ("block-resize", {"node_name": "d", "size": 1}),
            ("block_resize", {"node-name": "d", "size": 1}),
        ),
        (
            ("blockdev_add", {"node_name": "d", "file": {"detect_zeroes": "on"}}),
            ("blockdev-add", {"node-name": "d", "file": {"detect-zeroes": "on"}}),
        ),
        (
            ("transaction", {"actions": [{"type": "block_x", "data": {"node_name": 1}}]}),
            ("transaction", {"actions": [{"type": "block_x", "data": {"node-name": 1}}]}),
        ),
        (
            ("block_set_io_throttle", {"bps_rd": 1, "iops_size": 2}),
            ("block_set_io_throttle", {"bps_rd": 1, "iops_size": 2}),
        ),
        (
            ("netdev_add", {"type": "tap", "vnet_hdr": True, "script_": 1}),
            ("netdev_add", {"type": "tap", "vnet_hdr": True, "script-": 1}),
        ),
        (
            ("device_add", {"driver": "virtio-net-pci", "host_mtu": 1400}),
            ("device_add", {"driver": "virtio-net-pci", "host_mtu": 1400}),
        ),
        (
            ("qom_set", {"value": {"a_b": 1}, "path": "/x"}),
            ("qom-set", {"value": {"a_b": 1}, "path": "/x"}),
        ),
        (("x", {"a_b": 1, "a-b": 2}), ("x", {"a_b": 1, "a-b": 2})),
    ],
)
def test_spell(given, expected):
    assert to_qmp(*given) == expected
