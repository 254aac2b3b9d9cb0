# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What qemu_lab does on the controller: arguments, the topology, this host's share, and results of several runs as one."""

from __future__ import annotations

import types

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.vlab.qemu.plugins.plugin_utils import _lab_action
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab_action import LabAction

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
    made._converge = lambda given, share: (
        made.sent.append((given, share)) or {"changed": True, "vms": [], "progress": []}
    )
    return made


def run(made):
    return made.run(task_vars=made.task_vars)


@pytest.fixture(autouse=True)
def of_the_base_class(monkeypatch):
    """What the base class and the progress file need of a real task."""
    monkeypatch.setattr(_lab_action.ActionBase, "run", lambda self, tmp=None, task_vars=None: {})
    monkeypatch.setattr(_lab_action.context, "CLIARGS", {"forks": 5})

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

    monkeypatch.setattr(_lab_action, "Progress", NoProgress)


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


def test_lab_takes_the_place_of_the_name():
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
def test_what_is_wrong_is_told_before_anything_is_sent(args, says):
    made = action(**args)
    result = run(made)
    assert result["failed"] and says in result["msg"] and made.sent == []


def test_a_part_of_the_lab_never_purges_and_absent_is_for_its_nodes_alone():
    made = action(nodes=["a"], purge=True, state="absent")
    run(made)
    given, share = made.sent[0]
    assert given["purge"] is False and given["state"] == "present"
    assert {vm["name"]: vm["state"] for vm in share["vms"]} == {"a": "absent", "b": "keep"}


def test_code_that_the_hypervisor_does_not_have_is_sent(monkeypatch):
    made = action()
    answers = iter([{"code_bundle_missing": True}, {"changed": True, "vms": []}])
    del made._converge
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
            "2 hypervisors have to work at the same time, but forks or throttle allow 1",
        ),
    ],
)
def test_hosts_that_wait_for_each_other_must_be_at_work_together(monkeypatch, batch, forks, says):
    monkeypatch.setattr(_lab_action.context, "CLIARGS", {"forks": forks})
    made = action(hosts=("hv1", "hv2"), here="hv2", topology=AFTER)
    made.task_vars["ansible_play_batch"] = batch
    result = run(made)
    assert result["failed"] and says in result["msg"] and made.sent == []


def test_an_address_that_others_cannot_reach_is_an_error():
    made = action(
        hosts=("hv1", "hv2"),
        topology=dict(PAIR, nodes={"a": {"hypervisor": "hv1"}, "b": {"hypervisor": "hv2"}}),
    )
    made.task_vars["hostvars"]["hv2"] = {"ansible_host": "127.0.0.1"}
    result = run(made)
    assert result["failed"] and "set vlab_address" in result["msg"]


def test_results_of_two_runs_are_one():
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
    joined = _lab_action._joined(one, two)
    assert joined == {
        "changed": True,
        "changes": [1, 2],
        "warnings": ["w"],
        "actions": {"a": ["start", "resume"], "b": ["start"]},
        "diff": {"before": "x\nz\n", "after": "y\n"},
        "vms": [3],
    }
    assert _lab_action._joined({}, two) is two


def test_no_action_fails_by_an_exception_of_its_own():
    """Raised on, it would pass by failed_when and until."""
    made = action()

    def fail(_given, _share):
        raise AnsibleActionFail("no way")

    made._converge = fail
    assert run(made) == {"failed": True, "changed": False, "msg": "no way"}
