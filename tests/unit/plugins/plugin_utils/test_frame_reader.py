# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Frames from a hypervisor, which is this host, to a program: both are real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail, AnsibleError

from ansible_collections.vlab.qemu.plugins.plugin_utils._frame_reader import FrameReader, words_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import client
from ansible_collections.vlab.qemu.plugins.plugin_utils._stream import Stream, local_command
from ansible_collections.vlab.qemu.tests.unit.capturing_qemu import Qemu, running_vm

LOCAL = SimpleNamespace(transport="local", become=None)


@pytest.fixture
def vm(tmp_path, monkeypatch):
    """A folder of a VM on a hypervisor that has the code bundle, and its QEMU."""
    read = client._read_source
    folder = str(tmp_path / "cache/vlab").encode()
    monkeypatch.setattr(
        client, "_read_source", lambda name: read(name).replace(b"/var/cache/vlab", folder)
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    os.mkdir(tmp_path / "cache")
    request = client.request_for("_vm.guest_service", "vms", {})
    request = request._replace(pieces=(b"", client.code_bundle.pack()))
    command, data = client.process_of(sys.executable, request)
    subprocess.run(["/bin/sh", "-c", command], input=data, check=True, capture_output=True)
    found = running_vm(tmp_path)
    with Qemu(found.qmp) as qemu:
        yield SimpleNamespace(folder=found, qemu=qemu)


def capture(vm, reader, **more):
    """Return the result of a capture with this line of sh as its reader, and what it showed."""
    folder, shown = vm.folder, []
    options = {"lab": folder.lab, "vm": folder.name, "root": folder.root, "name": "e", **more}
    program = FrameReader(["/bin/sh", "-c", reader], shown.append)
    request = client.request_for("_vm.guest_service", "capture", options)
    result = program.run(Stream(LOCAL, sys.executable, request))
    assert not os.path.exists(folder.file("live_captures")) and not vm.qemu.filters
    return result, shown


@pytest.mark.parametrize(
    "reader, code, output",
    [
        ("head -c 4; echo; echo second >&2", 0, ["pcap", "second"]),
        ("printf 'a\\033[2J\\tb'", 0, ["a.[2J\tb"]),
        # It ends without reading, and there are no frames.
        ("echo first", 0, ["first"]),
        ("head -c 2 >/dev/null; exit 3", 3, []),
    ],
)
def test_the_capture_ends_with_its_reader(vm, reader, code, output):
    result, shown = capture(vm, reader)
    assert (result["rc"], result["stdout_lines"], shown) == (code, output, output)
    assert result.get("msg") == (
        "reader: /bin/sh ended with exit code 3: it printed nothing" if code else None
    )


def test_the_reader_ends_with_the_capture(vm):
    result, _shown = capture(vm, "cat; echo", duration=1)
    assert result["stdout"] == "pcap" and "failed" not in result


def test_an_error_of_the_hypervisor(vm):
    result, _shown = capture(vm, "cat", name="f")
    assert result["failed"] and result["msg"].startswith("name: the VM")


def test_a_connection_that_ends(vm):
    options = {"lab": vm.folder.lab, "vm": vm.folder.name, "root": vm.folder.root, "name": "e"}
    stream = Stream(
        LOCAL, sys.executable, client.request_for("_vm.guest_service", "capture", options)
    )

    def end(_line):
        shell = stream._process.pid
        with open("/proc/%d/task/%d/children" % (shell, shell), encoding="ascii") as children:
            os.kill(int((children.read().split() or [shell])[0]), signal.SIGTERM)

    reader = FrameReader(["/bin/sh", "-c", "head -c 4; echo; cat"], end)
    result = reader.run(stream)
    assert result["failed"]
    assert "the connection to the hypervisor ended: the connection from the" in result["msg"]
    assert not vm.qemu.filters


@pytest.mark.parametrize("reader", ["", " ", "'"])
def test_a_reader_that_is_no_command(reader):
    with pytest.raises(AnsibleActionFail, match="^reader: "):
        words_of(reader)


def test_a_reader_that_the_controller_lacks():
    with pytest.raises(AnsibleActionFail, match="reader: cannot run /no/such on the controller"):
        FrameReader(words_of("/no/such -k"), print)


class Become:
    """Asks for a password."""

    def build_become_command(self, command, shell):
        return "sudo " + command

    def expect_prompt(self):
        return True


@pytest.mark.parametrize(
    "connection, message",
    [
        ({"transport": "local", "become": Become(), "_shell": None}, "asks for a password"),
        ({"transport": "docker", "become": None}, "use ssh or local"),
    ],
)
def test_a_connection_without_streams(connection, message):
    with pytest.raises(AnsibleError, match=message):
        local_command(SimpleNamespace(**connection), "true")
