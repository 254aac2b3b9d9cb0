# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action of qemu_lab: options, the topology, a host's share, and joined results."""

from __future__ import annotations

import types

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.vlab.qemu.plugins.module_utils._remote import protocol
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab import (
    lab_action,
    share_runner,
    start_barrier,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.lab_action import LabAction

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
        action="qemu_lab",
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
    made.sent = []
    made.run_share = lambda given, share: (
        made.sent.append((given, share)) or {"changed": True, "vms": [], "progress": []}
    )
    return made


def run(made):
    return made.run(task_vars=made.task_vars)


@pytest.fixture(autouse=True)
def without_a_real_task(monkeypatch):
    """Replace what needs a real task: the base class and the progress file."""
    monkeypatch.setattr(share_runner.ActionBase, "run", lambda self, tmp=None, task_vars=None: {})
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


def test_the_option_lab_replaces_the_name():
    made = action(lab="twin")
    run(made)
    assert made.sent[0][1]["lab"] == "twin"
    other = action()
    run(other)
    macs = [
        [nic.get("mac") for nic in sent[0][1]["vms"][0]["options"]["nics"]]
        for sent in (made.sent, other.sent)
    ]
    assert made.sent[0][1]["vms"][0]["name"] == other.sent[0][1]["vms"][0]["name"] and len(
        macs[0]
    ) == len(macs[1])


@pytest.mark.parametrize(
    "args, says",
    [
        ({"topology": [1]}, "give a dictionary, or the path of a YAML file"),
        (
            {"topology": "/no/such.yml"},
            "topology: cannot read /no/such.yml: No such file or directory",
        ),
        ({"nodes": ["nobody"]}, "the topology has no node nobody; it has a, b"),
        ({"nodes": []}, "an empty list names no node"),
        ({"state": "up"}, "value of state must be one of"),
        ({"colour": "red"}, "Unsupported parameters for"),
        ({"share": {}}, "share is not for playbooks"),
        ({"lab": "a/b"}, "name"),
    ],
)
def test_errors_are_reported_before_anything_is_sent(args, says):
    made = action(**args)
    result = run(made)
    assert result["failed"] and says in result["msg"] and made.sent == []


def test_a_run_of_some_nodes_never_purges_and_removes_only_them():
    made = action(nodes=["a"], purge=True, state="absent")
    run(made)
    given, share = made.sent[0]
    assert given["purge"] is False and given["state"] == "present"
    assert {vm["name"]: vm["state"] for vm in share["vms"]} == {"a": "absent", "b": "keep"}


def test_a_missing_code_bundle_is_sent(monkeypatch):
    made = action()
    answers = iter([{"code_bundle_missing": True}, {"changed": True, "vms": []}])
    del made.run_share
    made._send_request = lambda given, share: None
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


def test_a_loopback_address_is_an_error():
    made = action(
        hosts=("hv1", "hv2"),
        topology=dict(PAIR, nodes={"a": {"hypervisor": "hv1"}, "b": {"hypervisor": "hv2"}}),
    )
    made.task_vars["hostvars"]["hv2"] = {"ansible_host": "127.0.0.1"}
    result = run(made)
    assert result["failed"] and "set vlab_address" in result["msg"]


def test_results_are_joined():
    one = {
        "changed": True,
        "changes": [1],
        "warnings": ["w"],
        "actions": {"a": ["start"]},
        "diff": {"before": "x\n", "after": "y\n"},
    }
    two = {
        "changed": False,
        "changes": [2],
        "actions": {"a": ["resume"], "b": ["start"]},
        "diff": {"before": "z\n", "after": ""},
        "vms": [3],
    }
    joined = lab_action.joined_results(one, two)
    assert joined == {
        "changed": True,
        "changes": [1, 2],
        "warnings": ["w"],
        "actions": {"a": ["start", "resume"], "b": ["start"]},
        "diff": {"before": "x\nz\n", "after": "y\n"},
        "vms": [3],
    }
    assert lab_action.joined_results({}, two) is two


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
    del made.run_share
    made._run_module = lambda params, share: made.sent.append((params, share)) or {"vms": []}
    nothing = {"message": None, "started": False, "incomplete": False, "code": 0, "output": ""}
    return lambda *_arguments: share_runner.client.Reply(**dict(nothing, **reply))


def test_a_request_replaces_the_module(monkeypatch):
    made = action()
    message = protocol.Message("", protocol.RESULT, {"result": {"changed": False, "vms": [1]}})
    reply = connected(made, message=message, started=True)
    monkeypatch.setattr(share_runner.client, "send_request", reply)
    assert run(made)["vms"] == [1] and made.sent == []


def test_the_module_runs_where_a_request_is_not_possible(monkeypatch):
    made = action()
    reply = connected(made, code=127, output="python3: not found")
    monkeypatch.setattr(share_runner.client, "send_request", reply)
    assert run(made)["vms"] == [] and made.sent[0][1]["code_bundle"]


def test_a_request_that_ended_is_not_repeated(monkeypatch):
    made = action()
    reply = connected(made, code=137, output="Killed", started=True)
    monkeypatch.setattr(share_runner.client, "send_request", reply)
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
