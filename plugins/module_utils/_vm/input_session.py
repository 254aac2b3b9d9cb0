# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What a person does at a VM's keyboard, mouse and screen."""

from __future__ import annotations

import hashlib
import os
import select
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    HostError,
    MonitorError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    remove_file,
    write_atomically,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.png import (
    Picture,
    png_of,
    read_ppm,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import check_number
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.keyboard import (
    MAX_STROKES,
    Chord,
    chord_of,
    chords_of_text,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

_MAX_SCREEN = 128 << 20  # bytes of a picture: the guest chooses its size
_MAX_SIZE = 0x7FFF  # pixels; also the range of an absolute pointer: QEMU, ui/input.h
_MAX_TIME = 10000  # milliseconds
_MAX_CLICKS = 100


class InputSession:
    """The input of one task, checked, and then sent.

    params: the options of the module qemu_input. Raises OptionError.
    """

    def __init__(self, params: dict[str, Any]) -> None:
        self.press_time = check_number(
            "press_time", params["press_time"], 1, _MAX_TIME, "a time in milliseconds"
        )
        self.delay = check_number("delay", params["delay"], 0, _MAX_TIME, "a time in milliseconds")
        self.chords: list[Chord] = chords_of_text("text", params["text"] or "")
        for number, name in enumerate(params["keys"] or ()):
            self.chords.append(chord_of("keys[%d]" % number, name))
        if len(self.chords) > MAX_STROKES:
            raise OptionError("text", "it is too long: the maximum is %d keys" % MAX_STROKES)
        self.mouse: list[dict[str, Any]] = [
            _checked_move("mouse[%d]" % number, move)
            for number, move in enumerate(params["mouse"] or ())
        ]

    @property
    def has_input(self) -> bool:
        """Whether there is anything to send."""
        return bool(self.chords or self.mouse)

    def send(self, monitor: Monitor, folder: Folder) -> None:
        """Press the keys and move the mouse. Raises GuestError if the guest does not run."""
        status = monitor.execute("query-status")["status"]
        if status != "running":
            raise GuestError(
                "the guest of the VM %s does not read its keyboard: it is %s"
                % (folder.name, status)
            )
        for chord in self.chords:
            keys = [{"type": "qcode", "data": key} for key in chord]
            monitor.execute("send-key", {"keys": keys, "hold-time": self.press_time})
            # QEMU answers at once, and releases the keys later.
            self.wait((self.press_time + self.delay) / 1000)
        for number, move in enumerate(self.mouse):
            self._move("mouse[%d]" % number, move, monitor, folder)

    def _move(self, option: str, move: dict[str, Any], monitor: Monitor, folder: Folder) -> None:
        absolute = move.get("x") is not None
        if absolute or move.get("dx") is not None:
            _check_pointer(option, monitor, absolute)
            kind, names = ("abs", ("x", "y")) if absolute else ("rel", ("dx", "dy"))
            values = [move.get(name) or 0 for name in names]
            if absolute:
                values = _scaled(option, values, screen(monitor, folder))
            _send_events(
                monitor,
                [(kind, {"axis": axis, "value": value}) for axis, value in zip("xy", values)],
            )
            self.wait(self.delay / 1000)
        for _click in range(move["clicks"] if move.get("click") else 0):
            for is_down in (True, False):
                _send_events(monitor, [("btn", {"button": move["click"], "down": is_down})])
                self.wait((self.press_time if is_down else self.delay) / 1000)

    @staticmethod
    def wait(seconds: float) -> None:
        """Wait, for the guest to go on."""
        select.select([], [], [], seconds)


def _checked_move(option: str, move: dict[str, Any]) -> dict[str, Any]:
    for first, second in (("x", "y"), ("dx", "dy")):
        if (move.get(first) is None) != (move.get(second) is None):
            raise OptionError(option, "%s and %s belong together" % (first, second))
    if move.get("x") is not None and move.get("dx") is not None:
        raise OptionError(option + ".dx", "it cannot be given with x and y")
    if move.get("x") is None and move.get("dx") is None and not move.get("click"):
        raise OptionError(option, "it needs x and y, dx and dy, or click")
    for name, least in (("x", 0), ("y", 0), ("dx", -_MAX_SIZE), ("dy", -_MAX_SIZE)):
        if move.get(name) is not None:
            path = "%s.%s" % (option, name)
            check_number(path, move[name], least, _MAX_SIZE, "a number of pixels")
    check_number(option + ".clicks", move["clicks"], 1, _MAX_CLICKS, "a number of clicks")
    return move


def _check_pointer(option: str, monitor: Monitor, absolute: bool) -> None:
    """Raise OptionError if the pointer that the guest uses is of the other kind."""
    current = [mouse for mouse in monitor.execute("query-mice") if mouse.get("current")]
    if not current:
        raise OptionError(option, "the VM has no mouse")
    if bool(current[0].get("absolute")) == absolute:
        return
    if absolute:
        reason = (
            "x and y need a pointer with absolute positions, and the guest uses %s: give the VM "
            "devices: [{driver: usb-tablet}] with a USB controller, or use dx and dy"
        )
    else:
        reason = "dx and dy need a mouse, and the guest uses %s: use x and y"
    raise OptionError(option, reason % current[0].get("name"))


def _scaled(option: str, position: list[int], picture: Picture) -> list[int]:
    """Return a position in pixels in the units of an absolute pointer."""
    size = (picture.width, picture.height)
    if position[0] >= size[0] or position[1] >= size[1]:
        raise OptionError(option, "%d, %d is not on the screen of %d x %d" % (*position, *size))
    return [round(at * _MAX_SIZE / max(1, length - 1)) for at, length in zip(position, size)]


def _send_events(monitor: Monitor, events: list[tuple[str, dict[str, Any]]]) -> None:
    monitor.execute(
        "input-send-event", {"events": [{"type": kind, "data": data} for kind, data in events]}
    )


def screen(monitor: Monitor, folder: Folder) -> Picture:
    """Return what the screen of a VM shows. Raises MonitorError, GuestError, HostError."""
    path = folder.file(".screen.ppm")
    try:
        try:
            monitor.execute("screendump", {"filename": path}, timeout=60)
        except MonitorError as error:
            if error.facts.get("error_class"):
                error.message += ". A screenshot needs a graphics card: give the VM vga: std"
            raise
        if os.path.getsize(path) > _MAX_SCREEN:
            raise GuestError("the screen of the VM %s is too large for a picture" % folder.name)
        with open(path, "rb") as stream:
            return read_ppm(stream.read(_MAX_SCREEN + 1))
    except OSError as error:
        raise HostError("cannot read the screenshot %s: %s" % (path, error.strerror), path=path)
    except ValueError as error:
        raise GuestError("the screenshot of the VM %s cannot be used: %s" % (folder.name, error))
    finally:
        remove_file(path)


def save_screenshot(picture: Picture, path: str, check_mode: bool) -> tuple[dict[str, Any], bool]:
    """Write a picture as a PNG; return what is reported about it, and whether the file changes."""
    data = png_of(picture)
    try:
        with open(path, "rb") as stream:
            changes = stream.read(len(data) + 1) != data
    except FileNotFoundError:
        changes = True
    except OSError as error:
        raise OptionError("screenshot", "cannot read %s: %s" % (path, error.strerror))
    if changes and not check_mode:
        write_atomically(path, data)
    return {
        "path": path,
        "width": picture.width,
        "height": picture.height,
        "checksum": hashlib.sha256(picture.pixels).hexdigest(),
    }, changes
