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


def _eve(count):
    interfaces = {n: "" for n in range(count)}
    for k, pair in enumerate(_pairs(count)):
        for n, port in pair:
            text = '<interface id="%d" name="Gi0/%d" type="ethernet" network_id="%d"/>'
            interfaces[n] += text % (port, port, k + 1)
    nodes = [
        '<node id="%d" name="r%d" type="qemu" template="vios" image="vios-15">%s</node>'
        % (n + 1, n, text)
        for n, text in interfaces.items()
    ]
    networks = ['<network id="%d" type="bridge"/>' % (k + 1) for k in range(count * 3 // 2)]
    return "<lab name='x'><topology><nodes>%s</nodes><networks>%s</networks></topology></lab>" % (
        "".join(nodes),
        "".join(networks),
    )


def _netlab(count):
    def interface(n, port, index):
        name = {"ifindex": port + 1, "ifname": "eth%d" % (port + 1)}
        return {**name, "ipv4": "10.%d.%d.%d/30" % (index >> 6, (index & 63) * 4, n % 2 + 1)}

    nodes = {
        "r%d" % n: {"device": "frr", "box": "frr", "id": n + 1, "name": "r%d" % n, "interfaces": []}
        for n in range(count)
    }
    links = []
    for k, pair in enumerate(_pairs(count)):
        ends = [interface(end, port, k) for end, (_n, port) in enumerate(pair)]
        for (n, _port), end in zip(pair, ends):
            nodes["r%d" % n]["interfaces"].append({**end, "linkindex": k + 1, "type": "p2p"})
        own = [{"node": "r%d" % n, **end} for (n, _port), end in zip(pair, ends)]
        links.append({"linkindex": k + 1, "type": "p2p", "node_count": 2, "interfaces": own})
    return _yaml({"name": "x", "provider": "libvirt", "nodes": nodes, "links": links})


def _seconds(text, count):
    """Return the processor time of an import of so many nodes."""
    start = time.process_time()
    lab = imported_text(text)
    seconds = time.process_time() - start
    assert len(lab.topology["nodes"]) == count
    assert len(lab.topology["links"]) == count * 3 // 2
    return seconds


@pytest.mark.parametrize("make", [_containerlab, _cml, _gns3, _eve, _netlab])
def test_the_time_of_large_labs(make):
    texts = {count: make(count) for count in (300, 1000)}
    seconds = {count: _seconds(text, count) for count, text in texts.items()}
    assert seconds[300] < 2 and seconds[1000] < 10, seconds
    # A square would be 11 times as long. Beside other tests, one measurement can be slow by chance.
    for _attempt in range(3):
        if seconds[1000] < 7 * max(seconds[300], 0.1):
            return
        seconds = {count: _seconds(text, count) for count, text in texts.items()}
    pytest.fail("the time grows faster than the size: %s" % seconds)
