# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action of qemu_lab: options, the topology, a host's share, and joined results."""

from __future__ import annotations

import base64
import json
import types

import pytest
import yaml
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.vlab.qemu.plugins.module_utils._lab import lab_record, lab_service
from ansible_collections.vlab.qemu.plugins.module_utils._remote import protocol
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import LAB_RECORD
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab import (
    lab,
    lab_action,
    lab_migrations,
    record_cache,
    results,
    share,
    start_barrier,
    topology_source,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.lab import Deriver
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.lab_action import LabAction
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.topology_source import (
    Source,
    read_topology,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import host_action

PAIR = {
    "name": "pair",
    "kinds": {"blank": {"vm": {"memory": 32}}},
    "defaults": {"kind": "blank", "disks": []},
    "nodes": {"a": {}, "b": {}},
    "links": ["a:eth1 -- b:eth1"],
}


def action(hosts=("hv1",), here="hv1", check_mode=False, forks=5, **args):
    """A LabAction for a task with these arguments, in a play on these hosts."""
    hostvars = {
        host: {"ansible_host": "192.0.2.%d" % number} for number, host in enumerate(hosts, 1)
    }
    task = types.SimpleNamespace(
        args=dict({"topology": PAIR}, **args),
        check_mode=check_mode,
        throttle=0,
        _uuid="1",
        async_val=0,
        environment=None,
        action="vlab.qemu.qemu_lab",
        delegate_to=None,
        get_search_path=list,
    )
    loader = DataLoader()
    made = LabAction(
        task,
        types.SimpleNamespace(),
        types.SimpleNamespace(check_mode=check_mode),
        loader,
        Templar(loader=loader, variables={}),
        None,
    )
    made.task_vars = {
        "inventory_hostname": here,
        "ansible_play_hosts_all": list(hosts),
        "ansible_play_batch": list(hosts),
        "hostvars": hostvars,
    }
    made.sent, made.queries = [], []
    made.send_request = lambda _vars, _service, name, given: made.queries.append((name, given))
    made.run_share = lambda given, share: (
        made.sent.append((given, share)) or {"changed": True, "vms": [], "progress": []}
    )
    return made


def run(made):
    return made.run(task_vars=made.task_vars)


@pytest.fixture(autouse=True)
def without_a_real_task(monkeypatch):
    """Replace what needs a real task: the base class and the progress file."""
    monkeypatch.setattr(host_action.ActionBase, "run", lambda self, tmp=None, task_vars=None: {})
    monkeypatch.setattr(lab_action.context, "CLIARGS", {"forks": 5})

    class NoProgress:
        path = None

        def __init__(self, *_args):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_exception):
            pass

        def finish(self, _lines):
            pass

    monkeypatch.setattr(lab_action, "Progress", NoProgress)


def test_a_host_is_sent_its_share_and_nothing_else():
    made = action(
        hosts=("hv1", "hv2"),
        topology=dict(PAIR, nodes={"a": {"hypervisor": "hv1"}, "b": {"hypervisor": "hv2"}}),
        images={"x": {"disk": "/x"}},
    )
    result = run(made)
    ((given, share),) = made.sent
    assert given["topology"] == {} and given["images"] == {}
    assert [vm["name"] for vm in share["vms"]] == ["a"] and share["lab"] == "pair"
    assert result["placement"] == {"a": "hv1", "b": "hv2"}
    # The link crosses: its other end is where the inventory says that hv2 is.
    assert "192.0.2.2" in str(share["vms"][0]["options"]["nics"])


@pytest.mark.parametrize("state", ["started", "stopped", "paused", "present"])
def test_conflicts_of_nodes_are_found_before_a_host_is_sent_anything(state):
    console = {"name": "a", "type": "tcp", "port": "5001"}
    nodes = {name: {"consoles": [console], "hypervisor": "hv2"} for name in ("a", "b")}
    made = action(hosts=("hv1", "hv2"), topology=dict(PAIR, nodes=nodes), state=state)
    result = run(made)
    assert result["failed"] and not made.sent
    assert "nodes.b.consoles[0].port: port tcp/5001 on 127.0.0.1 is also used" in result["msg"]


def appliance_topology(tmp_path, **kind):
    """A topology file beside an appliance; return its path."""
    appliance = {
        "name": "Router",
        "registry_version": 4,
        "qemu": {
            "adapter_type": "e1000",
            "adapters": 2,
            "custom_adapters": [{"adapter_number": 1, "adapter_type": "virtio"}],
            "ram": 64,
        },
        "images": [{"filename": "router.qcow2", "md5sum": "a" * 32, "filesize": 5}],
        "versions": [{"name": "1", "images": {"hda_disk_image": "router.qcow2"}}],
    }
    (tmp_path / "router.gns3a").write_text(json.dumps(appliance), encoding="utf-8")
    topology = {
        "name": "lab",
        "kinds": {"router": {"appliance": "router.gns3a", **kind}},
        "nodes": {"a": {"kind": "router"}},
    }
    path = tmp_path / "lab.yml"
    path.write_text(yaml.safe_dump(topology), encoding="utf-8")
    return str(path)


def test_a_kind_may_be_an_appliance_beside_the_topology(tmp_path):
    made = action(topology=appliance_topology(tmp_path))
    assert not run(made).get("failed")
    options = made.sent[0][1]["vms"][0]["options"]
    assert [nic["model"] for nic in options["nics"]] == ["e1000", "virtio-net-pci"]
    assert options["disks"][0]["backing_file"] == "router.qcow2" and options["memory"] == 64


def test_an_error_about_an_image_of_an_appliance_says_what_it_is(tmp_path):
    made = action(topology=appliance_topology(tmp_path))
    made.run_share = lambda given, share: {"failed": True, "msg": "no /images/router.qcow2"}
    message = run(made)["msg"]
    assert message.startswith("no /images/router.qcow2\n") and "router.qcow2: md5 aaa" in message


@pytest.mark.parametrize(
    "kind, message",
    [
        ({"appliance": "no.gns3a"}, "there is no file no.gns3a on the controller"),
        ({"version": "2"}, "kinds.router.version: router.gns3a has no version '2'"),
    ],
)
def test_an_appliance_that_cannot_be_used(kind, message, tmp_path):
    made = action(topology=appliance_topology(tmp_path, **kind))
    result = run(made)
    assert result["failed"] and message in result["msg"] and not made.sent


UNNAMED = {key: value for key, value in PAIR.items() if key != "name"}


@pytest.mark.parametrize(
    "args, name",
    [
        ({}, "pair"),
        ({"lab_name": "twin"}, "twin"),
        # The default of a play for all modules does not rename a topology.
        ({"lab": "all"}, "pair"),
        ({"lab": "all", "lab_name": "twin"}, "twin"),
        ({"topology": UNNAMED, "lab": "all"}, "all"),
        ({"topology": UNNAMED, "lab_name": "twin"}, "twin"),
        ({"lab_name": ""}, "pair"),
    ],
)
def test_the_name_of_the_lab(args, name):
    made = action(**args)
    run(made)
    share = made.sent[0][1]
    assert share["lab"] == name and [vm["name"] for vm in share["vms"]] == ["a", "b"]


@pytest.mark.parametrize("lab", [{"lab_name": "twin"}, {"lab": "twin"}])
@pytest.mark.parametrize("topology", [None, {}, ""])
@pytest.mark.parametrize("state", ["stopped", "absent"])
def test_a_lab_is_stopped_and_removed_by_its_name(lab, topology, state):
    unused = {"images": {"x": {"disk": "/x"}}, "purge": True, "from": {"checkpoint": "c"}}
    made = action(topology=topology, state=state, **unused, **lab)
    result = run(made)
    ((given, share),) = made.sent
    assert share == {"lab": "twin", "vms": [], "by_name": True, "origin": None, "progress": None}
    assert given["state"] == state and not given["purge"] and given["from"] is None
    assert given["images"] == {} and result["placement"] == {}


def test_whose_lab_it_is_is_sent(tmp_path):
    made = action(hosts=("hv1", "hv2"))
    made.task_vars["playbook_dir"] = str(tmp_path)
    records = {"hv1": "/old.yml", "hv2": None}
    for number, (host, origin) in enumerate(records.items()):
        record = lab_record.LabRecord("pair", origin, number + 1, {})
        made.task_vars["hostvars"][host]["lab_info"] = {
            "hypervisor": {
                "lab": "pair",
                "record": lab_record.to_text(record),
                "vms": {"x%d" % number: {"status": "running"}},
                "memory_available_mb": 10000,
                "cpus": 8,
                "disk_free_mb": 10000,
            }
        }
    run(made)
    share = made.sent[0][1]
    assert share["origin"] == "%s/" % tmp_path and list(share["placed"]) == ["a", "b"]
    assert share["queried_lab"] == {"origin": "/old.yml", "vms": ["x0", "x1"]}


@pytest.mark.parametrize("state", ["started", "absent"])
def test_a_file_and_an_owner_are_the_origin(tmp_path, state):
    path = tmp_path / "lab.yml"
    path.write_text(json.dumps(PAIR), encoding="utf-8")
    for args, origin in (({}, str(path)), ({"owner": "ann", "allow_takeover": True}, "owner ann")):
        made = action(topology=str(path), state=state, **args)
        run(made)
        given, share = made.sent[0]
        assert share["origin"] == origin and share["queried_lab"] is None
        assert list(share["placed"]) == ["a", "b"]
        assert given["allow_takeover"] == bool(args)


@pytest.mark.parametrize(
    "given, sent",
    [
        ({"checkpoint": "c"}, {"lab": "pair", "checkpoint": "c"}),
        ({"checkpoint": "c", "lab": "other"}, {"lab": "other", "checkpoint": "c"}),
        (None, None),
    ],
)
def test_the_source_of_a_clone(given, sent):
    made = action(hosts=("hv1", "hv2"), lab_name="twin", **{"from": given})
    lab = sent["lab"] if sent else "pair"
    found = {"hypervisor": {"lab": lab, "vms": {"a": {}, "b": {}}}}
    made.task_vars["hostvars"]["hv2"]["lab_origin_info"] = found
    result = run(made)
    assert made.sent[0][0]["from"] == sent
    assert result["placement"] == {"a": "hv2" if sent else "hv1", "b": "hv2"}


def test_the_removal_of_a_clone_needs_no_source():
    made = action(lab_name="twin", state="absent", **{"from": {"checkpoint": "c"}})
    run(made)
    assert made.sent[0][0]["from"] is None


@pytest.mark.parametrize(
    "args, says",
    [
        ({"from": {"checkpoint": "c"}}, "a lab cannot be a clone of itself"),
        ({"from": {"checkpoint": "c", "lab": "x"}, "lab_name": "x"}, "cannot be a clone of itself"),
        ({"from": {"lab": "x"}}, "checkpoint"),
        ({"topology": [1]}, "give a dictionary, or the path of a YAML file"),
        (
            {"topology": "/no/such.yml"},
            "topology: cannot read /no/such.yml: No such file or directory",
        ),
        ({"nodes": ["nobody"]}, "the topology has no node nobody; it has a, b"),
        ({"nodes": []}, "an empty list names no node"),
        ({"state": "up"}, "value of state must be one of"),
        ({"colour": "red"}, "Unsupported parameters for"),
        ({"wait_redy": True}, "module: wait_redy (did you mean wait_ready?). Supported"),
        ({"nodes": ["bb", "a"]}, "the topology has no node bb; did you mean b?"),
        ({"topology": "{name: pair"}, "topology: it is not YAML: "),
        ({"topology": "name: pair: x"}, "topology: cannot read name: pair: x: No such file"),
        ({"topology": "a: 1\nb: [\n"}, "topology: it is not YAML: "),
        ({"share": {}}, "share is not for playbooks"),
        ({"lab_name": "a/b"}, "name"),
        (
            {"topology": None},
            "topology is missing: lab_name is enough for state stopped and absent",
        ),
        ({"topology": {}}, "name and nodes are missing"),
        ({"topology": None, "state": "absent"}, "state absent needs the topology, or lab_name"),
        (
            {"topology": None, "state": "absent", "lab_name": "x", "nodes": ["a"]},
            "nodes: for some nodes of a lab, give its topology",
        ),
    ],
)
def test_errors_are_reported_before_anything_is_sent(args, says):
    made = action(**args)
    result = run(made)
    assert result["failed"] and says in result["msg"] and made.sent == []


@pytest.mark.parametrize(
    "text",
    [
        "name: pair",
        "  {name: pair}",
        "name: pair\nnodes: {}\n",
        '{"name": "pair", "nodes": {}}',
    ],
)
def test_a_topology_can_be_yaml_as_a_string(text):
    assert read_topology(text, None) == Source(yaml.safe_load(text))


@pytest.mark.parametrize("path", ["name.yml", "a: b", "c:d.yml", "{x}", "two words.yml"])
def test_a_path_is_not_taken_for_yaml(path, tmp_path, monkeypatch):
    """Files are looked for unless the text is a mapping in YAML."""
    (tmp_path / path).write_text("name: file", encoding="utf-8")
    expected = {"a: b": {"a": "b"}, "{x}": {"x": None}}.get(path)
    found = Source({"name": "file"}, str(tmp_path / path)) if expected is None else Source(expected)
    assert read_topology(path, lambda kind, name: str(tmp_path / name)) == found


def test_a_topology_that_is_not_utf_8(tmp_path):
    path = tmp_path / "lab.yml"
    path.write_bytes(b"name: \xff")
    result = run(action(topology=str(path)))
    assert result["msg"] == "topology: %s is not YAML: its text is not UTF-8" % path


@pytest.mark.parametrize(
    "registered, used",
    [
        ({"hypervisor": {"lab": "pair", "vms": {"a": {}}}}, True),
        ({"hypervisor": {"lab": "other", "vms": {}}}, False),
        ({"skipped": True}, False),
        ({"hypervisor": "hv1"}, False),
        ("hv1", False),
        (None, False),
    ],
)
def test_results_of_qemu_lab_info_are_used_for_their_lab(registered, used):
    made = action()
    made.task_vars["hostvars"]["hv1"]["lab_info"] = registered
    deriver = Deriver(made.task_vars, False, made._read_appliance, lambda _lab: None)
    assert bool(deriver.facts("pair")) == used


@pytest.mark.parametrize(
    "text, reason",
    [
        (b"{{ no_such_variable }}", "no_such_variable"),
        (b"{% if %}", "Expected an expression"),
        (b"{{ 1 / 0 }}", "division by zero"),
        (b"\xff", "it is not UTF-8"),
        (None, "No such file or directory"),
    ],
)
def test_an_error_in_a_template_names_the_node_and_the_file(tmp_path, text, reason):
    path = tmp_path / "router.j2"
    if text is not None:
        path.write_bytes(text)
    files = {"config": {"template": "router.j2"}}
    made = action(topology=dict(PAIR, nodes={"a": {"files": files}, "b": {}}))
    made._find_needle = lambda kind, name: str(path)
    result = run(made)
    assert result["failed"] and made.sent == []
    start = "nodes.a.files: the template %s cannot be rendered: " % path
    assert result["msg"].startswith(start) and reason in result["msg"]


def test_files_of_nodes_are_also_found_beside_the_topology(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/a.cfg").write_text("hostname {{ a }}\n")
    (tmp_path / "b.j2").write_text("{{ node.name }}\n")
    files = {"a": {"x": {"src": "site/a.cfg"}}, "b": {"x": {"template": "b.j2"}}}
    nodes = {name: {"files": given, "kind": "tiny"} for name, given in files.items()}
    path = tmp_path / "lab.yml"
    path.write_text(json.dumps(dict(PAIR, nodes=nodes)), encoding="utf-8")
    made = action(topology=str(path))
    run(made)
    contents = {
        vm["name"]: vm["options"]["config_drive"]["files"]["x"] for vm in made.sent[0][1]["vms"]
    }
    assert contents == {
        "a": {"base64": base64.b64encode(b"hostname {{ a }}\n").decode()},
        "b": "b\n",
    }


def test_a_run_of_some_nodes_never_purges_and_removes_only_them():
    made = action(nodes=["a"], purge=True, state="absent")
    run(made)
    given, share = made.sent[0]
    assert given["purge"] is False and given["state"] == "present"
    assert {vm["name"]: vm["state"] for vm in share["vms"]} == {"a": "absent", "b": "keep"}


@pytest.mark.parametrize(
    ("nodes", "chosen"), [(["a"], {"a", "a-card"}), (["a-card"], {"a-card"}), (["b"], {"b"})]
)
def test_a_node_is_chosen_with_its_modules(nodes, chosen):
    card = {"image": "/x", "nic": {"management": "bus", "max": 0}}
    kinds = {
        "box": {"extends": "blank", "modules": {"card": card}, "internal": ["bus -- card:bus"]}
    }
    topology = dict(PAIR, kinds={**PAIR["kinds"], **kinds}, nodes={"a": {"kind": "box"}, "b": {}})
    made = action(nodes=nodes, topology=topology, state="stopped")
    result = run(made)
    states = {vm["name"]: vm["state"] for vm in made.sent[0][1]["vms"]}
    assert {name for name, state in states.items() if state == "stopped"} == chosen
    assert set(states) == set(result["placement"]) == {"a", "a-card", "b"}
    assert made.sent[0][1]["node_facts"]["a-card"]["part_of"] == "a"


def test_a_run_that_removes_some_nodes_changes_only_the_nics_of_the_others():
    nodes = {name: {"kind": "tiny", "cmdline": "console=ttyS0"} for name in ("a", "b")}
    made = action(topology=dict(PAIR, nodes=nodes), nodes=["a"], state="absent")
    run(made)
    options = {vm["name"]: set(vm["options"]) for vm in made.sent[-1][1]["vms"]}
    assert options["b"] == {"nics"} and "cmdline" in options["a"]


def test_a_missing_code_bundle_is_sent(monkeypatch):
    made = action()
    answers = iter([{"code_bundle_missing": True}, {"changed": True, "vms": []}])
    del made.run_share
    made.send_request = lambda *_arguments: None
    made._run_module = lambda given, share: made.sent.append(dict(share)) or next(answers)
    made._connection = types.SimpleNamespace(
        _shell=types.SimpleNamespace(join_path=lambda *parts: "/".join(parts), tmpdir="/tmp/t")
    )
    made._make_tmp_path, made._fixup_perms2, made._remove_tmp_path = (
        lambda: "/tmp/t",
        lambda _paths: None,
        lambda _path: None,
    )
    made._transfer_file = lambda local, remote: made.sent.append(remote)
    assert run(made)["changed"]
    assert (
        "code_bundle_archive" not in made.sent[0]
        and made.sent[1] == "/tmp/t/bundle.zip"
        and made.sent[2]["code_bundle_archive"] == "/tmp/t/bundle.zip"
    )


AFTER = dict(
    PAIR, nodes={"a": {"hypervisor": "hv1"}, "b": {"hypervisor": "hv2", "after": {"a": "started"}}}
)


@pytest.mark.parametrize(
    "batch, forks, says",
    [
        (["hv2"], 5, "hv1, hv2 must be in the play at the same time"),
        (
            ["hv1", "hv2"],
            1,
            "2 hypervisors must run at the same time, but forks or throttle allow 1",
        ),
    ],
)
def test_hosts_that_wait_for_each_other_must_run_together(monkeypatch, batch, forks, says):
    monkeypatch.setattr(lab_action.context, "CLIARGS", {"forks": forks})
    made = action(hosts=("hv1", "hv2"), here="hv2", topology=AFTER)
    made.task_vars["ansible_play_batch"] = batch
    result = run(made)
    assert result["failed"] and says in result["msg"] and made.sent == []


@pytest.mark.parametrize("connection, fails", [("ssh", True), ("local", False)])
def test_a_loopback_address_is_an_error_except_on_the_controller(connection, fails, builds):
    made = action(
        hosts=("hv1", "hv2"),
        topology=dict(PAIR, nodes={"a": {"hypervisor": "hv1"}, "b": {"hypervisor": "hv2"}}),
    )
    for host, address in (("hv1", "127.0.0.2"), ("hv2", "127.0.0.3")):
        variables = {"ansible_connection": connection, "vlab_address": address}
        made.task_vars["hostvars"][host] = variables
    result = run(made)
    assert fails == bool(result.get("failed"))
    assert "set vlab_address" in result["msg"] if fails else "127.0.0.3" in str(made.sent)


def test_results_are_joined():
    one = {
        "changed": True,
        "changes": [1],
        "warnings": ["w"],
        "actions": {"a": ["start"]},
        "diff": {"before": {"a.memory": 1}, "after": {"a.memory": 2}},
    }
    two = {
        "changed": False,
        "changes": [2],
        "actions": {"a": ["resume"], "b": ["start"]},
        "diff": {"before": {}, "after": {"b.state": "running"}},
        "vms": [3],
    }
    joined = results.joined_results(one, two)
    assert joined == {
        "changed": True,
        "changes": [1, 2],
        "warnings": ["w"],
        "actions": {"a": ["start", "resume"], "b": ["start"]},
        "diff": {"before": {"a.memory": 1}, "after": {"a.memory": 2, "b.state": "running"}},
        "vms": [3],
    }
    assert results.joined_results({}, two) is two


@pytest.mark.parametrize("verbosity", [0, 1])
def test_a_new_node_is_one_entry_of_a_diff(monkeypatch, verbosity):
    made = action()
    monkeypatch.setattr(made._display, "verbosity", verbosity)
    diff = {
        "before": {"a.state": "absent", "b.memory": 64, "b.state": "stopped", "c.state": "running"},
        "after": {
            "a.exec": ["true"],
            "a.memory": 32,
            "a.nics[eth1]": {"model": "e1000"},
            "a.state": "running",
            "b.memory": 128,
            "b.state": "running",
            "c.state": "absent",
            "segments.a": {"type": "hub"},
        },
    }
    made.run_share = lambda given, share: {"changed": True, "diff": diff, "progress": []}
    short = {
        "before": {"b.memory": 64, "b.state": "stopped", "c.state": "running"},
        "after": {
            "a": "new node, running",
            "a.exec": ["true"],
            "b.memory": 128,
            "b.state": "running",
            "c.state": "absent",
            "segments.a": {"type": "hub"},
        },
    }
    assert run(made)["diff"] == (diff if verbosity else short)


def test_errors_are_results():
    """An exception would bypass failed_when and until."""
    made = action()

    def fail(_given, _share):
        raise AnsibleActionFail("no way")

    made.run_share = fail
    assert run(made) == {"failed": True, "changed": False, "msg": "no way"}


def connected(made, **reply):
    """Give an action a local connection, and a client that receives this reply."""
    shell = types.SimpleNamespace(SHELL_FAMILY="sh")
    made._connection = types.SimpleNamespace(has_pipelining=True, become=None, _shell=shell)
    del made.run_share, made.send_request
    made._run_module = lambda params, share: made.sent.append((params, share)) or {"vms": []}
    nothing = {"message": None, "started": False, "incomplete": False, "code": 0, "output": ""}
    return lambda *_arguments: host_action.client.Reply(**dict(nothing, **reply))


def test_a_request_replaces_the_module(monkeypatch):
    made = action()
    message = protocol.Message("", protocol.RESULT, {"result": {"changed": False, "vms": [1]}})
    reply = connected(made, message=message, started=True)
    monkeypatch.setattr(host_action.client, "send_request", reply)
    assert run(made)["vms"] == [1] and made.sent == []


def test_the_module_runs_where_a_request_is_not_possible(monkeypatch):
    made = action()
    reply = connected(made, code=127, output="python3: not found")
    monkeypatch.setattr(host_action.client, "send_request", reply)
    assert run(made)["vms"] == [] and made.sent[0][1]["code_bundle"]


def test_a_request_that_ended_is_not_repeated(monkeypatch):
    made = action()
    reply = connected(made, code=137, output="Killed", started=True)
    monkeypatch.setattr(host_action.client, "send_request", reply)
    result = run(made)
    assert result["failed"] and result["changed"] and made.sent == []
    assert "ended before it was done (exit code 137): Killed" in result["msg"]


def test_hosts_report_to_each_other(tmp_path):
    first, second = (start_barrier.StartBarrier(str(tmp_path), ["t"], name) for name in "ab")
    other = start_barrier.StartBarrier(str(tmp_path), ["another task"], "a")
    first.report({"r1": ""})
    first.report({"r2": "it failed there"})
    other.report({"r3": ""})
    assert second.wait(["r1", "r2"], 5) == {"r1": "", "r2": "it failed there"}
    assert second.wait(["r1", "r3"], 0) == {"r1": "", "r3": None}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """The cache of the controller, in a folder of the test."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(record_cache, "cache_folder", lambda: str(folder))
    return folder


class Host:
    """A hypervisor that keeps the record of a lab, and answers as qemu_lab does."""

    def __init__(self, record=lab_record.LabRecord()):
        self.record, self.requests = record, 0

    def run_share(self, params, share):
        self.requests += 1
        sent = json.loads(json.dumps(share.get("record")))
        given = lab_record.from_sent(sent) if sent else None
        if lab_record.is_unknown(self.record, sent, given):
            text = lab_record.to_text(self.record)
            return {"changed": False, "vms": [], "progress": [], "lab_record": text}
        if params["state"] == "absent":
            self.record = lab_record.LabRecord()
        else:
            self.record = lab_record.updated(self.record, given)
        return {"changed": True, "vms": [], "progress": []}

    def run(self, facts=False, **args):
        """Run qemu_lab on this host; return how many requests that took."""
        made = action(**args)
        made.run_share = self.run_share
        if facts:
            made.task_vars["hostvars"]["hv1"]["lab_info"] = {"hypervisor": self.facts()}
        before = self.requests
        result = run(made)
        assert not result.get("failed"), result
        return self.requests - before

    def facts(self, vms="ab"):
        text = lab_record.to_text(self.record) if self.record.revision else None
        return {
            "lab": "pair",
            "record": text,
            "root": "/labs",
            "vms": {name: {"status": "running"} for name in vms},
            "memory_available_mb": 10000,
            "cpus": 8,
            "disk_free_mb": 10000,
        }


POOLED = dict(PAIR, addressing={"loopback": "10.0.0.0/28"})
# It sorts first, and its hash would take the address of another node.
GROWN = dict(POOLED, nodes={"6": {}, **POOLED["nodes"]}, links=["6 -- a", "6 -- b", "a -- b"])


def loopbacks(host):
    return {name: node.get("loopback") for name, node in host.record.allocations["nodes"].items()}


def test_a_run_without_changes_needs_one_request(cache):
    host = Host()
    assert [host.run(topology=POOLED) for _run in range(3)] == [1, 1, 1]
    first = loopbacks(host)
    assert host.record.revision == 1 and not cache.exists()
    assert host.run(topology=GROWN) == 2, "the host sends its record"
    grown = loopbacks(host)
    assert {name: grown[name] for name in "ab"} == first
    assert [host.run(topology=GROWN) for _run in range(3)] == [1, 1, 1]
    assert [host.run(topology=GROWN, check_mode=True)] == [1]
    assert host.record.revision == 2 and loopbacks(host) == grown
    # Another controller has no cache.
    for path in cache.iterdir():
        path.unlink()
    assert [host.run(topology=GROWN, check_mode=True) for _run in range(2)] == [2, 1]


def test_a_cached_record_of_a_lab_that_was_made_anew_is_not_used(cache):
    host = Host()
    for topology in (POOLED, GROWN, GROWN):
        host.run(topology=topology)
    host.record = lab_record.LabRecord()
    assert host.run(topology=POOLED) == 2
    pure = Host()
    pure.run(topology=POOLED)
    assert host.record == pure.record
    assert host.run(topology=POOLED, state="absent") == 1 and list(cache.iterdir()) == []


def test_facts_spare_the_second_request(cache):
    host = Host()
    host.run(topology=POOLED, facts=True)
    first = loopbacks(host)
    assert host.run(topology=GROWN, facts=True) == 1
    assert {name: loopbacks(host)[name] for name in "ab"} == first and not cache.exists()


def test_the_newest_record_of_all_hosts_is_used(cache):
    old, new = Host(), Host()
    old.run(topology=POOLED)
    for topology in (POOLED, GROWN):
        new.run(topology=topology)
    made = action(hosts=("hv1", "hv2"), topology=GROWN)
    made.run_share = old.run_share
    for host, facts in (("hv1", old.facts("a")), ("hv2", new.facts("b"))):
        made.task_vars["hostvars"][host]["lab_info"] = {"hypervisor": facts}
    run(made)
    assert old.record.revision == 3 and loopbacks(old) == loopbacks(new)


def test_a_lab_that_other_runs_keep_changing_is_an_error(cache):
    made = action()
    numbers = iter(range(5, 100))
    made.run_share = lambda _params, _share: {
        "changed": False,
        "vms": [],
        "lab_record": lab_record.to_text(
            lab_record.LabRecord("pair", None, next(numbers), {"nodes": {"x": {}}})
        ),
    }
    result = run(made)
    assert result["failed"] and "other runs keep changing the lab pair" in result["msg"]


@pytest.fixture
def builds(monkeypatch, tmp_path):
    """Count the topologies that are built, in a run with a folder of its own."""
    built, build = [], lab.builder.build
    monkeypatch.setattr(lab.builder, "build", lambda *given: built.append(1) or build(*given))
    monkeypatch.setattr(lab_action.C, "DEFAULT_LOCAL_TMP", str(tmp_path), raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return built


def test_the_hosts_of_a_run_derive_the_lab_once(builds):
    hosts = ("hv1", "hv2", "hv3")
    results, shares = [], []
    for host in hosts:
        made = action(hosts=hosts, here=host, root="/srv/" + host, image_dir="/srv/images")
        results.append(run(made)["placement"])
        shares += [vm["name"] for vm in made.sent[0][1]["vms"]]
    assert len(builds) == 1
    assert results == [{"a": "hv1", "b": "hv2"}] * 3 and shares == ["a", "b"]


def test_the_first_host_of_a_run_makes_the_shares_that_need_no_host(builds, monkeypatch, tmp_path):
    made_for, share_for = [], share.host_shares.share_for
    monkeypatch.setattr(
        share.host_shares,
        "share_for",
        lambda *given: made_for.append(given[2]) or share_for(*given),
    )
    template = tmp_path / "x.j2"
    template.write_text("{{ node.name }} on {{ inventory_hostname }}", encoding="utf-8")
    nodes = {
        "a": {"hypervisor": "hv1"},
        "b": {"hypervisor": "hv2", "files": {"x": {"template": "x.j2"}}},
        "c": {"hypervisor": "hv3", "files": {"x": "text"}},
    }
    files = {}
    for here in ("hv1", "hv2", "hv3"):
        made = action(
            ("hv1", "hv2", "hv3"), here, topology=dict(PAIR, nodes=nodes), check_mode=True
        )
        made._find_needle = lambda kind, name: str(template)
        assert not run(made).get("failed")
        ((_given, sent),) = made.sent
        assert sent["limits"] is not None and sent["placed"]["a"] == "hv1" and sent["record"]
        for vm in sent["vms"]:
            files[vm["name"]] = vm["options"].get("config_drive", {}).get("files", {}).get("x")
    assert files == {"a": None, "b": "b on hv2", "c": "text"}
    assert made_for == ["hv1", "hv2", "hv3", "hv2"] and len(builds) == 1


def test_the_hosts_of_a_run_parse_the_topology_once(builds, monkeypatch, tmp_path):
    parsed, load_yaml = [], topology_source.load_yaml
    monkeypatch.setattr(
        topology_source, "load_yaml", lambda stream: parsed.append(1) or load_yaml(stream)
    )
    path = tmp_path / "lab.yml"
    for links, count in ((["a:eth1 -- b:eth1"], 1), ([], 2)):
        path.write_text(yaml.safe_dump(dict(PAIR, links=links)), encoding="utf-8")
        for host in ("hv1", "hv2"):
            made = action(hosts=("hv1", "hv2"), here=host, topology=str(path))
            assert not run(made).get("failed") and len(made.sent[0][1]["vms"]) == 1
        assert len(parsed) == len(builds) == count


@pytest.mark.parametrize(
    "first, second",
    [
        ({}, {"state": "stopped"}),
        ({}, {"nodes": ["a"]}),
        ({}, {"check_mode": True}),
        ({}, {"purge": True}),
        ({}, {"topology": dict(PAIR, links=[])}),
        ({}, {"lab_name": "other"}),
        ({}, {"image_dir": "/srv"}),
        ({}, {"hosts": ("hv2", "hv1")}),
        ({"hosts": ("hv1",)}, {"hosts": ("hv1",)}),  # nothing is shared
    ],
)
def test_another_task_derives_its_own_lab(first, second, builds):
    for given in (first, second):
        run(action(**{"hosts": ("hv1", "hv2"), **given}))
    assert len(builds) == 2


def test_facts_about_the_lab_that_have_changed_derive_it_again(builds):
    for available in (100000, 200000):
        made = action(hosts=("hv1", "hv2"))
        found = {"lab": "pair", "vms": {}, "memory_available_mb": available}
        made.task_vars["hostvars"]["hv1"]["lab_info"] = {"hypervisor": found}
        run(made)
    assert len(builds) == 2


def test_an_error_of_the_topology_is_found_once_and_reported_by_all(builds):
    messages = [
        run(action(hosts=("hv1", "hv2"), here=host, topology=dict(PAIR, links=["a -- c"])))["msg"]
        for host in ("hv1", "hv2")
    ]
    assert messages[0] == messages[1] and "there is no node c" in messages[0]
    assert len(builds) == 1


RECORD = lab_record.to_text(
    lab_record.LabRecord("pair", None, 4, {"macs": {}, "nodes": {"a": {"loopback": "10.9.9.9"}}})
)


def test_the_record_of_one_host_saves_the_others_a_second_request(builds):
    """Without it, each host would refuse a share that was derived without the record."""
    queries = []
    for here in ("hv1", "hv2"):
        topology = dict(PAIR, addressing={"loopback": "10.9.9.0/24"})
        made = action(hosts=("hv1", "hv2"), here=here, topology=topology, root="~/lab")
        made.send_request = lambda *given: queries.append(given[1:]) or {"record": RECORD}
        run(made)
        record = made.sent[0][1]["record"]
        assert record["based_on"] == 4 and record["digest"] is None
        nodes = lab_record.from_sent(record).allocations["nodes"]
        assert nodes["a"]["loopback"] == "10.9.9.9"
        # The next run queries it again: there may be many hosts, and labs are large.
        assert made._record_cache.text() is None
    assert queries == [("_lab.lab_service", "record", {"root": "~/lab", "lab": "pair"})]


INFO = {
    "lab": "pair",
    "vms": {},
    "record": None,
    "memory_available_mb": 9000,
    "cpus": 2,
    "disk_free_mb": 9000,
}


@pytest.mark.parametrize(
    "hosts, info, reply, based_on, count",
    [
        (("hv1",), None, {"record": RECORD}, 0, 0),
        (("hv1", "hv2"), None, None, 0, 1),
        (("hv1", "hv2"), None, {"record": None}, 0, 1),
        (("hv1", "hv2"), None, {"failed": True, "changed": True, "msg": "no"}, 0, 1),
        (("hv1", "hv2"), INFO, {"record": RECORD}, 0, 0),
    ],
)
def test_a_record_that_is_not_queried_or_not_there(builds, hosts, info, reply, based_on, count):
    made, queries = action(hosts=hosts), []
    made.send_request = lambda *given: queries.append(given) or reply
    if info:
        made.task_vars["hostvars"]["hv1"]["lab_info"] = {"hypervisor": info}
    run(made)
    assert made.sent[0][1]["record"]["based_on"] == based_on and len(queries) == count


def test_a_host_that_cannot_be_queried_is_reported_by_its_own_request(builds):
    made = action(hosts=("hv1", "hv2"))

    def unreachable(*_given):
        raise AnsibleConnectionFailure("no route to host")

    made.send_request = unreachable
    assert not run(made).get("failed") and len(made.sent) == 1


def test_the_record_of_a_lab_is_a_request(tmp_path):
    query = lab_service.HANDLERS["record"]
    (tmp_path / "pair").mkdir()
    place = {"root": str(tmp_path), "lab": "pair"}
    assert query(dict(place), b"") == ({"record": None}, [])
    lab_record.write(str(tmp_path / "pair"), lab_record.from_text(RECORD))
    assert query(dict(place), b"") == ({"record": RECORD}, [])
    assert query(dict(place, lab="../%s/pair" % tmp_path.name), b"") == ({"record": None}, [])
    (tmp_path / "pair" / LAB_RECORD).write_text("{", encoding="utf-8")
    assert query(dict(place), b"") == ({"record": None}, [])


MOVED = dict(PAIR, nodes={"a": {"hypervisor": "hv2"}, "b": {"hypervisor": "hv1"}})


def moving(here="hv1", topology=None, status="running", **args):
    """The action of a host in a run in which a moves from hv1 to hv2."""
    made = action(hosts=("hv1", "hv2"), here=here, topology=topology or MOVED, **args)
    made._task.connection, made._play_context.become = "ssh", False
    for host in ("hv1", "hv2"):
        facts = dict(Host().facts("ab" if host == "hv1" else ""), root="/labs/" + host)
        for vm in facts["vms"].values():
            vm["status"] = status
        made.task_vars["hostvars"][host]["lab_info"] = {"hypervisor": facts}
    return made


@pytest.fixture
def migrations(monkeypatch, builds):
    """Record the migrations, which are not made. fail: the message of an error."""
    recorded = types.SimpleNamespace(made=[], fail=None)

    class Migration:
        def __init__(self, origin, target, neighbours, options):
            recorded.made.append((origin.name, target.name, neighbours, options))

        def run(self):
            if recorded.fail:
                raise AnsibleConnectionFailure(recorded.fail)
            change = {"option": "hypervisor", "before": "hv1", "after": "hv2", "how": "live"}
            return {"changed": True, "changes": [change], "warnings": ["w"]}

    monkeypatch.setattr(lab_migrations, "Migration", Migration)
    return recorded


@pytest.mark.parametrize("here", ["hv1", "hv2"])
@pytest.mark.parametrize(
    "args, says",
    [
        ({}, "nodes.a.hypervisor: its VM is running on hv1, and the topology places it on hv2"),
        ({"check_mode": True}, "set allow_migration (lab_allow_migration of the role) to true"),
        ({"state": "stopped"}, "nodes.a.hypervisor: its VM is running on hv1"),
        # Its neighbour would lose the link.
        ({"nodes": ["b"]}, "nodes.a.hypervisor: its VM is running on hv1"),
        ({"nodes": ["b"], "state": "absent"}, "nodes.a.hypervisor: its VM is running on hv1"),
        ({"status": "stopped", "allow_migration": True}, "Only a running or a paused VM"),
    ],
)
def test_a_vm_on_another_hypervisor_than_its_node_is_an_error(migrations, here, args, says):
    made = moving(here, **args)
    result = run(made)
    assert result["failed"] and says in result["msg"]
    assert made.sent == [] and migrations.made == []


def test_a_node_without_a_hypervisor_stays_and_a_whole_lab_is_removed(migrations):
    made = moving(topology=PAIR)
    assert run(made)["placement"] == {"a": "hv1", "b": "hv1"}
    made = moving(state="absent")
    assert not run(made).get("failed") and len(made.sent) == 1
    assert migrations.made == []


def test_another_topology_migrates_nothing(migrations):
    made = moving(allow_migration=True, owner="me")
    facts = made.task_vars["hostvars"]["hv1"]["lab_info"]["hypervisor"]
    facts["record"] = lab_record.to_text(lab_record.LabRecord("pair", "owner you", 1, {}))
    result = run(made)
    assert result["failed"] and "would change a" in result["msg"] and migrations.made == []


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_node_is_migrated_once_and_before_the_shares(migrations, check_mode):
    results, shares = {}, {}
    for here in ("hv1", "hv2"):
        made = moving(here, allow_migration=True, check_mode=check_mode, allow_container=True)
        results[here] = run(made)
        shares[here] = {vm["name"]: vm["options"] for vm in made.sent[0][1]["vms"]}
    ((origin, target, neighbours, options),) = migrations.made
    assert (origin, target, options.root, options.to_root) == (
        *("hv1", "hv2"),
        *("/labs/hv1", "/labs/hv2"),
    )
    assert options.check_mode == check_mode and options.encrypt
    assert options.request["host"] == "192.0.2.2" and options.request["allow_container"]
    assert options.request["nics"][0]["link"]["remote_address"] == "192.0.2.1"
    ((hypervisor, vm, nic),) = neighbours
    assert (hypervisor.name, vm["vm"], vm["root"]) == ("hv1", "b", "/labs/hv1")
    assert nic["link"]["remote_address"] == "192.0.2.2"
    # The host that has the VM reports it, and in check mode plans what else changes.
    assert [change["option"] for change in results["hv1"]["changes"]] == ["a.hypervisor"]
    assert results["hv1"]["warnings"] == ["a: w"] and "changes" not in results["hv2"]
    where = "hv1" if check_mode else "hv2"
    assert [host for host in shares if "a" in shares[host]] == [where]
    assert all(("link" in nic) != check_mode for nic in shares[where]["a"]["nics"])


def test_after_a_migration_that_failed_no_host_changes(migrations):
    migrations.fail = "out of space"
    for here in ("hv1", "hv2"):
        made = moving(here, allow_migration=True)
        result = run(made)
        assert result["failed"] and not result["changed"] and made.sent == []
        assert "could not be migrated from hv1 to hv2: out of space" in result["msg"]
    assert len(migrations.made) == 1
