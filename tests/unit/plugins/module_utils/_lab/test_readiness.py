# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time
import types

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import process_start_time
from ansible_collections.vlab.qemu.plugins.module_utils._lab import readiness
from ansible_collections.vlab.qemu.plugins.module_utils._lab.readiness import Readiness, check_ready
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network.links import forward_key

READY = {"console": "vlab: ready", "failed": "vlab: not ready: .*", "timeout": 2}


def wait(tmp_path, log, ready=None):
    """Wait for a guest, which is this process, whose console has shown log."""
    (tmp_path / "console.log").write_text(log, encoding="utf-8")
    folder = types.SimpleNamespace(name="r1", file=lambda name: str(tmp_path / name))
    Readiness(folder, {"consoles": [{"name": "console"}]}, ready or READY, None).wait(
        os.getpid(), process_start_time(os.getpid())
    )


def test_a_guest_that_says_so_is_ready(tmp_path):
    wait(tmp_path, "booting\nvlab: ready\n")


@pytest.mark.parametrize(
    "log",
    [
        "booting\nvlab: bgpd failed with 1\nvlab: not ready: bgpd failed with 1;\n",
        # Also where both are there: a guest that failed has not become ready by a second line.
        "vlab: not ready: zebra has ended;\nvlab: ready\n",
    ],
)
def test_a_guest_that_says_it_failed_is_not_waited_for(tmp_path, log):
    started = time.monotonic()
    with pytest.raises(
        GuestError,
        match=r"r1 is not ready \(console\): the guest reported "
        r"vlab: not ready: (bgpd failed with 1|zebra has ended)",
    ) as caught:
        wait(tmp_path, log)
    assert time.monotonic() - started < 1
    assert "not ready" in caught.value.facts["console"]


def test_a_guest_that_says_nothing_is_waited_for_until_the_timeout(tmp_path):
    with pytest.raises(GuestError, match="its console has not shown 'vlab: ready' within 1 s"):
        wait(tmp_path, "booting\n", dict(READY, timeout=1))


@pytest.mark.parametrize("key", ["console", "failed"])
def test_a_pattern_that_is_none_is_an_error(key):
    with pytest.raises(OptionError, match=r"nodes.r1.ready.%s.*not a regular expression" % key):
        check_ready("nodes.r1", {key: "("})


FORWARD = {
    "protocol": "tcp",
    "host_address": "0.0.0.0",
    "host_port": "auto",
    "guest_address": None,
    "guest_port": 22,
}
DEFINITION = {
    "consoles": [{"name": "console"}],
    "nics": [
        {"name": "eth0", "link": {"type": "none"}},
        {"name": "eth1", "link": {"type": "user", "forwards": [FORWARD]}},
    ],
    "ports": {forward_key("eth1", FORWARD): 20022},
}


@pytest.mark.parametrize("port, expected", [(22, ("127.0.0.1", 20022)), (80, None)])
def test_the_port_of_the_host_that_leads_to_a_port_of_the_guest(port, expected):
    readiness = Readiness(types.SimpleNamespace(name="r1"), DEFINITION, {}, None)
    assert readiness._forward_to(port) == expected


@pytest.mark.parametrize(
    "states, accepted",
    [
        ([("HOST_FORWARD", 20022)], False),
        ([("HOST_FORWARD", 20022), ("ESTABLISHED", 20022)], True),
        ([("HOST_FORWARD", 20022), ("SYN_SENT", 20022)], False),
        ([("HOST_FORWARD", 20022), ("ESTABLISHED", 20023)], False),
        # A QEMU that does not list its forwards.
        ([], True),
    ],
)
def test_a_connection_counts_when_the_guest_has_accepted_it(states, accepted):
    text = "".join("  TCP[%s] 12 127.0.0.1 %d 10.0.2.15 22 0 0\n" % state for state in states)
    monitor = types.SimpleNamespace(execute=lambda command, arguments: text)
    readiness = Readiness(types.SimpleNamespace(name="r1"), DEFINITION, {}, monitor)
    assert readiness._has_guest_accepted(20022) == accepted


@pytest.mark.parametrize(
    "definition, ready, message",
    [
        ({"guest_agent": False}, {"agent": True}, "give it guest_agent: true"),
        ({}, {"command": "true"}, "give it guest_agent: true"),
        ({"consoles": []}, {"console": "ready"}, "has no console with a log"),
        (
            {"consoles": [{"name": "a", "log": False}]},
            {"console": "x"},
            "has no console with a log",
        ),
    ],
)
def test_what_cannot_be_waited_for_is_reported_at_once(tmp_path, definition, ready, message):
    folder = types.SimpleNamespace(name="r1", file=lambda name: str(tmp_path / name))
    definition = {"consoles": [{"name": "console"}], **definition}
    began = time.monotonic()
    with pytest.raises(GuestError, match=message):
        Readiness(folder, definition, {**ready, "timeout": 30}, None).wait(
            os.getpid(), process_start_time(os.getpid())
        )
    assert time.monotonic() - began < 2


def test_a_long_log_is_read_once_in_pieces(tmp_path, monkeypatch):
    """A pattern across two pieces is found."""
    monkeypatch.setattr(readiness, "_LOG_PIECE", 1000)
    monkeypatch.setattr(readiness, "_LOG_OVERLAP", 50)
    wait(tmp_path, "x" * 100_995 + "\nvlab: ready\n" + "y" * 5000)
    folder = types.SimpleNamespace(name="r1", file=lambda name: str(tmp_path / name))
    made = Readiness(folder, {"consoles": [{"name": "console"}]}, READY, None, log_from=101_500)
    assert not made._console(time.monotonic() + 5)
    with open(tmp_path / "console.log", "a", encoding="ascii") as stream:
        stream.write("vlab: rea")
        stream.flush()
        assert not made._console(time.monotonic() + 5)
        stream.write("dy")
        stream.flush()
    assert made._console(time.monotonic() + 5)
