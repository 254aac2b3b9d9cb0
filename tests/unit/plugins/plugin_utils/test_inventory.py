# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
import yaml
from ansible import constants as C
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.doc_fragments import constructed, inventory_cache

from ansible_collections.vlab.qemu.plugins.inventory import lab
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import hypervisor

TOPOLOGY = """
name: pair
defaults: {kind: frr}
nodes:
  r1: {groups: [core]}
  r2: {hypervisor: hv2}
  sw: {kind: cisco_vios, image: /images/iosv.qcow2}
groups: {core: {}}
placement: {hypervisors: [hv1, hv2]}
links: [r1 -- r2]
addressing: {loopback: 10.255.0.0/24}
"""
VMS = {
    "hv1": [
        {
            "lab": "pair",
            "name": "r1",
            "status": "running",
            "agent": "/a/agent.sock",
            "forwards": [],
            "consoles": [],
            "nics": [{"addresses": [{"address": "{{ 7 * 7 }}", "source": "agent"}]}],
        }
    ],
    "hv2": [
        {
            "lab": "other",
            "name": "r1",
            "status": "stopped",
            "agent": None,
            "forwards": [],
            "consoles": [],
            "nics": [],
        }
    ],
}


@pytest.fixture(scope="module", autouse=True)
def options():
    """Ansible's loader does this: it reads the options from the documentation."""
    known = {}
    for text in (
        constructed.ModuleDocFragment.DOCUMENTATION,
        inventory_cache.ModuleDocFragment.DOCUMENTATION,
        lab.DOCUMENTATION,
    ):
        known.update(yaml.safe_load(text)["options"])
    C.config.initialize_plugin_configuration_definitions("inventory", "vlab.qemu.lab", known)


@pytest.fixture
def asked(monkeypatch):
    """The hypervisors that were asked; they answer with VMS."""
    names = []

    def request(self, name, data=b"", **parameters):
        names.append(self.name)
        about = {"pair": {"r1": {"kind": "frr", "groups": ["core"], "loopback": "10.255.0.1"}}}
        return {"vms": VMS[self.name], "node_facts": about, "warnings": []}, []

    monkeypatch.setattr(hypervisor.Hypervisor, "request", request)
    return names


@pytest.fixture
def parsed(tmp_path):
    """Return parse(text): the hosts hv1 and hv2 and what the plugin adds for a configuration."""
    (tmp_path / "pair.yml").write_text(TOPOLOGY)
    (tmp_path / "broken.yml").write_text(
        "name: broken\nnodes: {r1: {kind: none}}\nlinks: [r1 -- r2]\n"
    )

    def parse(text, cache=True):
        inventory = InventoryData()
        inventory.add_group("hypervisors")
        for name in ("hv1", "hv2"):
            inventory.add_host(name, "hypervisors")
            inventory.set_variable(name, "ansible_connection", "local")
        path = tmp_path / "test.lab.yml"
        path.write_text("plugin: vlab.qemu.lab\n" + text)
        plugin = lab.InventoryModule()
        plugin._load_name = plugin.ansible_name = "vlab.qemu.lab"
        assert plugin.verify_file(str(path))
        plugin.parse(inventory, DataLoader(), str(path), cache=cache)
        if "cache: true" in text:
            plugin.update_cache_if_changed()
        inventory.reconcile_inventory()
        return inventory

    return parse


def members(inventory):
    return {
        name: sorted(host.name for host in group.get_hosts())
        for name, group in inventory.groups.items()
        if name not in ("all", "ungrouped")
    }


def test_from_a_file(parsed, asked):
    inventory = parsed("topology: pair.yml\nhypervisors: [hypervisors]\n")
    assert asked == []
    assert members(inventory) == {
        "hypervisors": ["hv1", "hv2"],
        "lab_pair": ["r1", "r2", "sw"],
        "kind_frr": ["r1", "r2"],
        "kind_cisco_vios": ["sw"],
        "role_core": ["r1"],
        "hypervisor_hv1": ["r1", "sw"],
        "hypervisor_hv2": ["r2"],
        "vlab_guest_agent": ["r1", "r2"],
        "vlab_cli": ["sw"],
    }
    assert inventory.groups["kind_cisco_vios"].get_vars()["ansible_network_os"] == "cisco.ios.ios"
    known = inventory.hosts["r1"].get_vars()
    assert (
        known["vlab_vm"],
        known["vlab_lab"],
        known["vlab_hypervisor"],
        known["vlab_loopback"],
    ) == ("r1", "pair", "hv1", "10.255.0.1")
    # Not of the host: what a user says of a group must win.
    assert "ansible_connection" not in known
    assert (
        inventory.groups["vlab_guest_agent"].get_vars()["ansible_connection"]
        == "vlab.qemu.guest_agent"
    )


def test_a_linux_node_is_reached_without_further_variables(parsed, asked, tmp_path):
    (tmp_path / "server.yml").write_text(
        "name: server\nnodes:\n  web:\n    kind: linux\n    vars: {ssh_keys: [k]}\n"
        "    nics: {eth1: {link: {type: user, forwards: [{guest_port: 22, host_port: 2222}]}}}\n"
    )
    inventory = parsed("topology: server.yml\nhypervisors: [hv1]\n")
    assert members(inventory)["vlab_ssh"] == ["web"]
    assert inventory.groups["kind_linux"].get_vars() == {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_transfer_method": "piped",
    }
    known = inventory.hosts["web"].get_vars()
    assert (known["vlab_ssh_host"], known["vlab_ssh_port"]) == ("127.0.0.1", 2222)
    assert "StrictHostKeyChecking=no" in known["vlab_ssh_common_args"]


def test_a_system_of_several_vms_is_one_host(parsed, asked, tmp_path, monkeypatch):
    (tmp_path / "mx.yml").write_text(
        "name: mx\nnodes: {mx1: {kind: juniper_vmx}, mx2: {kind: juniper_vmx}}\n"
        "links: [mx1 -- mx2]\naddressing: {links: 10.0.0.0/24}\nmanagement: true\n"
    )
    inventory = parsed("topology: mx.yml\nhypervisors: [hv1]\n")
    assert members(inventory)["lab_mx"] == ["mx1", "mx2"]
    known = {nic["name"]: nic for nic in inventory.hosts["mx1"].get_vars()["vlab_nics"]}
    assert known["ge-0/0/0"]["vm"] == "mx1-fpc0" and known["ge-0/0/0"]["addresses"]
    # The hypervisor reports the VMs of the modules, too.
    facts = {"mx1": {"kind": "juniper_vmx"}, "mx1-fpc0": {"kind": "juniper_vmx", "part_of": "mx1"}}
    vms = [dict(VMS["hv1"][0], lab="mx", name=name) for name in facts]
    reply = {"vms": vms, "node_facts": {"mx": facts}, "warnings": []}
    monkeypatch.setattr(hypervisor.Hypervisor, "request", lambda *_args, **_more: (reply, []))
    inventory = parsed("hypervisors: [hv1]\n")
    assert members(inventory)["lab_mx"] == members(inventory)["kind_juniper_vmx"] == ["mx1"]


def test_a_kind_may_be_an_appliance_beside_the_file(parsed, asked, tmp_path):
    (tmp_path / "switch.gns3a").write_text(
        '{"registry_version": 3, "port_name_format": "Gi{0}", "qemu": {"adapters": 2}}'
    )
    (tmp_path / "app.yml").write_text(
        "name: app\nkinds: {switch: {appliance: switch.gns3a}}\nnodes: {sw1: {kind: switch}}\n"
    )
    known = parsed("topology: app.yml\nhypervisors: [hv1]\n").hosts["sw1"].get_vars()
    assert [nic["name"] for nic in known["vlab_nics"]] == ["Gi0", "Gi1"]


def test_the_lab_can_have_another_name(parsed, asked):
    inventory = parsed("topology: pair.yml\nhypervisors: [hypervisors]\nlab_name: twin\n")
    hosts = members(inventory)
    assert hosts["lab_twin"] and "lab_pair" not in hosts
    assert inventory.hosts["r1"].get_vars()["vlab_lab"] == "twin"


def test_asked(parsed, asked):
    inventory = parsed(
        "hypervisors: [hv1, hv2]\nhost_name: '{lab}-{node}'\n"
        "keyed_groups: [{key: vlab_status, prefix: is}]\ncompose: {seen: vlab_addresses}\n"
    )
    assert asked == ["hv1", "hv2"]
    found = members(inventory)
    assert (found["lab_pair"], found["lab_other"], found["role_core"]) == (
        ["pair-r1"],
        ["other-r1"],
        ["pair-r1"],
    )
    assert (found["is_running"], found["is_stopped"], found["vlab_serial"]) == (
        ["pair-r1"],
        ["other-r1"],
        ["other-r1"],
    )
    # What a guest says is no template.
    assert inventory.hosts["pair-r1"].get_vars()["seen"] == ["{{ 7 * 7 }}"]


def test_the_cache_is_asked_first(parsed, asked, tmp_path):
    text = (
        "hypervisors: [hv1]\nlabs: [pair]\ncache: true\ncache_plugin: jsonfile\n"
        "cache_connection: %s\n" % (tmp_path / "cache")
    )
    first, second = members(parsed(text)), members(parsed(text))
    assert asked == ["hv1"]
    assert first == second and first["lab_pair"] == ["r1"]
    parsed(text, cache=False)
    assert asked == ["hv1", "hv1"]


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "hypervisors: [hv1, hv2]\n",
            "r1 is the name of a node of the labs other and pair: set host_name",
        ),
        ("hypervisors: [hv9]\n", "hypervisors: the inventory has no host or group hv9"),
        ("topology: [pair.yml, pair.yml]\nlab_name: x\n", "lab_name: it is the name of one lab"),
        ("topology: none.yml\n", "topology: cannot read .*none.yml: No such file"),
        ("topology: broken.yml\n", "topology: .*broken.yml: the topology has 2 errors"),
    ],
)
def test_mistakes(parsed, asked, text, message):
    with pytest.raises(AnsibleParserError, match=message):
        parsed(text)
