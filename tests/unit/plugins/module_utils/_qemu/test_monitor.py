# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
import threading
import time

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    MonitorError,
    MonitorClosed,
    MonitorTimeout,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.tests.unit.fake_qmp import FakeQmp, Refusal


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "qmp.sock")


def test_version_and_process_from_the_greeting(path):
    with FakeQmp(path, version=(10, 0, 2)), Monitor(path) as monitor:
        assert monitor.version == (10, 0, 2)
        assert monitor.peer_pid == os.getpid()


def test_an_event_may_come_before_the_greeting(path):
    with FakeQmp(path, early="RESUME"), Monitor(path) as monitor:
        assert monitor.version == (7, 2, 0)
        assert [event["event"] for event in monitor.events] == ["RESUME"]
        assert monitor.execute("query-status") == {}


def test_nobody_listens(path):
    with pytest.raises(MonitorClosed, match="no QEMU listens at .*qmp.sock"):
        Monitor(path).connect()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(path)
    dead.close()
    with pytest.raises(MonitorClosed, match="no QEMU listens"):
        Monitor(path).connect()


def test_busy_monitor_gives_up_at_the_deadline_and_sends_nothing(path):
    with FakeQmp(path, greeting=False) as server:
        began = time.monotonic()
        with pytest.raises(MonitorTimeout, match="another client holds the monitor"):
            Monitor(path, timeout=0.2).connect()
        assert 0.15 < time.monotonic() - began < 2
        assert server.requests == []


def test_full_backlog_waits_until_the_deadline(path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(0)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(path)
    began = time.monotonic()
    with pytest.raises(MonitorTimeout, match="another client holds the monitor"):
        Monitor(path, timeout=0.2).connect()
    assert 0.15 < time.monotonic() - began < 2
    waiting.close()
    server.close()


@pytest.mark.parametrize(
    "words",
    [b"QEMU 7.2.0 monitor - type 'help' for more information\r\n(qemu) ", b'{"hello": 1}\r\n'],
)
def test_something_else_listens(path, words):
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)
    clients = []

    def serve():
        clients.append(server.accept()[0])
        clients[0].sendall(words)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with pytest.raises(MonitorError, match="does not speak QMP"):
        Monitor(path, timeout=2).connect()
    thread.join()
    clients[0].close()
    server.close()


def test_path_longer_than_a_socket_address(tmp_path):
    folder = tmp_path / ("a" * 100) / ("b" * 100)
    folder.mkdir(parents=True)
    here = os.open(folder, os.O_PATH)
    with FakeQmp("/proc/self/fd/%d/qmp" % here), Monitor(str(folder / "qmp")) as monitor:
        assert monitor.execute("query-status") == {}
    os.close(here)


def test_execute(path):
    with (
        FakeQmp(
            path, {"query-name": {"name": "r1"}, "echo": lambda arguments: arguments}
        ) as server,
        Monitor(path) as monitor,
    ):
        assert monitor.execute("query-name") == {"name": "r1"}
        assert monitor.execute("echo", {"a": [1, "\u00e9\n"]}) == {"a": [1, "\u00e9\n"]}
        assert server.requests[0] == ("qmp_capabilities", None)
        assert server.requests.count(("qmp_capabilities", None)) == 1


def test_refusal(path):
    with (
        FakeQmp(path, {"device_add": Refusal("no such bus", "DeviceNotFound")}),
        Monitor(path) as monitor,
    ):
        with pytest.raises(MonitorError, match="^QEMU refused device_add: no such bus$") as caught:
            monitor.execute("device_add", {"driver": "x"})
    assert caught.value.facts == {"command": "device_add", "error_class": "DeviceNotFound"}
    assert not isinstance(caught.value, (MonitorClosed, MonitorTimeout))


def test_capabilities_refused(path):
    with FakeQmp(path, {"qmp_capabilities": Refusal("no")}), Monitor(path) as monitor:
        with pytest.raises(MonitorError, match="refused qmp_capabilities"):
            monitor.batch([("query-status", None)])


def test_batch_is_one_write_with_refusals_in_their_place(path):
    with (
        FakeQmp(
            path, {"a": 1, "b": Refusal("not b"), "c": lambda arguments: arguments["x"]}
        ) as server,
        Monitor(path) as monitor,
    ):
        first, second, third = monitor.batch([("a", None), ("b", {}), ("c", {"x": 3})])
        assert (first, third) == (1, 3)
        assert isinstance(second, MonitorError)
        assert second.message == "QEMU refused b: not b"
        assert server.reads == [4]


def test_large_batch_keeps_to_the_queue_of_qemu(path):
    with FakeQmp(path, {"n": lambda arguments: arguments["n"]}) as server, Monitor(path) as monitor:
        assert monitor.batch(("n", {"n": number}) for number in range(20)) == list(range(20))
        assert server.reads == [8, 7, 6]
        assert monitor.batch([]) == []


def test_events_before_replies_are_kept(path):
    def stop(arguments):
        server.event("STOP", seconds=4)
        server.event("RESET", {"guest": True})
        return {}

    with FakeQmp(path, {"stop": stop}) as server, Monitor(path) as monitor:
        assert monitor.execute("stop") == {}
        assert monitor.events[0] == {"event": "STOP", "data": {}, "time": 4.5}
        assert monitor.wait_event("RESET")["data"] == {"guest": True}
        assert [event["event"] for event in monitor.events] == ["STOP"]


def test_replies_are_matched_by_id(path):
    kept = []

    def late(arguments):
        kept.append(server.ids[-1])
        return {}

    def now(arguments):
        server.send({"return": "late", "id": kept[0]})
        return "now"

    with (
        FakeQmp(path, {"late": late, "now": now}, silent=["late"]) as server,
        Monitor(path) as monitor,
    ):
        with pytest.raises(MonitorTimeout, match="did not answer late") as caught:
            monitor.execute("late", timeout=0.1)
        assert caught.value.facts["command"] == "late"
        assert monitor.execute("now") == "now"

    def second(arguments):
        server.send({"return": 2, "id": server.ids[-1]})
        server.send({"return": 1, "id": server.ids[-2]})
        return {}

    with (
        FakeQmp(path, {"second": second}, silent=["first", "second"]) as server,
        Monitor(path) as monitor,
    ):
        assert monitor.batch([("first", None), ("second", None)]) == [1, 2]


def test_answers_to_the_client_before_are_not_ours(path):
    def ours(arguments):
        for number in (1, server.ids[-1] + 1, server.ids[0] - 1, "x"):
            server.send({"return": "theirs", "id": number})
        return "ours"

    with FakeQmp(path, {"ours": ours}) as server:
        first = []
        for _session in range(2):
            with Monitor(path) as monitor:
                assert monitor.execute("ours") == "ours"
            first.append(server.ids[-2])
        assert abs(first[0] - first[1]) > 1000, "no session has the numbers of another"


def test_request_that_cannot_be_read(path):
    def bad(arguments):
        server.send({"error": {"class": "GenericError", "desc": "JSON parse error"}})
        return {}

    with FakeQmp(path, {"bad": bad}, silent=["bad"]) as server, Monitor(path) as monitor:
        with pytest.raises(MonitorError, match="JSON parse error") as caught:
            monitor.execute("bad", timeout=2)
        assert caught.value.facts["command"] == "bad"


def test_wait_event_takes_the_first_that_matches(path):
    def unplug(arguments):
        server.event("DEVICE_DELETED", {"device": "a", "path": "/a"})
        server.event("DEVICE_UNPLUG_GUEST_ERROR", {"device": "b"})
        server.event("JOB", {"info": {"id": 1, "more": 2}})
        return {}

    names = ["DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR"]
    with FakeQmp(path, {"device_del": unplug}) as server, Monitor(path) as monitor:
        monitor.execute("device_del")
        assert monitor.wait_event(names, {"device": "b"})["event"] == "DEVICE_UNPLUG_GUEST_ERROR"
        assert monitor.wait_event(names)["data"]["path"] == "/a"
        assert monitor.wait_event("JOB", {"info": {"id": 1}})["data"]["info"]["more"] == 2
        threading.Timer(0.1, server.event, ("STOP",)).start()
        assert monitor.wait_event("STOP", timeout=5)["event"] == "STOP"
        with pytest.raises(MonitorTimeout, match='STOP with .* or RESUME with {"a": 1} within 0.1'):
            monitor.wait_event(["STOP", "RESUME"], {"a": 1}, timeout=0.1)


def test_wait_event_negotiates_first(path):
    with (
        FakeQmp(
            path, {"qmp_capabilities": lambda arguments: server.event("RESUME") or {}}
        ) as server,
        Monitor(path) as monitor,
    ):
        assert monitor.wait_event("RESUME", timeout=2)["event"] == "RESUME"


def test_end_of_qemu(path):
    with FakeQmp(path, silent=["crash"], last="crash"), Monitor(path) as monitor:
        with pytest.raises(MonitorClosed, match="has ended"):
            monitor.execute("crash")
    with FakeQmp(path) as server, Monitor(path) as monitor:
        assert monitor.execute("stop") == {}
        server.event("SHUTDOWN", {"guest": False})
        assert monitor.execute("quit") == {}
        with pytest.raises(MonitorClosed):
            monitor.wait_event("STOP")
        assert monitor.events[0]["event"] == "SHUTDOWN"
    with pytest.raises(MonitorClosed, match="not connected"):
        monitor.execute("stop")


def test_file_descriptors_are_passed(path):
    reader, writer = os.pipe()
    with FakeQmp(path) as server, Monitor(path) as monitor:
        monitor.execute("getfd", {"fdname": "x"}, fds=[writer])
        os.close(writer)
        os.write(server.fds[0], b"through")
        assert os.read(reader, 10) == b"through"
    os.close(reader)


def test_file_descriptors_are_passed_once_with_a_large_request(path):
    reader, writer = os.pipe()
    with FakeQmp(path) as server, Monitor(path) as monitor:
        monitor.execute("add-fd", {"opaque": "x" * 3000000}, fds=[reader])
        assert len(server.fds) == 1
    os.close(reader)
    os.close(writer)


def test_large_reply_and_pretty_monitor(path):
    large = ["x" * 1000] * 1000
    with (
        FakeQmp(path, {"large": large, "small": {"a": {"b": 1}}}) as server,
        Monitor(path) as monitor,
    ):
        assert monitor.execute("large") == large
        server.indent = 4
        assert monitor.execute("small") == {"a": {"b": 1}}


def test_large_request(path):
    with FakeQmp(path, {"echo": lambda arguments: len(arguments["x"])}), Monitor(path) as monitor:
        assert monitor.execute("echo", {"x": "y" * 3000000}) == 3000000


def test_human(path):
    with (
        FakeQmp(
            path,
            {"human-monitor-command": lambda arguments: "<%s>\r\n" % arguments["command-line"]},
        ),
        Monitor(path) as monitor,
    ):
        assert monitor.human("info name") == "<info name>\r\n"
