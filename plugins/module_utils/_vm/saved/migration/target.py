# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The target of a migration: a QEMU with the same devices waits for the guest, and continues it.

Until the guest runs here, the folder of the VM has receiving.json: {"definition"}, which has the
links that are plugged in when the guest has arrived. A run that finds it without a guest discards
the VM.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    MonitorClosed,
    OptionError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    read_json,
    remove_file,
    write_json,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses, port_sockets, ports
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm import process
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import (
    Observation,
    observe,
    record_run,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.run import VmRun
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import memory
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.clone import changes_machine
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.migration import (
    cables,
    channel,
    copies,
    files,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.migration.channel import Channel
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.migration.removal import remove_vm
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.plan import unloadable
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.revert import as_saved

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Result,
        Settings,
    )

_ANNOUNCE = {"initial": 50, "max": 550, "rounds": 5, "step": 100}  # ms; QEMU's own defaults


class Target:
    """A VM that is to continue on this host. The caller holds its lock, and closes it.

    origin: of Origin.describe. request: {host: the address at which the origin reaches this host,
    None on the same host; port: the first of two TCP ports, None for free ones; key: of the
    encryption or None; nics: the NICs with other links here, as qemu_vm takes them;
    allow_container}.
    """

    def __init__(
        self, folder: Folder, origin: dict[str, Any], request: dict[str, Any], settings: Settings
    ) -> None:
        self.folder, self.origin, self.request, self.settings = folder, origin, request, settings
        self.host = Host(folder)
        self.run = VmRun(self.host, settings)
        self.final: Definition = {}

    def close(self) -> None:
        """Close the monitor."""
        self.run.close()

    def plan(self) -> list[str]:
        """Check everything that is known before a change; return warnings. Raises a VlabError."""
        self.run.observe()
        if self.run.observation.status != "absent":
            raise HostError(
                "the target has a VM %s in the lab %s already: remove it, or rename one of them"
                % (self.folder.name, self.folder.lab)
            )
        self.run.request_state("paused", self.request["allow_container"])
        self.host.incoming, self.host.machine_type = "defer", self.origin["machine_type"]
        self.host.console_from = 0
        self.run.make_plan(self._compose, allow_restart=False)
        self._check_loadable()
        copies.check(self.folder, self.final, self.origin["disks"])
        self._check_addresses()
        return self.host.warnings

    def _compose(self, _saved: Definition | None, host: Host) -> Definition:
        """Return the definition that QEMU starts with: without links."""
        base = plain_copy(self.origin["definition"])
        definitions.check_saved(self.folder.definition, "", base)
        found = self.origin["cables"] if self.request["host"] is None else {}
        base = cables.addressed(base, found)
        given = {"nics": self.request["nics"]}
        self.final = definitions.compose(base, given, host)
        self._check_same_machine(base)
        self._check_peers()
        return cables.unplugged(self.final)

    def _check_same_machine(self, base: Definition) -> None:
        changes = [change for part in PARTS for change in part.compare(base, self.final)]
        options = sorted({change.option for change in changes if changes_machine(change)})
        if options:
            raise OptionError(
                "nics",
                "the guest continues on the machine that it has, and this host would give it"
                " another one: %s" % ", ".join(options),
            )

    def _check_peers(self) -> None:
        """Raise OptionError for a link to a VM that is on another host."""
        for nic in self.final["nics"]:
            peer = nic["link"].get("peer", "").rpartition(":")[0]
            if peer and not Folder(self.folder.root, self.folder.lab, peer).exists():
                raise OptionError(
                    "nics[%s].link" % nic["name"],
                    "the VM %s at its other end is not on the target: give nics with a link of"
                    " type udp, and neighbours with its other end" % peer,
                )

    def _check_loadable(self) -> None:
        machine = self.host.capabilities.machine_name(self.origin["machine_type"] or "")
        version = list(self.host.capabilities.version)
        reasons = unloadable(self.origin, version, machine, self.host.accel)
        if reasons:
            raise HostError(
                "the VM %s cannot continue on the target: %s"
                % (self.folder.name, "; ".join(reasons))
            )

    def _check_addresses(self) -> None:
        """Raise OptionError for an address to listen on that this host does not have."""
        requests = definitions.port_requests(self.final) + definitions.private_ports(self.final)
        for request in requests:
            error = port_sockets.bind_error(request.protocol, request.address, 0)
            if error:
                reason = port_sockets.refusal(error, request.protocol, request.address, 0)
                raise OptionError(
                    request.option,
                    "the target cannot listen on %s: it %s" % (request.address, reason),
                )

    def prepare(self, data: bytes) -> Channel:
        """Start a QEMU that waits for the guest; return where it listens.

        data: the files of the guest. Raises a VlabError; then nothing is left.
        """
        write_json(self.folder.receiving, {})
        try:
            files.unpack(self.folder, data)
            copies.make(self.folder, self.final, self.origin["disks"], self.host.qemu_img)
            self.run.apply(defer_resume=True)
            target = self._listen()
            final = cables.with_ports(self.final, self.folder, self.run.desired or {})
            write_json(self.folder.receiving, {"definition": final})
            return target
        except VlabError:
            self.close()
            remove_vm(self.folder, self.settings)
            raise

    @property
    def _monitor(self) -> Monitor:
        return self.run.observation.open_monitor

    def _listen(self) -> Channel:
        host, monitor = self.request["host"], self._monitor
        if host is None:
            sockets = [self.folder.socket(name) for name in ("migrate.sock", "disks.sock")]
            target = Channel(None, sockets[0], sockets[1])
        else:
            numbers = _tcp_ports(host, self.request["port"])
            target = Channel(host, numbers[0], numbers[1], self.request["key"])
        if target.key:
            flat = self.host.capabilities.json_object
            channel.add_key(monitor, self.folder, target.key, True, flat)
            monitor.execute("migrate-set-parameters", target.tls)
        monitor.execute("migrate-set-capabilities", memory.capabilities())
        monitor.execute("migrate-incoming", {"uri": target.uri})
        names = [entry["name"] for entry in self.origin["disks"]]
        if names:
            monitor.execute("nbd-server-start", {"addr": target.disk_listener, **target.tls})
        for name in names:
            node = copies.node(self.final, name)
            export = {"type": "nbd", "id": "migrate-" + node, "node-name": node, "name": node}
            monitor.execute("block-export-add", dict(export, writable=True))
        return target


def _tcp_ports(host: str, first: int | None) -> tuple[int, int]:
    """Return two ports at an address of this host. Raises OptionError for an address of another."""
    if first is not None:
        return first, first + 1
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as one, socket.socket(family) as other:
            one.bind((host, 0))
            other.bind((host, 0))
            return one.getsockname()[1], other.getsockname()[1]
    except OSError as error:
        raise OptionError("address", "the target cannot listen on %s: %s" % (host, error.strerror))


def state_of(folder: Folder) -> str:
    """Return what a host has of a VM that moves to it.

    absent, other (a VM that does not arrive), dead (a run was killed), waiting, arrived (stopped),
    or running.
    """
    observation = observe(folder)
    try:
        if not observation.receiving:
            return "absent" if observation.status == "absent" else "other"
        if not observation.alive or observation.monitor is None:
            return "dead"
        if observation.status == "inmigrate":
            return "waiting"
        if observation.status == "running":
            return "running"
        sent = observation.monitor.execute("query-migrate").get("status")
        return "arrived" if sent == "completed" else "dead"
    finally:
        observation.close()


def receive(folder: Folder, status: str, timeout: float) -> None:
    """Wait until the guest has arrived, and continue it. Raises a VlabError; then it does not run.

    status: what the guest did on the origin, running or paused. timeout: seconds.
    """
    observation = observe(folder)
    try:
        record = read_json(folder.receiving)
        final = record.get("definition") if isinstance(record, dict) else None
        observation.check_monitor()
        monitor = observation.monitor
        if not isinstance(final, dict) or monitor is None:
            raise HostError("the VM %s does not wait for a guest any more" % folder.name)
        definitions.check_saved(folder.receiving, "definition", final)
        _Arrival(folder, observation, monitor, final).run(status, timeout)
    finally:
        observation.close()


class _Arrival:
    """The arrival of a guest: what can be done before it is done before."""

    def __init__(
        self, folder: Folder, observation: Observation, monitor: Monitor, final: Definition
    ) -> None:
        self.folder, self.observation, self.final = folder, observation, final
        self.monitor = monitor
        host = Host(folder)
        host.find(final["arch"], final["qemu_binary"] or None)
        running, pid = observation.running, observation.pid or 0
        self.live = Live(host, monitor, pid, running, observation.devices, unplug_timeout=0)
        self.capabilities = host.capabilities  # read before the guest stops

    def run(self, status: str, timeout: float) -> None:
        """Wait for the guest and continue it."""
        slots = addresses.slots_at_start(self.observation.running)
        record_run(self.observation, definition=addresses.with_slots_at_start(self.final, slots))
        definitions.save(self.folder, self.final)
        if self.observation.status == "running":
            self._end()
            return
        if self.observation.status == "inmigrate":
            self._wait(timeout)
        self._continue(status)
        self._end()

    def _end(self) -> None:
        remove_file(self.folder.receiving)
        channel.remove_key(self.monitor, self.folder)
        cables.copy_captures(self.final, self.live)

    def _wait(self, timeout: float) -> None:
        what = "the guest of the VM %s did not arrive" % self.folder.name
        try:
            memory.wait(self.monitor, timeout, what, option="timeout")
        except MonitorClosed:
            log = process.qemu_output(self.folder, self.observation.run["argv"])
            raise HostError(
                "%s: the QEMU on the target has ended. Its output: %s" % (what, log or "nothing")
            )

    def _continue(self, status: str) -> None:
        """Plug in the links and let the guest run. Raises MonitorError; then it does not run."""
        # The exports must end first: they hold the right to write to the disks.
        self.monitor.batch([("nbd-server-stop", None)])
        cables.plug(self.final, self.live)
        if status == "running":
            self.monitor.execute("cont")
            self.monitor.batch([("announce-self", _ANNOUNCE)])


def settle(folder: Folder, settings: Settings) -> tuple[Result, list[str]]:
    """Register the ports of a VM that has arrived, once the origin does not have them any more.

    Return the VM as the modules do, and warnings.
    """
    run = VmRun(Host(folder), settings)
    try:
        run.observe()
        saved = run.observation.saved
        if saved is not None:
            ports.restore(folder, definitions.port_requests(saved), saved["ports"])
        run.request_state("present", allow_container=True)
        run.make_plan(as_saved, allow_restart=False)
        run.refresh()
        return run.report(check_mode=False), run.warnings
    finally:
        run.close()


def discard(folder: Folder, settings: Settings) -> None:
    """Remove a VM whose guest has not arrived. Raises a VlabError."""
    if os.path.exists(folder.receiving):
        remove_vm(folder, settings)


def end_waiting(folder: Folder) -> None:
    """End a QEMU that waits for a guest, so that a run that waits with it gives the lock back."""
    if not os.path.exists(folder.receiving):
        return
    try:
        run = definitions.load_run(folder)
    except HostError:
        return
    if run.get("pid") and process.is_qemu_of(folder, run["pid"]):
        process.kill(run["pid"], run["start"])
