# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    MonitorError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.png import Picture
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._vm import input_session
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.tests.unit.fake_qmp import FakeQmp, Refusal

USUAL = {"text": None, "keys": None, "mouse": None, "press_time": 1, "delay": 0}
PPM = b"P6\n4 3\n255\n" + bytes(range(36))


@pytest.fixture
def folder(tmp_path):
    made = Folder(str(tmp_path), "lab", "r1")
    made.make()
    return made


def draw(arguments):
    with open(arguments["filename"], "wb") as stream:
        stream.write(PPM)
    return {}


def send(folder, params, absolute=True, status="running"):
    """Send input to a fake QEMU; return the requests that matter."""
    mice = [
        {"name": "other", "current": False, "absolute": not absolute},
        {"name": "this", "current": True, "absolute": absolute},
    ]
    answers = {"query-status": {"status": status}, "query-mice": mice, "screendump": draw}
    session = input_session.InputSession({**USUAL, **params})
    with FakeQmp(folder.qmp, answers) as fake, Monitor(folder.qmp) as monitor:
        session.send(monitor, folder)
        names = ("send-key", "input-send-event")
        return [(name, arguments) for name, arguments in fake.requests if name in names]


def test_text_then_keys(folder):
    requests = send(folder, {"text": "A", "keys": ["ctrl-c"]})
    keys = [[key["data"] for key in arguments["keys"]] for _name, arguments in requests]
    assert keys == [["shift", "a"], ["ctrl", "c"]]
    assert requests[0][1]["hold-time"] == 1


def events(requests):
    return [(event["type"], event["data"]) for _name, one in requests for event in one["events"]]


def test_an_absolute_pointer(folder):
    """The last pixel is the end of the range."""
    requests = send(folder, {"mouse": [{"x": 3, "y": 0, "click": "left", "clicks": 2}]})
    down, up = ({"button": "left", "down": is_down} for is_down in (True, False))
    assert events(requests) == [
        ("abs", {"axis": "x", "value": 0x7FFF}),
        ("abs", {"axis": "y", "value": 0}),
        *[("btn", down), ("btn", up)] * 2,
    ]
    assert not os.path.exists(folder.file(".screen.ppm"))


def test_a_mouse(folder):
    requests = send(folder, {"mouse": [{"dx": -5, "dy": 6, "clicks": 1}]}, absolute=False)
    assert events(requests) == [
        ("rel", {"axis": "x", "value": -5}),
        ("rel", {"axis": "y", "value": 6}),
    ]


@pytest.mark.parametrize(
    "move, absolute, message",
    [
        ({"x": 4, "y": 0}, True, "4, 0 is not on the screen of 4 x 3"),
        ({"x": 1, "y": 1}, False, "the guest uses this: give the VM .*usb-tablet"),
        ({"dx": 1, "dy": 1}, True, "dx and dy need a mouse"),
    ],
)
def test_pointers_of_the_other_kind(folder, move, absolute, message):
    with pytest.raises(OptionError, match=message):
        send(folder, {"mouse": [dict(move, clicks=1)]}, absolute)


@pytest.mark.parametrize("status", ["paused", "shutdown", "guest-panicked"])
def test_a_guest_that_does_not_run(folder, status):
    with pytest.raises(GuestError, match="does not read its keyboard: it is " + status):
        send(folder, {"text": "a"}, status=status)


@pytest.mark.parametrize(
    "params, option",
    [
        ({"press_time": 0}, "press_time"),
        ({"delay": -1}, "delay"),
        ({"text": "a" * 10001}, "text"),
        ({"keys": ["a", "none"]}, "keys[1]"),
        ({"mouse": [{"x": 1}]}, "mouse[0]"),
        ({"mouse": [{"x": 1, "y": 1, "dx": 1, "dy": 1}]}, "mouse[0].dx"),
        ({"mouse": [{"x": -1, "y": 1}]}, "mouse[0].x"),
        ({"mouse": [{"click": "left", "clicks": 0}]}, "mouse[0].clicks"),
        ({"mouse": [{}]}, "mouse[0]"),
    ],
)
def test_mistakes(params, option):
    if params.get("mouse"):
        params = {"mouse": [{"clicks": 1, **move} for move in params["mouse"]]}
    with pytest.raises(OptionError) as caught:
        input_session.InputSession({**USUAL, **params})
    assert caught.value.option == option


def test_a_screenshot(folder, tmp_path):
    with FakeQmp(folder.qmp, {"screendump": draw}), Monitor(folder.qmp) as monitor:
        picture = input_session.screen(monitor, folder)
    assert picture == Picture(4, 3, bytes(range(36)))
    path = str(tmp_path / "a.png")
    foreseen, would_change = input_session.save_screenshot(picture, path, True)
    assert would_change and not os.path.exists(path)
    assert input_session.save_screenshot(picture, path, False) == (foreseen, True)
    assert input_session.save_screenshot(picture, path, False) == (foreseen, False)
    assert input_session.save_screenshot(picture, path, True) == (foreseen, False)
    other = picture._replace(pixels=bytes(36))
    assert input_session.save_screenshot(other, path, True)[1]


@pytest.mark.parametrize(
    "answer, error, message",
    [
        (Refusal("no console"), MonitorError, "no console. A screenshot needs a graphics card"),
        (lambda arguments: {}, Exception, "cannot read the screenshot"),
        (
            lambda arguments: open(arguments["filename"], "wb").close() or {},
            GuestError,
            "not a PPM",
        ),
    ],
)
def test_no_screenshot(folder, answer, error, message):
    with FakeQmp(folder.qmp, {"screendump": answer}), Monitor(folder.qmp) as monitor:
        with pytest.raises(error) as caught:
            input_session.screen(monitor, folder)
    assert message in str(caught.value.message)
    assert not os.path.exists(folder.file(".screen.ppm"))


def test_the_size_of_a_screen_is_limited(folder, monkeypatch):
    monkeypatch.setattr(input_session, "_MAX_SCREEN", 40)
    with FakeQmp(folder.qmp, {"screendump": draw}), Monitor(folder.qmp) as monitor:
        with pytest.raises(GuestError, match="is too large"):
            input_session.screen(monitor, folder)
