# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Large labs are imported in time, and the time grows with their size."""

from __future__ import annotations

import json
import time

import pytest
import yaml
from ansible_collections.vlab.qemu.tests.unit.imported_labs import FILES, imported_text


def _yaml(data):
    return yaml.dump(data, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))


def _pairs(count):
    """Return the links of a ring with chords: ((node, port), (node, port))."""
    ring = [((n, 0), ((n + 1) % count, 1)) for n in range(count)]
    return ring + [((n, 2), (n + count // 2, 2)) for n in range(count // 2)]


def _containerlab(count):
    links = [
        {"endpoints": ["r%d:eth%d" % (n, port + 1) for n, port in pair]} for pair in _pairs(count)
    ]
    nodes = {"r%d" % n: {"kind": "cisco_vios", "env": {"A": "b"}} for n in range(count)}
    return _yaml({"name": "x", "topology": {"nodes": nodes, "links": links}})


def _cml(count):
    nodes = [
        {
            "id": "n%d" % n,
            "label": "r%d" % n,
            "node_definition": "iosv",
            "configuration": [{"name": "ios_config.txt", "content": "hostname r%d\n" % n * 20}],
            "interfaces": [
                {"id": "i%d" % slot, "slot": slot, "label": "Gi%d" % slot, "type": "physical"}
                for slot in range(4)
            ],
        }
        for n in range(count)
    ]
    links = [
        {"id": "l%d" % k, "n1": "n%d" % a, "i1": "i%d" % b, "n2": "n%d" % c, "i2": "i%d" % d}
        for k, ((a, b), (c, d)) in enumerate(_pairs(count))
    ]
    lab = {"lab": {"title": "x", "version": "0.3.0"}, "nodes": nodes, "links": links}
    return _yaml(lab)


def _gns3(count):
    project = json.loads((FILES / "gns3_routers.gns3").read_text())
    node = project["topology"]["nodes"][0]
    project["topology"]["nodes"] = [
        dict(
            node,
            name="r%d" % n,
            node_id="id-%d" % n,
            properties=dict(node["properties"], mac_address=""),
        )
        for n in range(count)
    ]
    project["topology"]["links"] = [
        {"nodes": [{"node_id": "id-%d" % n, "adapter_number": port} for n, port in pair]}
        for pair in _pairs(count)
    ]
    return json.dumps(project)


@pytest.mark.parametrize("make", [_containerlab, _cml, _gns3])
def test_the_time_of_large_labs(make):
    texts = {count: make(count) for count in (300, 1000)}
    seconds = {}
    for count, text in texts.items():
        start = time.process_time()
        lab = imported_text(text)
        seconds[count] = time.process_time() - start
        assert len(lab.topology["nodes"]) == count
        assert len(lab.topology["links"]) == count * 3 // 2
    assert seconds[300] < 2 and seconds[1000] < 10, seconds
