# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A layer that QEMU has merged another one into is read-only again."""

from __future__ import annotations

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import layers

TOP, LAYER, BASE = "/vm/disk.2.qcow2", "/vm/disk.1.qcow2", "/vm/disk.qcow2"


class Monitor:
    """The answers of QEMU. read_only: the images that it has open read-only."""

    def __init__(self, chain, read_only):
        self.chain, self.read_only, self.reopened = chain, read_only, []

    def execute(self, command, arguments):
        if command == "blockdev-reopen":
            self.reopened += arguments["options"]
            return {}
        nodes = []
        for path, backing in zip(self.chain, self.chain[1:] + [None]):
            image = {"full-backing-filename": backing} if backing else {}
            for driver in ("qcow2", "file"):
                node = {"drv": driver, "file": path, "node-name": "%s:%s" % (driver, path)}
                own = image if driver == "qcow2" else {}
                nodes.append(dict(node, ro=path in self.read_only, image=own))
        return nodes


@pytest.mark.parametrize(
    ("chain", "read_only", "image", "backing"),
    [
        ([TOP, LAYER, BASE], [BASE], LAYER, "qcow2:" + BASE),
        ([TOP, LAYER], [], LAYER, None),
        # The guest writes to it, it is read-only already, or QEMU does not have it.
        ([TOP, LAYER], [LAYER], TOP, False),
        ([TOP, LAYER], [LAYER], LAYER, False),
        ([TOP], [], LAYER, False),
    ],
)
def test_a_layer_under_another_one_is_read_only(chain, read_only, image, backing):
    monitor = Monitor(chain, read_only)
    layers._freeze(monitor, image)
    if backing is False:
        assert monitor.reopened == []
        return
    (options,) = monitor.reopened
    assert options["read-only"] is True
    assert (options["node-name"], options["file"]) == ("qcow2:" + image, "file:" + image)
    assert options.get("backing") == backing
