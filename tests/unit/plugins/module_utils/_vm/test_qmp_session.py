# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

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
        ({"event": "STOP"}, dict(PLAIN, kind="event", event="STOP")),
        (
            {"event": ["STOP", "RESUME"], "match": {"a": 1}},
            dict(PLAIN, kind="event", event=["STOP", "RESUME"], match={"a": 1}),
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
    with FakeQmp(tmp_path / "q", {"query-status": {"status": "running"}}) as fake:
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
            {},
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
