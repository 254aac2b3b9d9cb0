# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Switches: a segment as a program that learns where addresses are, and that has VLANs.

A switch needs no root, and its ports and their VLANs change while it runs. It runs until the lab is
removed. If it dies, its cables are cut, and the next run starts it again.
"""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import Change
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import write_json
from ansible_collections.vlab.qemu.plugins.module_utils._lab.segment_ports import (
    SEGMENTS,
    SegmentFolder,
    Settings,
    existing_segments,
    new_places,
    plan_segment,
    reserve_ports,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.detached import Detached
from ansible_collections.vlab.qemu.plugins.module_utils._vm.port_sockets import Reservation
from ansible_collections.vlab.qemu.plugins.module_utils._wire.client import ask

_PROGRAM = "switch.pyz"


def is_switch(folder: str) -> bool:
    """Return whether the folder of a segment is that of a switch."""
    return os.path.lexists(os.path.join(folder, _PROGRAM))


class Switch:
    """One switch. desired: None to remove the switch. changes: the plan."""

    def __init__(self, root: str, lab: str, name: str, desired: Settings | None) -> None:
        self.folder = SegmentFolder(root, lab, name)
        self.name, self.desired = name, desired
        self.changes: list[Change] = []
        self._running: Settings | None = None
        self._program = Detached(
            title="the switch %s" % name,
            supervisor="vlab-switch",
            program=self.folder.file(_PROGRAM),
            record=self.folder.file("switch.json"),
            exit_code=self.folder.file("exit_code"),
            log=self.folder.file("switch.log"),
        )

    @property
    def control(self) -> str:
        """The path of its control socket."""
        return self.folder.socket("switch.sock")

    def observe(self) -> None:
        """Find out whether the switch runs, and which ports it has."""
        answer = self.status()
        self._running = answer["switch"] if answer else None

    def status(self) -> dict[str, Any] | None:
        """Return what the running switch answers, None if it does not run or answer."""
        if self._program.running_pid() is None:
            return None
        try:
            answer = ask(self.control, {"command": "status"})
        except OSError:
            return None  # it is started again
        return answer if _is_status(answer) else None

    def state(self) -> dict[str, Any]:
        """Return what is reported about the process."""
        return self._program.state()

    def report(self) -> dict[str, Any]:
        """Return the state of the switch, and what it has counted and learned since it started."""
        answer = self.status()
        ports: dict[str, Any] = {}
        if answer:
            settings = answer["switch"]["ports"]
            for name, counters in answer["ports"].items():
                port = settings.get(name, {})
                ports[name] = dict(counters, vlans=port.get("vlans", {}))
                if "impair" in port:
                    measured = answer["measured"].get(name)
                    ports[name]["impairment"] = {
                        "parameters": port["impair"],
                        "measured": measured,
                    }
        return {
            **self.state(),
            "ports": ports,
            "addresses": answer["addresses"] if answer else [],
        }

    def plan(self) -> None:
        """Plan the changes."""
        exists = os.path.isdir(self.folder.path)
        self.changes = plan_segment(self.name, exists, self._running, self.desired)

    @property
    def changes_existing(self) -> bool:
        """Whether the plan changes or removes a switch that existed before this run."""
        return bool(self.changes) and os.path.isdir(self.folder.path)

    def apply(self, _timeout: int) -> None:
        """Make the changes. Raises HostError."""
        if self.desired is None:
            self._program.end(0)
            self.folder.remove()
        elif self._running is None:
            self._start(self.desired)
        else:
            self._change(self._running, self.desired)

    def _start(self, desired: Settings) -> None:
        from ansible_collections.vlab.qemu.plugins.module_utils._common.program_archive import (
            program_archive,
        )
        from ansible_collections.vlab.qemu.plugins.module_utils._wire import (
            control,
            engine,
            switch_program,
            switching,
        )

        self.folder.make()
        self._program.end(0)
        with Reservation() as reservation:
            reserve_ports(reservation, self.name, desired["ports"])
            path = self._save(desired)
            # Neither the packages of the host nor compiled files.
            archive = program_archive(switch_program, control, engine, switching)
            self._program.start(archive, [path], "-S -B")

    def _save(self, desired: Settings) -> str:
        """Save the settings; return the path of their file."""
        path = self.folder.file("settings.json")
        settings = {"record": self._program.record, "control": self.control, "switch": desired}
        write_json(path, settings)
        return path

    def _change(self, running: Settings, desired: Settings) -> None:
        pid = self._program.running_pid() or 0
        with Reservation() as reservation:
            new = new_places(running["ports"], desired["ports"])
            reserve_ports(reservation, self.name, new, pid)
            try:
                ask(self.control, {"command": "configure", "switch": desired})
            except OSError as error:
                reason = error.strerror or error
                raise HostError(
                    "%s does not take its settings: %s" % (self._program.title, reason),
                    path=self.control,
                )
        self._save(desired)


def _is_status(answer: dict[str, Any]) -> bool:
    """Return whether an answer is one of the program, and not of another one."""
    switch = answer.get("switch")
    ports = switch.get("ports") if isinstance(switch, dict) else None
    return (
        isinstance(ports, dict)
        and _is_dict_of_dicts(ports)
        and all({"local_address", "local_port", "vlans"} <= set(port) for port in ports.values())
        and _is_dict_of_dicts(answer.get("ports"))
        and _is_dict_of_dicts(answer.get("measured"))
        and isinstance(answer.get("addresses"), list)
    )


def _is_dict_of_dicts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, dict) for each in value.values())


def switch_facts(root: str, lab: str) -> dict[str, Any]:
    """Return the reports of the switches of a lab on this host, by name."""
    return {
        name: Switch(root, lab, name, None).report()
        for name in existing_segments(root, lab)
        if is_switch(os.path.join(root, lab, SEGMENTS, name))
    }
