# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Serial consoles and their logs, monitors for the user, and the guest agent channel."""

from __future__ import annotations

import contextlib
import os
import shlex
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import LIVE, Change
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    HostError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_json
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import (
    check_listen_address,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import (
    device,
    escape,
    keyval,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses, relay
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import check_name, no_such_vm
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import (
    Option,
    Part,
    without_none,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import PortRequest, port_number

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._console.console import Console
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Params,
        Result,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation

AGENT_PORT = "agent0"  # the device of the guest agent
_ISA_PORTS = 4
_RELAY = "relay"  # in an observed definition: set if the relay has ended
_DEFAULT = [{"name": "console", "type": "unix", "log": True, "host": None, "port": None}]


def _consoles(path: str, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
    consoles: list[dict[str, Any]] = []
    numbers: dict[str, int] = {}
    for number, given in enumerate(value):
        item_path = "%s[%d]" % (path, number)
        name = check_name(
            item_path + ".name",
            given.get("name") or ("console" if number == 0 else "console%d" % number),
        )
        if name in numbers:
            raise OptionError(
                item_path + ".name", "%r is also the name of %s[%d]" % (name, path, numbers[name])
            )
        if name == "qemu":
            raise OptionError(
                item_path + ".name", "qemu.log is the log of QEMU itself: use another name"
            )
        if name == "relay":
            raise OptionError(
                item_path + ".name", "relay.log is the log of the relay: use another name"
            )
        numbers[name] = number
        kind = given.get("type") or "unix"
        if kind == "unix" and (given.get("port") or given.get("host")):
            raise OptionError(item_path + ".type", "host and port need type: tcp or telnet")
        clients, writers = given.get("clients") or "one", given.get("writers")
        if writers == "many" and clients == "one":
            raise OptionError(item_path + ".writers", "it needs clients: many")
        # Only where it is given: a definition of before is the same as one without.
        more = {"clients": "many", "writers": writers or "many"} if clients == "many" else {}
        consoles.append(
            {
                **more,
                "name": name,
                "type": kind,
                "log": given.get("log") is not False,
                "host": check_listen_address(item_path + ".host", given.get("host") or "127.0.0.1")
                if kind != "unix"
                else None,
                "port": port_number(item_path + ".port", given.get("port") or "auto")
                if kind != "unix"
                else None,
            }
        )
    return consoles


def _written(consoles: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    return None if consoles == _DEFAULT else [without_none(console) for console in consoles]


def _monitors(path: str, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
    monitors: list[dict[str, Any]] = []
    names: set[str] = set()
    for number, given in enumerate(value):
        item_path = "%s[%d]" % (path, number)
        name = check_name(item_path + ".name", given["name"])
        if name in names or name in ("qmp", "monitor"):
            raise OptionError(item_path + ".name", "%r is taken" % name)
        names.add(name)
        monitors.append({"name": name, "type": given.get("type") or "hmp"})
    return monitors


def log_name(console: dict[str, Any]) -> str:
    """Return the name of the log file of a console."""
    return "%s.log" % console["name"]


class Consoles(Part):
    """The part that owns consoles and monitors."""

    name = "consoles"
    options = {
        "consoles": Option(
            {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str"},
                    "type": {"type": "str", "choices": ["unix", "tcp", "telnet"]},
                    "host": {"type": "str"},
                    "port": {"type": "str"},
                    "log": {"type": "bool"},
                    "clients": {"type": "str", "choices": ["one", "many"]},
                    "writers": {"type": "str", "choices": ["one", "many"]},
                },
            },
            _DEFAULT,
            normalise=_consoles,
            written=_written,
        ),
        "monitors": Option(
            {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "type": {"type": "str", "choices": ["hmp", "qmp"]},
                },
            },
            [],
            normalise=_monitors,
        ),
        "guest_agent": Option({"type": "bool"}, False),
    }

    def complete(self, desired: Definition, saved: Definition, given: Params, host: Host) -> None:
        if len(desired["consoles"]) > _ISA_PORTS and desired["family"] in ("i440fx", "q35"):
            raise OptionError("consoles", "a PC has %d serial ports" % _ISA_PORTS)

    def port_requests(self, desired: Definition) -> list[PortRequest]:
        return [
            PortRequest(
                "console/" + console["name"],
                "tcp",
                console["host"],
                console["port"],
                "consoles[%d].port" % number,
            )
            for number, console in enumerate(desired["consoles"])
            if console["type"] != "unix"
        ]

    def arguments(self, desired: Definition, host: Host) -> list[str]:
        words = []
        for number, console in enumerate(desired["consoles"]):
            name = "console%d" % number
            where = {"id": name, "server": True, "wait": False}
            if _has_many(console):
                where["path"] = _relayed_path(host.folder, number)
            elif console["type"] == "unix":
                where["path"] = socket_path(host.folder, number)
            else:
                where.update(
                    {
                        "host": console["host"],
                        "port": desired["ports"]["console/" + console["name"]],
                        "telnet": True if console["type"] == "telnet" else None,
                    }
                )
            if console["log"]:
                where.update({"logfile": host.folder.file(log_name(console)), "logappend": True})
            words += ["-chardev", keyval("socket", where), "-serial", "chardev:" + name]
        words += [
            "-qmp",
            "unix:%s,server=on,wait=off" % escape(host.folder.qmp),
            "-qmp",
            "unix:%s,server=on,wait=off" % escape(host.folder.socket("monitor.sock")),
        ]
        for number, monitor in enumerate(desired["monitors"]):
            path = host.folder.socket("monitor%d.sock" % number)
            words += [
                "-qmp" if monitor["type"] == "qmp" else "-monitor",
                "unix:%s,server=on,wait=off" % escape(path),
            ]
        if desired["guest_agent"]:
            words += self._agent_arguments(desired, host)
        return words

    @staticmethod
    def _agent_arguments(desired: Definition, host: Host) -> list[str]:
        suffix = addresses.virtio_suffix(desired["family"], host.arch)
        words = device(
            {
                "driver": "virtio-serial-" + suffix,
                "id": "serial",
                **addresses.single(desired["family"], "serial"),
            }
        )
        words += [
            "-chardev",
            keyval(
                "socket",
                {
                    "id": "agent",
                    "path": host.folder.socket("agent.sock"),
                    "server": True,
                    "wait": False,
                },
            ),
        ]
        words += device(
            {
                "driver": "virtserialport",
                "bus": "serial.0",
                "nr": 1,
                "chardev": "agent",
                "name": "org.qemu.guest_agent.0",
                "id": AGENT_PORT,
            }
        )
        return words

    # The relay of the consoles with many clients.

    def reconcile_observed(self, observation: Observation) -> None:
        if _relayed(observation.running) and relay.running_pid(observation.folder) is None:
            observation.running[_RELAY] = "ended"

    def compare(self, running: Definition, desired: Definition) -> list[Change]:
        changes = super().compare(running, desired)
        if running.get(_RELAY) and running["consoles"] == desired["consoles"]:
            path = ("consoles", _RELAY)
            changes.append(Change(path, running[_RELAY], "running", LIVE, self.name))
        return changes

    def prepare(self, desired: Definition, host: Host) -> list[str]:
        relay.end(host.folder)  # one that a killed run left would hold its ports
        return []

    def apply(self, change: Change, desired: Definition, live: Live) -> None:
        live.running.pop(_RELAY, None)
        _start_relay(live.folder, live.running)

    def before_continue(self, desired: Definition, live: Live) -> None:
        _start_relay(live.folder, desired)

    def release(self, definition: Definition, host: Host) -> None:
        relay.end(host.folder)

    # Result.

    def report(self, definition: Definition, observation: Observation, result: Result) -> None:
        folder = observation.folder
        has_relay = observation.alive and bool(_relayed(definition))
        state = relay.state(folder) if has_relay else None
        result["consoles"] = []
        for number, console in enumerate(definition["consoles"]):
            entry = {
                "name": console["name"],
                "type": console["type"],
                "log": folder.file(log_name(console)) if console["log"] else None,
                "clients": console.get("clients", "one"),
                "writers": console.get("writers", "one"),
            }
            if state and _has_many(console):
                entry["relay"] = state
            if console["type"] == "unix":
                entry["path"] = socket_path(folder, number)
                entry["command"] = "socat -,raw,echo=0,escape=0x1d %s" % shlex.quote(
                    "UNIX-CONNECT:" + entry["path"]
                )
            else:
                entry["host"] = console["host"]
                entry["port"] = definition["ports"].get("console/" + console["name"])
                entry["command"] = "telnet %s %s" % (entry["host"], entry["port"])
            result["consoles"].append(entry)
        result["monitors"] = [
            {"name": "monitor", "type": "qmp", "path": folder.socket("monitor.sock")}
        ]
        result["monitors"] += [
            {
                "name": monitor["name"],
                "type": monitor["type"],
                "path": folder.socket("monitor%d.sock" % number),
            }
            for number, monitor in enumerate(definition["monitors"])
        ]
        result["agent"] = folder.socket("agent.sock") if definition["guest_agent"] else None


def socket_path(folder: Folder, number: int) -> str:
    """Return the socket of a console by its number."""
    return folder.socket("console.sock" if number == 0 else "console%d.sock" % number)


def _has_many(console: dict[str, Any]) -> bool:
    return console.get("clients") == "many"


def _relayed(definition: Definition) -> list[int]:
    """Return the numbers of the consoles with many clients."""
    consoles = definition.get("consoles", ())
    return [number for number, console in enumerate(consoles) if _has_many(console)]


def _relayed_path(folder: Folder, number: int) -> str:
    """Return the socket of QEMU that the relay connects to."""
    return folder.socket("relay%d.sock" % number)


def _start_relay(folder: Folder, definition: Definition) -> None:
    """Start the relay of a VM if its definition needs one. Raises HostError."""
    settings = []
    for number in _relayed(definition):
        console = definition["consoles"][number]
        listen: Any = socket_path(folder, number)
        if console["type"] != "unix":
            listen = [console["host"], definition["ports"]["console/" + console["name"]]]
        settings.append(
            {
                "name": console["name"],
                "backend": _relayed_path(folder, number),
                "listen": listen,
                "telnet": console["type"] == "telnet",
                "writers": console["writers"],
            }
        )
    if settings:
        relay.start(folder, settings)


def _read_object(path: str) -> dict[str, Any]:
    """Return the object in a JSON file, empty if it does not exist. Raises HostError."""
    saved = read_json(path)
    if saved is None:
        return {}
    if not isinstance(saved, dict):
        raise HostError("%s is damaged: it is not a JSON object. Restore it" % path, path=path)
    return saved


def _check_consoles(folder: Folder, definition: Any) -> None:
    """Raise HostError for consoles of another shape in a saved definition."""
    with contextlib.suppress(KeyError, TypeError, AttributeError, ValueError):
        ports = definition.get("ports", {})
        if all(
            isinstance(console["name"], str)
            and (
                console["type"] == "unix"
                or isinstance(console["host"], str)
                and 0 < int(ports["console/" + console["name"]]) < 65536
            )
            for console in definition["consoles"]
        ):
            return
    raise HostError(
        "%s is damaged: the consoles of the VM %s cannot be used. Restore it"
        % (folder.definition, folder.name),
        path=folder.definition,
    )


def open_console(folder: Folder, name: str | None = None, timeout: float = 5) -> Console:
    """Return the Console of a VM, which connects when it is entered. Raises VlabError.

    name: of the console; None for the first one.
    """
    from ansible_collections.vlab.qemu.plugins.module_utils._console.console import Console

    definition = _read_object(folder.run).get("definition") or _read_object(folder.definition)
    if not definition:
        raise GuestError(no_such_vm(folder))
    _check_consoles(folder, definition)
    consoles = definition["consoles"]
    number = next(
        (number for number, console in enumerate(consoles) if name in (None, console["name"])), None
    )
    if number is None:
        raise OptionError(
            "console",
            "the VM %s has no console%s; it has %s"
            % (
                folder.name,
                " " + name if name else "",
                ", ".join(console["name"] for console in consoles) or "none",
            ),
        )
    console = consoles[number]
    if console["type"] == "unix":
        return Console(socket_path(folder, number), timeout)
    port = int(definition["ports"]["console/" + console["name"]])
    return Console((console["host"], port), timeout, telnet=console["type"] == "telnet")


def console_logs(folder: Folder, definition: Definition) -> list[str]:
    """Return the existing log files of a VM's consoles."""
    paths = [folder.file(log_name(console)) for console in definition["consoles"] if console["log"]]
    return [path for path in paths if os.path.exists(path)]


def log_size(folder: Folder, definition: Definition) -> int:
    """Return the length of the first console's log, after which new output begins."""
    if not definition["consoles"]:
        return 0
    try:
        return os.path.getsize(folder.file(log_name(definition["consoles"][0])))
    except OSError:
        return 0
