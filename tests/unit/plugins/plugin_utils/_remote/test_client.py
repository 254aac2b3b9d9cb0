# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests to a hypervisor, which is this host: the process that handles them is a real one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure, AnsibleError

from ansible_collections.vlab.qemu.plugins.module_utils._remote import protocol
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import client
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.hypervisor import Hypervisor


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache folder of the hypervisor, also where the tests run as root."""
    read = client._read_source
    folder = str(tmp_path / "cache/vlab")
    monkeypatch.setenv("XDG_CACHE_HOME", os.path.dirname(folder))
    monkeypatch.setattr(
        client, "_read_source", lambda name: read(name).replace(b"/var/cache/vlab", folder.encode())
    )
    os.mkdir(os.path.dirname(folder))
    return tmp_path / "cache/vlab"


class Host:
    """Run commands. greeting: output of the login shell before. sent: the sizes of the inputs."""

    def __init__(self, greeting=""):
        self.greeting, self.sent, self.cut = greeting, [], None

    def run(self, command, data):
        self.sent.append(len(data))
        command = self.greeting + command
        done = subprocess.run(
            ["/bin/sh", "-c", command], input=data, capture_output=True, check=False
        )
        return done.returncode, done.stdout[: self.cut], done.stderr


def list_vms(host, root, service="_vm.guest_service", name="vms"):
    return client.send_request(host.run, sys.executable, service, name, {"root": str(root)})


NO_VMS = {"result": {"vms": [], "node_facts": {}, "warnings": []}}


@pytest.mark.parametrize("greeting", ["", "echo Welcome; ", "printf 'no newline '; "])
def test_the_code_bundle_is_sent_once(cache, tmp_path, greeting):
    host = Host(greeting)
    reply = list_vms(host, tmp_path)
    assert reply.message.type == protocol.RESULT and reply.started
    assert reply.message.content == NO_VMS
    assert list_vms(host, tmp_path).message.content == NO_VMS
    without, with_archive, again = host.sent
    assert without == again < 20000 < with_archive
    assert len(os.listdir(cache)) == 1


def test_code_that_others_can_write_is_not_loaded(cache, tmp_path):
    list_vms(Host(), tmp_path)
    cache.chmod(0o777)
    host = Host()
    reply = list_vms(host, tmp_path)
    assert reply.message is None and not reply.started and reply.code == 1
    assert "%s can be written to by other users" % cache in reply.output
    assert len(host.sent) == 1


def test_an_exception_of_a_handler_comes_after_its_start(cache, tmp_path):
    reply = list_vms(Host(), tmp_path, "_lab.lab_service", "converge")
    assert reply.message is None and reply.started and not reply.incomplete
    assert "KeyError: 'params'" in reply.output


def test_a_request_loads_nothing_beside_the_standard_library(cache, tmp_path):
    """A host can have packages that Python loads, with what they import, each time it starts."""
    python = "%s -X importtime" % sys.executable
    reply = client.send_request(Host().run, python, "_vm.guest_service", "vms", {"root": "/no"})
    imported = [line.rpartition("|")[2].strip() for line in reply.output.splitlines()]
    assert "json" in imported and "site" not in imported


def test_a_host_without_python(cache, tmp_path):
    reply = client.send_request(Host().run, "/no/python3", "_vm.guest_service", "vms", {})
    assert reply.message is None and not reply.started and "/no/python3" in reply.output


FOUND = {"ansible_facts": {"discovered_interpreter_python": "/usr/bin/python3.9"}}


@pytest.mark.parametrize(
    "variables, command",
    [
        ({}, "python3"),
        ({"ansible_python_interpreter": "/opt/bin/python3 -X dev"}, "/opt/bin/python3 -X dev"),
        (dict(FOUND), "/usr/bin/python3.9"),
        (dict(FOUND, ansible_python_interpreter="auto_silent"), "/usr/bin/python3.9"),
    ],
)
def test_interpreter(variables, command):
    assert client.interpreter_of(variables) == command


@pytest.fixture
def hypervisor(cache, monkeypatch):
    """A hypervisor whose commands a Host runs: its attribute host."""
    made = Hypervisor("hv1", {"ansible_python_interpreter": sys.executable})
    made.host = Host()
    monkeypatch.setattr(made, "_run", made.host.run)
    return made


def test_a_request_returns_its_result_and_data(hypervisor, tmp_path):
    assert hypervisor.request("vms", root=str(tmp_path)) == (NO_VMS["result"], [])


def test_an_error_names_the_hypervisor(hypervisor, tmp_path):
    with pytest.raises(AnsibleError, match=r"no VM r1 under .*\(hypervisor hv1\)") as caught:
        hypervisor.request(
            "exec", root=str(tmp_path), lab="lab", vm="r1", channel="agent", command="true"
        )
    assert not isinstance(caught.value, AnsibleConnectionFailure)


@pytest.mark.parametrize(
    "kind, error",
    [
        ("not_ready", AnsibleConnectionFailure),
        ("gone", AnsibleConnectionFailure),
        ("login", AnsibleAuthenticationFailure),
    ],
)
def test_errors_of_a_guest(hypervisor, monkeypatch, kind, error):
    def reply(*_arguments):
        content = {"kind": kind, "message": "it is booting"}
        return client.Reply(protocol.Message("", protocol.ERROR, content), True, False, 0, "")

    monkeypatch.setattr(sys.modules[Hypervisor.__module__], "send_request", reply)
    with pytest.raises(error, match="it is booting"):
        hypervisor.request("exec")


def test_a_connection_that_ends_within_a_reply(hypervisor, tmp_path):
    hypervisor.request("vms", root=str(tmp_path))
    hypervisor.host.cut = -1
    with pytest.raises(AnsibleConnectionFailure, match="hv1 ended within a reply"):
        hypervisor.request("vms", root=str(tmp_path))


def test_a_process_that_replies_nothing(hypervisor, tmp_path):
    hypervisor.host.greeting = "exit 3; "
    with pytest.raises(AnsibleError, match="exit code 3: it printed nothing"):
        hypervisor.request("vms", root=str(tmp_path))


@pytest.mark.parametrize(
    "code, output, error",
    [
        (255, "client_loop: send disconnect: Broken pipe", AnsibleConnectionFailure),
        (-9, "", AnsibleConnectionFailure),
        (137, "Killed", AnsibleConnectionFailure),
        (0, "", AnsibleConnectionFailure),
        (1, "Traceback", AnsibleError),
    ],
)
def test_a_request_that_is_cut_off_in_the_middle(hypervisor, monkeypatch, code, output, error):
    """The host becomes unreachable; a fault of the handler is another thing."""

    def reply(*_arguments):
        return client.Reply(None, True, False, code, output)

    monkeypatch.setattr(sys.modules[Hypervisor.__module__], "send_request", reply)
    with pytest.raises(AnsibleError) as caught:
        hypervisor.request("exec")
    assert caught.type is error
