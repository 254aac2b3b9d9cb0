# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The display: none, VNC, SPICE, or a window of the host. Passwords are never saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import (
    check_listen_address,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import keyval
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Option, Part
from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import PortRequest, port_number

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Params,
        Result,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation

_VNC_BASE = 5900  # RFC 6143: display N is TCP port 5900 + N


def _display(path: str, value: dict[str, Any]) -> dict[str, Any]:
    kind = value.get("type") or "none"
    listens = kind in ("vnc", "spice")
    if not listens and any(value.get(key) for key in ("host", "port", "password")):
        raise OptionError(path + ".type", "host, port and password need type: vnc or spice")
    normal: dict[str, Any] = {"type": kind}
    if listens:
        normal["host"] = check_listen_address(path + ".host", value.get("host") or "127.0.0.1")
        normal["port"] = port_number(path + ".port", value.get("port") or "auto")
        if kind == "vnc" and isinstance(normal["port"], int) and normal["port"] < _VNC_BASE:
            raise OptionError(path + ".port", "VNC ports begin at %d" % _VNC_BASE)
        normal["password"] = bool(value.get("password"))
        if not normal["password"] and normal["host"] not in ("127.0.0.1", "::1", "localhost"):
            raise OptionError(
                path + ".password", "a display that listens on %s needs a password" % normal["host"]
            )
        if kind == "vnc" and len((value.get("password") or "").encode("utf-8")) > 8:
            raise OptionError(path + ".password", "VNC passwords have 8 bytes at most (RFC 6143)")
    return normal


def _written(value: dict[str, Any]) -> dict[str, Any] | None:
    # Without its password it would be another display.
    if value["type"] == "none" or value.get("password"):
        return None
    return {key: entry for key, entry in value.items() if key != "password"}


class Display(Part):
    """The part that owns the display."""

    name = "display"
    options = {
        "display": Option(
            {
                "type": "dict",
                "options": {
                    "type": {"type": "str", "choices": ["none", "vnc", "spice", "gtk", "sdl"]},
                    "host": {"type": "str"},
                    "port": {"type": "str"},
                    "password": {"type": "str", "no_log": True},
                },
            },
            {"type": "none"},
            normalise=_display,
            written=_written,
        ),
        "vga": Option(
            {"type": "str", "choices": ["none", "std", "cirrus", "vmware", "qxl", "virtio"]}, "none"
        ),
    }

    def complete(self, desired: Definition, saved: Definition, given: Params, host: Host) -> None:
        if desired["display"]["type"] != "none" and desired["vga"] == "none":
            if given.get("vga"):
                raise OptionError(
                    "vga", "a display of type %s needs a graphics card" % desired["display"]["type"]
                )
            desired["vga"] = (
                "qxl"
                if desired["display"]["type"] == "spice" and host.capabilities.has_device("qxl-vga")
                else "std"
            )
        password = (given.get("display") or {}).get("password")
        if password:
            host.secrets["display"] = password

    def port_requests(self, desired: Definition) -> list[PortRequest]:
        display = desired["display"]
        return (
            [PortRequest("display", "tcp", display["host"], display["port"], "display.port")]
            if "port" in display
            else []
        )

    def check_start(self, desired: Definition, host: Host) -> None:
        if desired["display"]["type"] == "spice" and not host.capabilities.has_option("spice"):
            raise OptionError("display.type", "%s was built without SPICE" % host.binary)
        if desired["display"].get("password") and "display" not in host.secrets:
            host.warn(
                "the display has a password that was not given to this run: nobody can connect"
                " until it is given in display.password"
            )

    def arguments(self, desired: Definition, host: Host) -> list[str]:
        display, words = desired["display"], []
        if desired["vga"] != "none":
            words += ["-vga", desired["vga"]]
        if display["type"] == "vnc":
            address = "[%s]" % display["host"] if ":" in display["host"] else display["host"]
            head = "%s:%d" % (address, desired["ports"]["display"] - _VNC_BASE)
            return words + [
                "-display",
                "none",
                "-vnc",
                keyval(head, {"password": True if display["password"] else None}),
            ]
        if display["type"] == "spice":
            settings = {
                "addr": display["host"],
                "port": desired["ports"]["display"],
                "disable-ticketing": None if display["password"] else True,
            }
            return words + ["-display", "none", "-spice", keyval("", settings)]
        return words + ["-display", display["type"]]

    def before_continue(self, desired: Definition, live: Live) -> None:
        self.refresh(desired, live)

    def refresh(self, desired: Definition, live: Live) -> None:
        """Set the password, if this run has one."""
        password = live.secrets.get("display")
        if password and desired["display"].get("password"):
            live.monitor.execute(
                "set_password", {"protocol": desired["display"]["type"], "password": password}
            )

    def report(self, definition: Definition, observation: Observation, result: Result) -> None:
        result["display"] = dict(definition["display"])
        if "port" in result["display"]:
            result["display"]["port"] = definition["ports"].get("display")
