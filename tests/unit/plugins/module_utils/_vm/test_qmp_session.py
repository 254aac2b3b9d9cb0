# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import time

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    MonitorError,
    MonitorClosed,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import qmp_session
from ansible_collections.vlab.qemu.tests.unit.fake_qmp import FakeQmp, Refusal

PLAIN = {"timeout": 30.0, "fds": []}


@pytest.mark.parametrize(
    "given, expected",
    [
        ("query-status", dict(PLAIN, kind="execute", execute="query-status")),
        ("query_status", dict(PLAIN, kind="execute", execute="query-status")),
        ("device-add", dict(PLAIN, kind="execute", execute="device_add")),
        (
            {"execute": "stop", "timeout": 5},
            dict(PLAIN, kind="execute", execute="stop", timeout=5.0),
        ),
        (
            {"execute": "set_link", "arguments": {"name": "a,b\n", "up": False}},
            dict(
                PLAIN, kind="execute", execute="set_link", arguments={"name": "a,b\n", "up": False}
            ),
        ),
        ({"human": "info status", "timeout": None}, dict(PLAIN, kind="human", human="info status")),
        ({"event": "STOP"}, dict(PLAIN, kind="event", event=[("STOP", None)])),
        (
            {"event": "STOP", "timeout": 0},
            dict(PLAIN, kind="event", event=[("STOP", None)], timeout=0.0),
        ),
        (
            {"event": ["STOP", "RESUME"], "match": {"a": 1}},
            dict(PLAIN, kind="event", event=[("STOP", {"a": 1}), ("RESUME", {"a": 1})]),
        ),
        (
            {"event": [{"event": "STOP", "match": {"a": None}}, {"event": "RESUME"}, "RESET"]},
            dict(
                PLAIN,
                kind="event",
                event=[("STOP", {"a": None}), ("RESUME", None), ("RESET", None)],
            ),
        ),
        (
            {"execute": "getfd", "fds": [{"path": "/x"}, {"path": "/y", "mode": "rw"}]},
            dict(PLAIN, kind="execute", execute="getfd", fds=[("/x", "r"), ("/y", "rw")]),
        ),
    ],
)
def test_steps(given, expected):
    assert qmp_session.parse_steps([given]) == [expected]


@pytest.mark.parametrize(
    "given, option",
    [
        (None, ""),
        ("", ""),
        ({}, ""),
        ({"execute": "a", "human": "b"}, ""),
        (["a"], ""),
        ({"execute": "a", "match": {}}, ".match"),
        ({"human": "a", "fds": []}, ".fds"),
        ({"event": "A", "arguments": {}}, ".arguments"),
        ({"execute": "a", "arguments": [1]}, ".arguments"),
        ({"event": "A", "match": "x"}, ".match"),
        ({"event": [{"event": "A", "match": "x"}]}, ".event.match"),
        ({"event": [{"event": 5}]}, ".event"),
        ({"event": [{"event": "A", "timeout": 5}]}, ".event"),
        ({"event": ["A", 5]}, ".event"),
        ({"execute": "a", "timeout": 0}, ".timeout"),
        ({"human": "a", "timeout": 0}, ".timeout"),
        ({"event": "A", "timeout": True}, ".timeout"),
        ({"execute": "a", "timeout": "soon"}, ".timeout"),
        ({"execute": "a", "timeout": -1}, ".timeout"),
        ({"execute": 5}, ".execute"),
        ({"execute": "a", "fds": {"path": "x"}}, ".fds"),
        ({"execute": "a", "fds": [{"path": "x", "mode": "a"}]}, ".fds[0]"),
        ({"execute": "a", "fds": [{}]}, ".fds[0]"),
    ],
)
def test_what_is_refused(given, option):
    with pytest.raises(OptionError) as caught:
        qmp_session.parse_steps(["query-status", given])
    assert caught.value.facts["option"] == "commands[1]" + option


@pytest.mark.parametrize(
    "given, changes",
    [
        ("query-status", False),
        ("qom-get", False),
        ("qom_list", False),
        ("qom-set", True),
        ("stop", True),
        ({"human": "info block"}, False),
        ({"human": " info block"}, False),
        ({"human": "information"}, True),
        ({"human": "info"}, True),
        ({"human": "quit"}, True),
        ({"event": "STOP"}, False),
        ("queryx", True),
    ],
)
def test_what_changes_something(given, changes):
    assert qmp_session.may_change(qmp_session.parse_steps([given])[0]) is changes


def test_a_session(tmp_path):
    (tmp_path / "file").write_text("x")
    answers = {
        "query-status": {"status": "running"},
        "human-monitor-command": lambda arguments: "said " + arguments["command-line"],
    }
    with FakeQmp(tmp_path / "q", answers) as fake:
        replies, events = qmp_session.run_session(
            fake.path,
            qmp_session.parse_steps(
                [
                    "query-status",
                    {"human": "info x"},
                    {
                        "execute": "getfd",
                        "arguments": {"fdname": "a"},
                        "fds": [
                            {"path": str(tmp_path / "file")},
                            {"path": str(tmp_path / "new"), "mode": "w"},
                        ],
                    },
                ]
            ),
            False,
        )
        assert replies == [{"status": "running"}, "said info x", {}] and events == []
        assert (
            fake.commands() == ["query-status", "human-monitor-command", "getfd"]
            and len(fake.fds) == 2
        )
        assert os.stat(tmp_path / "new").st_mode & 0o777 == 0o600


def test_an_event_is_waited_for(tmp_path):
    with FakeQmp(tmp_path / "q") as fake:
        fake.answers["stop"] = lambda arguments: fake.event("STOP", {"a": 1}) or {}
        replies, events = qmp_session.run_session(
            fake.path,
            qmp_session.parse_steps(["stop", {"event": "STOP", "match": {"a": 1}}, "stop"]),
            False,
        )
        assert replies[1]["event"] == "STOP" and replies[1]["data"] == {"a": 1}
        assert len(events) <= 1, "what nobody waited for comes with the result"


def test_check_mode_passes_over_what_changes(tmp_path):
    answers = {"query-status": {"status": "running"}, "human-monitor-command": "text"}
    with FakeQmp(tmp_path / "q", answers) as fake:
        replies, _events = qmp_session.run_session(
            fake.path,
            qmp_session.parse_steps(
                ["stop", "query-status", {"human": "quit"}, {"human": "info x"}, {"event": "STOP"}]
            ),
            True,
        )
        assert replies == [
            {"skipped": True},
            {"status": "running"},
            {"skipped": True},
            "text",
            {"skipped": True},
        ]
        assert fake.commands() == ["query-status", "human-monitor-command"]


def test_a_refusal_names_the_entry(tmp_path):
    with FakeQmp(tmp_path / "q", {"stop": Refusal("no")}) as fake:
        with pytest.raises(MonitorError, match="QEMU refused stop: no") as caught:
            qmp_session.run_session(
                fake.path, qmp_session.parse_steps(["query-status", "stop", "cont"]), False
            )
        assert (caught.value.facts["entry"], caught.value.facts["replies"]) == (1, [{}])
        assert fake.commands() == ["query-status", "stop"], "nothing after it is tried"


def test_a_file_that_cannot_be_opened(tmp_path):
    with FakeQmp(tmp_path / "q") as fake:
        with pytest.raises(OptionError, match="^fds: cannot open .*none"):
            qmp_session.run_session(
                fake.path,
                qmp_session.parse_steps(
                    [{"execute": "getfd", "fds": [{"path": str(tmp_path / "none")}]}]
                ),
                False,
            )
        assert fake.commands() == []


def test_nobody_listens(tmp_path):
    with pytest.raises(MonitorClosed):
        qmp_session.run_session(
            str(tmp_path / "q"), qmp_session.parse_steps(["query-status"]), False
        )


def session(tmp_path, steps, answers=(), events=()):
    """Run steps on a QEMU that sends events with its reply to stop."""
    with FakeQmp(tmp_path / "q", dict(answers)) as fake:
        fake.answers["stop"] = lambda arguments: [fake.event(*event) for event in events] and {}
        return qmp_session.run_session(fake.path, qmp_session.parse_steps(steps), False)


@pytest.mark.parametrize(
    "match, data, matches",
    [
        ({"reason": None}, {}, True),
        ({"reason": None}, {"reason": None}, True),
        ({"reason": None}, {"reason": "host-qmp-quit"}, False),
        ({"reason": None, "guest": True}, {"guest": True}, True),
        ({"reason": None, "guest": True}, {"guest": False}, False),
        ({"info": {"tray": None}}, {"info": {"id": 1}}, True),
        ({"info": {"tray": None}}, {"info": {"tray": "x"}}, False),
        ({"info": {"tray": None}}, {}, False),
        (None, {"reason": "any"}, True),
        ({}, {"reason": "any"}, True),
    ],
)
def test_null_matches_null_and_nothing(tmp_path, match, data, matches):
    steps = ["stop", {"event": "SHUTDOWN", "match": match, "timeout": 0}]
    if matches:
        assert session(tmp_path, steps, events=[("SHUTDOWN", data)])[0][1]["data"] == data
    else:
        with pytest.raises(MonitorError, match="did not send SHUTDOWN .*until now") as caught:
            session(tmp_path, steps, events=[("SHUTDOWN", data)])
        assert [event["data"] for event in caught.value.facts["events"]] == [data]


def test_a_timeout_of_0_looks_once(tmp_path):
    """All events that came until now count, and nothing is waited for."""
    noise = [("NOISE", {"number": number}) for number in range(200)]
    steps = ["stop", {"event": "STOP", "timeout": 0}]
    replies, events = session(tmp_path, steps, events=[*noise, ("STOP", {})])
    assert replies[1]["event"] == "STOP" and len(events) == 200
    begin = time.monotonic()
    with pytest.raises(MonitorError, match="did not send RESET until now"):
        session(tmp_path, [{"event": "RESET", "timeout": 0}])
    assert time.monotonic() - begin < 2


def test_several_events_each_with_its_match(tmp_path):
    steps = [
        "stop",
        {
            "event": [
                {"event": "JOB_STATUS_CHANGE", "match": {"id": "a", "status": "concluded"}},
                {"event": "SHUTDOWN", "match": {"guest": True}},
                "RESET",
            ],
            "timeout": 0,
        },
    ]
    events = [
        ("JOB_STATUS_CHANGE", {"id": "a", "status": "running"}),
        ("SHUTDOWN", {"guest": False}),
        ("JOB_STATUS_CHANGE", {"id": "b", "status": "concluded"}),
    ]
    for last in (
        ("JOB_STATUS_CHANGE", {"id": "a", "status": "concluded"}),
        ("SHUTDOWN", {"guest": True}),
        ("RESET", {}),
    ):
        replies, left = session(tmp_path, steps, events=[*events, last])
        assert (replies[1]["event"], replies[1]["data"]) == last and len(left) == 3
    with pytest.raises(MonitorError, match="JOB_STATUS_CHANGE with {.*} or SHUTDOWN .* or RESET"):
        session(tmp_path, steps, events=events)


def test_events_come_with_a_failure(tmp_path):
    with pytest.raises(MonitorError) as caught:
        session(tmp_path, ["stop", "cont"], {"cont": Refusal("no")}, [("STOP", {"a": 1})])
    assert [event["event"] for event in caught.value.facts["events"]] == ["STOP"]


@pytest.mark.parametrize(
    "line, output, fails",
    [
        ("info status", "VM status: running\r\n", False),
        ("info nonsense", "unknown command: 'info nonsense'\r\n", True),
        ("info block", "invalid0: not found\r\n", False),
        ("nonsense", "unknown command: 'nonsense'\r\n", True),
        ("device_del x", "Error: Device 'x' not found\r\n", True),
        ("hostfwd_remove tcp::22", "host forwarding rule for tcp::22 not found\r\n", True),
        ("hostfwd_remove tcp::22", "user mode network stack not in use\r\n", True),
        ("hostfwd_add tcp:x", "invalid host forwarding rule 'tcp:x' (bad)\r\n", True),
        ("hostfwd_add tcp::22-:22", "could not set up host forwarding rule 'tcp::22-:22'\n", True),
        ("sendkey nokey", "unknown key: 'nokey'\r\n", True),
        ("x /10", 'Try "help x" for more information\r\n', True),
        ("cont", "", False),
        ("help cont", "cont|c  -- resume emulation\r\n", False),
    ],
)
def test_errors_of_the_human_monitor_are_failures(tmp_path, line, output, fails):
    answers = {"human-monitor-command": output}
    if not fails:
        assert session(tmp_path, [{"human": line}], answers)[0] == [output]
        return
    with pytest.raises(MonitorError, match="QEMU refused ") as caught:
        session(tmp_path, ["query-status", {"human": line}], answers)
    assert caught.value.facts["command"] == line and caught.value.facts["entry"] == 1
    assert output.strip() in caught.value.message


@pytest.mark.parametrize(
    "given, refused",
    [
        ({"execute": "migrate", "arguments": {"uri": "exec:cat"}}, True),
        ({"execute": "migrate_incoming", "arguments": {"uri": "exec:cat"}}, True),
        ({"human": "migrate exec:cat"}, True),
        (
            {
                "execute": "human_monitor_command",
                "arguments": {"command_line": "netdev_add bridge,id=x"},
            },
            True,
        ),
        ({"execute": "migrate", "arguments": {"uri": "tcp:h:1"}}, False),
        ({"event": "STOP"}, False),
        ("query-status", False),
    ],
)
def test_what_the_sandbox_of_the_vm_forbids_is_not_sent(tmp_path, given, refused):
    record = tmp_path / "run.json"
    steps = qmp_session.parse_steps(["query-status", given])
    record.write_text(json.dumps({"argv": ["qemu", "-sandbox", "on,spawn=deny"]}))
    if refused:
        with pytest.raises(OptionError, match=r"^commands\[1\]: .*set sandbox: false"):
            qmp_session.check_sandbox(str(record), steps)
    else:
        qmp_session.check_sandbox(str(record), steps)
    for text in ('{"argv": ["qemu"]}', "{}", '{"argv": 5}', "{"):
        record.write_text(text)
        qmp_session.check_sandbox(str(record), steps)
    qmp_session.check_sandbox(str(tmp_path / "none"), steps)
