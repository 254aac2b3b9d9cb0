# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that nodes fetch by TFTP at their first boot."""

from __future__ import annotations

import pytest
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import (
    builder,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError
from ansible_collections.vlab.qemu.tests.unit.imported_labs import share_of

KIND = {
    "image": "/i",
    "vm": {"memory": 64, "smbios": [{"type": 1, "product": "x{boot}"}]},
    "nic": {"management": "mgmt", "name": "e{n}"},
    "config": {
        "delivery": "tftp",
        "file": "start.cfg",
        "dhcp_options": {66: "{tftp}", 67: "{file}", 239: "tftp://{tftp}/{file} {address}"},
        "boot": " at={address} from={tftp}",
    },
}


def build(node, kind=None, management=True, **more):
    kinds = {"k": kind or KIND}
    nodes = {"n": {"kind": "k", **node}}
    data = {"name": "t", "management": management, "kinds": kinds, "nodes": nodes, **more}
    return builder.build(data)


def vm(topology):
    """Return what qemu_vm gets for the node n, and the script for its console."""
    found = share_of(topology)["vms"][0]
    return found["options"], found["bootstrap"]


def link(options, nic="mgmt"):
    return next(one for one in options["nics"] if one["name"] == nic)["link"]


def problems_of(*args, **more):
    with pytest.raises(TopologyError) as caught:
        build(*args, **more)
    return str(caught.value)


def test_a_config_is_served_and_announced():
    options, _script = vm(build({"config": "c", "files": {"more": "m"}}))
    assert options["tftp_files"] == {"files": {"start.cfg": "c", "more": "m"}, "nic": "mgmt"}
    assert "config_drive" not in options
    assert link(options)["dhcp_options"] == {
        "66": "10.0.2.2",
        "67": "start.cfg",
        "239": "tftp://10.0.2.2/start.cfg 10.0.2.15/24",
    }
    assert options["smbios"] == [{"type": 1, "product": "x at=10.0.2.15/24 from=10.0.2.2"}]


def test_a_link_of_its_own():
    own = {
        "type": "user",
        "network": "10.9.0.0/16",
        "host_address": "10.9.9.9",
        "dhcp_options": {67: "mine", 200: "x"},
    }
    node = {"config": "c", "nics": {"mgmt": {"link": own}}}
    options, _script = vm(build(node, management=False))
    assert link(options)["dhcp_options"] == {
        "66": "10.9.9.9",
        "67": "mine",
        "200": "x",
        "239": "tftp://10.9.9.9/start.cfg 10.9.2.15/16",
    }


def test_nothing_is_announced_without_files():
    options, _script = vm(build({}))
    assert "tftp_files" not in options and "dhcp_options" not in link(options)
    assert options["smbios"] == [{"type": 1, "product": "x"}]


def test_other_nics_are_left_alone():
    outside = {"type": "user", "network": "10.7.0.0/24"}
    options, _script = vm(build({"config": "c", "nics": {"e1": {"link": outside}}}))
    assert link(options, "e1") == outside


def test_a_kind_without_a_management_nic():
    kind = {**KIND, "nic": {"name": "e{n}"}}
    nics = {"e1": {"link": {"type": "user"}}}
    options, _script = vm(build({"config": "c", "nics": nics}, kind, management=False))
    assert options["tftp_files"]["nic"] == "e1" and link(options, "e1")["dhcp_options"]


@pytest.mark.parametrize("nics", [{}, {"mgmt": {"link": {"type": "passt"}}}])
def test_a_node_without_a_link_that_serves(nics):
    found = problems_of({"config": "c", "nics": nics}, management=False)
    assert "nodes.n.nics.mgmt.link: the files of kind k are served by TFTP" in found
    assert build({"nics": nics}, management=False)


@pytest.mark.parametrize(
    "config, option",
    [
        ({"delivery": "tftp", "addresses": "shell"}, "kinds.k.config.addresses"),
        ({"delivery": "tftp", "dhcp_options": {53: "x"}}, "kinds.k.config.dhcp_options[53]"),
        ({"delivery": "tftp", "dhcp_options": {"a": "x"}}, "kinds.k.config.dhcp_options"),
        ({"dhcp_options": {67: "x"}}, "kinds.k.config.dhcp_options"),
        ({"delivery": "drive", "boot": "x"}, "kinds.k.config.boot"),
        ({"delivery": "nfs"}, "kinds.k.config.delivery"),
    ],
)
def test_kinds_that_cannot_be(config, option):
    assert option + ":" in problems_of({}, {**KIND, "config": config})


@pytest.mark.parametrize("name", ["aruba_aoscx", "nokia_sros", "sonic", "dell_sonic"])
def test_shipped_kinds(name):
    """Their config is typed as before, unless bootstrap is false."""
    kind = {"extends": name, "image": "/i"}
    node = {"config": "hostname x\n", "vars": {"password": "secret"}}
    options, script = vm(build(node, kind))
    assert script and "tftp_files" not in options and "dhcp_options" not in link_of(options)
    assert vm(build({**node, "nics": {}}, kind, management=False))[1] == script
    options, script = vm(build({**node, "bootstrap": False}, kind))
    assert not script and list(options["tftp_files"]["files"].values()) == ["hostname x\n"]
    (file,) = options["tftp_files"]["files"]
    announced = str(link_of(options).get("dhcp_options", "")) + str(options.get("smbios", ""))
    assert file in announced and "10.0.2.2" in announced
    assert ".link: the files" in problems_of({**node, "bootstrap": False}, kind, management=False)


def link_of(options):
    return options["nics"][0]["link"]


def test_the_system_of_nokia():
    kind = {"extends": "nokia_sros", "image": "/i"}
    options, _script = vm(build({"files": {"config.txt": "exit all\n"}}, kind))
    (entry,) = options["smbios"]
    assert entry["product"].endswith(
        " address=10.0.2.15/24@active primary-config=tftp://10.0.2.2/config.txt"
    )
