# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action of modules: when it sends a request, and the same result."""

from __future__ import annotations

import datetime
import json
import types
from importlib import import_module

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common.parameters import PASS_VARS
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.vlab.qemu.plugins.module_utils._common import option_paths
from ansible_collections.vlab.qemu.plugins.module_utils._remote.code_bundle import PACKAGE
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import client, host_action
from ansible_collections.vlab.qemu.plugins.plugin_utils._vm import module_action

COLLECTION = "ansible_collections.vlab.qemu.plugins."


def action(module, args, check_mode=False, async_val=0, delegate_to=None, **connection):
    """The action plugin of a module, for a task with these arguments."""
    task = types.SimpleNamespace(
        args=args,
        action="vlab.qemu." + module,
        check_mode=check_mode,
        async_val=async_val,
        delegate_to=delegate_to,
        environment=None,
        get_search_path=list,
    )
    loader = DataLoader()
    shell = types.SimpleNamespace(SHELL_FAMILY="sh")
    made = import_module(COLLECTION + "action." + module).ActionModule(
        task,
        types.SimpleNamespace(**{"has_pipelining": True, "become": None, "_shell": shell}),
        types.SimpleNamespace(check_mode=check_mode),
        loader,
        Templar(loader=loader, variables={}),
        None,
    )
    vars(made._connection).update(connection)
    return made


@pytest.fixture
def requests(monkeypatch):
    """Handle requests in this process; return their (service, parameters)."""
    sent = []

    def send_request(_run, interpreter, service, name, parameters, data=b""):
        sent.append((interpreter, service, json.loads(json.dumps(parameters))))
        handler = import_module("%s.%s" % (PACKAGE, service)).HANDLERS[name]
        result, _pieces = handler(sent[-1][2], data)
        message = types.SimpleNamespace(content=json.loads(json.dumps({"result": result})))
        return client.Reply(message, True, False, 0, "")

    monkeypatch.setattr(client, "send_request", send_request)
    return sent


@pytest.fixture
def modules(monkeypatch):
    """Let the base class run modules; return those that it was called for."""
    called = []

    def run(self, tmp=None, task_vars=None):
        called.append(self._task.args)
        return {"by": "module"}

    monkeypatch.setattr(module_action.NormalAction, "run", run)
    return called


def by_module(module, args, check_mode, monkeypatch, capsys):
    """Run a module as Ansible does; return its result."""
    internal = {"_ansible_check_mode": check_mode, "_ansible_remote_tmp": "/tmp"}
    if "inject_invocation" in PASS_VARS:  # since ansible-core 2.21
        internal["_ansible_inject_invocation"] = True
    text = json.dumps({"ANSIBLE_MODULE_ARGS": {**args, **internal}})
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", text.encode())
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy")
    monkeypatch.setattr(basic.AnsibleModule, "log", lambda *_args, **_named: None)
    with pytest.raises(SystemExit):
        import_module(COLLECTION + "modules." + module).main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    result.pop("exception", None)
    return result


TASKS = [
    ("qemu_vm", {"name": "no", "state": "absent"}),
    ("qemu_vm", {"name": "no", "state": "stopped"}),
    ("qemu_vm", {"name": "a/b", "state": "stopped"}),
    ("qemu_vm", {"name": 7, "state": "absent", "memory": "lots"}),
    ("qemu_vm", {"name": "no", "state": "absent", "cloud_init": {"user_data": "secret"}}),
    ("qemu_vm", {"name": "no", "state": "absent", "disks": [{"name": "a", "path": "~/x"}]}),
    ("qemu_vm", {"name": "no", "state": "reset", "kernel": "$VLAB_TEST/kernel"}),
    ("qemu_nic", {"vm": "no", "name": "eth0", "state": "absent"}),
    ("qemu_nic", {"vm": "no", "interface": "eth0", "link": {"type": "user"}}),
    ("qemu_nic", {"vm": "no", "name": "eth0", "link": {"type": "unix", "path": "~/s"}}),
    ("qemu_disk", {"vm": "no", "name": "a", "state": "absent", "keep_image": "yes"}),
    ("qemu_disk", {"vm": "no", "name": "a", "size": "1G"}),
    ("qemu_disk", {"vm": "no", "name": "a", "source": "~/x"}),
    ("qemu_disk", {"path": "$VLAB_TEST/no.qcow2", "state": "absent"}),
    ("qemu_disk", {"path": "~/no/such/folder/x.qcow2", "check": True, "backup": "/x"}),
    ("qemu_vm_info", {"lab": "no"}),
    ("qemu_snapshot_info", {"vm": "no", "name": "s"}),
    ("qemu_snapshot", {"lab": "no", "name": "s", "state": "reverted"}),
    ("qemu_snapshot", {"lab": "no", "state": "present"}),
    ("qemu_guest_exec", {"vm": "no", "argv": []}),
    ("qemu_guest_exec", {"vm": "no", "cmd": "true"}),
    ("qemu_guest_exec", {"cmds": {"a": "true", "b": "true"}}),
    ("qemu_guest_exec", {"cmds": {"a": ["true"]}}),
]


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("module, args", TASKS)
def test_a_request_has_the_result_of_the_module(
    module, args, check_mode, requests, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VLAB_TEST", str(tmp_path))
    args = dict(args, root="~/root")
    expected = by_module(module, args, check_mode, monkeypatch, capsys)
    result = action(module, args, check_mode).run(task_vars={"ansible_inject_invocation": True})
    assert len(requests) == 1
    assert result == expected
    assert expected["invocation"]["module_args"]["root"] == str(tmp_path / "root")


@pytest.mark.skipif("inject_invocation" not in PASS_VARS, reason="before ansible-core 2.21")
@pytest.mark.parametrize("is_injected", [False, True])
def test_a_result_has_the_options_only_if_ansible_injects_them(is_injected, requests, tmp_path):
    made = action("qemu_vm", {"name": "a", "state": "absent", "root": str(tmp_path)})
    result = made.run(task_vars={"ansible_inject_invocation": is_injected})
    assert ("invocation" in result) == is_injected


@pytest.mark.parametrize(
    "module, args, more",
    [
        ("qemu_vm", {"name": "a", "memori": 1}, {}),  # the module names the wrong option
        ("qemu_nic", {"name": "a"}, {}),
        ("qemu_disk", {"vm": "a"}, {}),
        ("qemu_vm", {"name": "a", "state": "on"}, {}),
        ("qemu_guest_exec", {"vm": "a", "cmds": {"a": "true"}}, {}),
        ("qemu_guest_exec", {"cmd": "true"}, {}),
        ("qemu_nic", {"vm": "a", "name": "b", "interface": "b"}, {}),  # it warns
        # It masks the password.
        ("qemu_vm", {"name": "a", "display": {"type": "vnc", "password": "p"}}, {}),
        ("qemu_vm", {"name": "a", "description": datetime.date(2026, 1, 1)}, {}),
        ("qemu_vm", {"name": "a"}, {"async_val": 60}),
        ("qemu_vm", {"name": "a"}, {"has_pipelining": False}),
        ("qemu_vm", {"name": "a"}, {"become": types.SimpleNamespace(pipelining=False)}),
        (
            "qemu_vm",
            {"name": "a"},
            {"_shell": types.SimpleNamespace(SHELL_FAMILY="powershell")},
        ),
    ],
)
def test_the_module_is_run_where_a_request_is_not_enough(module, args, more, requests, modules):
    assert action(module, args, **more).run(task_vars={}) == {"by": "module"}
    assert modules == [args] and not requests


@pytest.mark.parametrize(
    "started, result", [(False, {"by": "module"}), (True, {"failed": True, "changed": True})]
)
def test_the_module_is_run_if_the_request_did_not_start(started, result, modules, monkeypatch):
    reply = client.Reply(None, started, False, 137, "Killed")
    monkeypatch.setattr(client, "send_request", lambda *_args: reply)
    found = action("qemu_nic", {"vm": "a", "name": "b"}).run(task_vars={})
    if started:
        result["msg"] = "qemu_nic ended before it was done (exit code 137): Killed"
    assert found == result
    assert bool(modules) is not started


def test_files_of_the_controller(requests, tmp_path):
    args = {"name": "no", "state": "absent", "cloud_init": {"user_data": {"src": "x"}}}
    made = action("qemu_vm", args)
    (tmp_path / "x").write_text("hello", encoding="utf-8")
    made._find_needle = lambda folder, name: str(tmp_path / name)
    assert not made.run(task_vars={}).get("failed")
    ((_interpreter, _service, parameters),) = requests
    assert parameters["params"]["cloud_init"]["user_data"] == {"base64": "aGVsbG8="}
    args["cloud_init"] = {"user_data": {"src": "y"}}
    result = action("qemu_vm", args).run(task_vars={})
    assert result["failed"] and "cloud_init.user_data: cannot read 'y'" in result["msg"]


@pytest.mark.parametrize(
    "delegate_to, interpreter", [(None, "/usr/bin/python3.9"), ("hv2", "/opt/python")]
)
def test_the_interpreter_is_that_of_the_host(delegate_to, interpreter, requests):
    task_vars = {
        "ansible_python_interpreter": "/usr/bin/python3.9",
        "ansible_delegated_vars": {"hv2": {"ansible_python_interpreter": "/opt/python"}},
    }
    args = {"name": "no", "state": "absent"}
    action("qemu_vm", args, delegate_to=delegate_to).run(task_vars=task_vars)
    assert requests[0][0] == interpreter


def test_paths_of_options(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    spec = {
        "path": {"type": "path"},
        "text": {"type": "str"},
        "paths": {"type": "list", "elements": "path"},
        "one": {"type": "dict", "options": {"path": {"type": "path"}}},
        "many": {"type": "list", "elements": "dict", "options": {"path": {"type": "path"}}},
    }
    assert "path" not in str([option_paths.unexpanded(spec)]).replace("'path': ", "").replace(
        "paths", ""
    )
    params = {
        "path": "~/a",
        "text": "~/b",
        "paths": ["$HOME/c", "/d"],
        "one": {"path": "~"},
        "many": [{"path": "~/e"}, {"path": None}],
    }
    option_paths.expand(params, spec)
    assert params == {
        "path": "/home/me/a",
        "text": "~/b",
        "paths": ["/home/me/c", "/d"],
        "one": {"path": "/home/me"},
        "many": [{"path": "/home/me/e"}, {"path": None}],
    }
    empty = dict.fromkeys(spec)
    option_paths.expand(empty, spec)
    assert empty == dict.fromkeys(spec)


def test_files_that_are_kept_on_the_host_need_a_module(requests, modules, monkeypatch):
    monkeypatch.setattr(host_action.C, "DEFAULT_KEEP_REMOTE_FILES", True, raising=False)
    assert action("qemu_vm", {"name": "a"}).run(task_vars={}) == {"by": "module"}
