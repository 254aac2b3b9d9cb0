# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The steps of a migration, as requests to the two hypervisors.

The guest runs on at most one of them, whatever fails:
  1. origin: describe the VM                5. neighbours: connect their links to the target
  2. target: check, start a QEMU that waits 6. origin: end QEMU, remove the VM
  3. origin: send disks and memory          7. target: register the ports
  4. target, at the same time: continue the guest when all has arrived
"""

from __future__ import annotations

import concurrent.futures
import secrets
import time
from typing import Any, NamedTuple, Optional, Protocol

from ansible.errors import AnsibleError

SERVICE = "_vm.migration_service"  # that handles the requests
_SETTLED = ("arrived", "running")
_GRACE = 60  # seconds that a target waits longer than its origin


class Requests(Protocol):
    """A hypervisor that handles requests."""

    name: str

    def request(
        self, name: str, data: bytes = b"", **parameters: Any
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Return the result and data of a request. Raises AnsibleError."""


class MigrationError(AnsibleError):
    """A migration that failed. The message says where the guest runs."""


class Neighbour(NamedTuple):
    """A NIC at the other end of a link. hypervisor: of its VM. vm: root, lab, vm."""

    hypervisor: Requests
    vm: dict[str, Any]
    nic: dict[str, Any]


class Options(NamedTuple):
    """What a migration is to do.

    vm, lab: of the VM. root, to_root: the folders of all labs on the two hypervisors. request: of
    Target; host, port, nics and allow_container. encrypt: whether what goes over TCP is encrypted.
    limits: of Origin.send. common: lock_timeout and start_timeout.
    """

    vm: str
    lab: str
    root: Optional[str]
    to_root: Optional[str]
    request: dict[str, Any]
    encrypt: bool
    limits: dict[str, Any]
    common: dict[str, Any]
    check_mode: bool


class Migration:
    """One run. warnings: for the user."""

    def __init__(
        self, origin: Requests, target: Requests, neighbours: list[Neighbour], options: Options
    ) -> None:
        self.origin, self.target = origin, target
        self.neighbours, self.options = neighbours, options
        self.warnings: list[str] = []

    def run(self) -> dict[str, Any]:
        """Migrate the VM; return the result of the module. Raises AnsibleError."""
        found, pieces = self._origin("describe")
        state = self._target("state")[0]["state"]
        if found["state"] == "sent":
            # A run was killed after all was sent.
            if self.options.check_mode:
                return self._changed()
            if state in (*_SETTLED, "other"):
                return self._complete(found["status"], state, {})
            self._recover("")  # the target has lost it
            found, pieces = self._origin("describe")
        if found["state"] == "absent":
            return self._without_origin(state)
        return self._migrate(found, pieces[0] if pieces else b"", state)

    def _without_origin(self, state: str) -> dict[str, Any]:
        if state == "other":
            vm = {} if self.options.check_mode else self._settle()
            return dict(self._result(False), vm=vm)
        if state in _SETTLED:
            # A run was killed before it had completed the target.
            if self.options.check_mode:
                return self._changed()
            return self._complete("running", state, {}, has_origin=False)
        raise MigrationError(
            "vm: neither %s nor %s has a VM %s in the lab %s"
            % (self.origin.name, self.target.name, self.options.vm, self.options.lab)
        )

    def _migrate(self, found: dict[str, Any], data: bytes, state: str) -> dict[str, Any]:
        check_mode, request = self.options.check_mode, self.options.request
        is_left = state not in ("absent", "other")
        if is_left and not check_mode:
            self._target("discard")  # a run was killed, and the guest is still on the origin
        is_encrypted = request["host"] is not None and self.options.encrypt
        request = dict(request, key=secrets.token_hex(32) if is_encrypted else None)
        if not check_mode or not is_left:
            planned = self._target("plan", data, origin=found, request=request)[0]
            self.warnings += planned["warnings"]
        if check_mode:
            for neighbour in self.neighbours:
                self._relink(neighbour)
            return self._changed()
        figures = self._transfer(found, planned["channel"])
        return self._complete(found["status"], "other", figures)

    def _transfer(self, found: dict[str, Any], channel: list[Any]) -> dict[str, Any]:
        """Send the VM while the target waits for it; return figures."""
        options, disks = self.options, [disk["name"] for disk in found["disks"]]
        begin = time.monotonic()
        timeout = options.limits["timeout"] + _GRACE
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            arrival = pool.submit(self._target, "receive", status=found["status"], timeout=timeout)
            try:
                figures = self._origin(
                    "send",
                    to=self.target.name,
                    channel=channel,
                    disks=disks,
                    limits=options.limits,
                )[0]
            except AnsibleError as error:
                self._after_failed_send(error, arrival)
                figures = {}
            else:
                self._after_send(arrival)
        figures["total_time"] = round(time.monotonic() - begin, 3)
        return dict(figures, disk_bytes=sum(disk["allocated"] for disk in found["disks"]))

    def _after_send(self, arrival: concurrent.futures.Future[Any]) -> None:
        """Wait until the guest continues on the target, else let it go on on the origin."""
        try:
            arrival.result()
        except AnsibleError as error:
            try:
                state = self._target("state")[0]["state"]
                if state in ("running", "other"):
                    return
                self._target("discard")
            except AnsibleError as second:
                raise MigrationError(
                    "%s. Whether the guest has continued on %s is unknown (%s), so it stays stopped"
                    " on %s: run this again when both hypervisors answer"
                    % (error.message, self.target.name, second.message, self.origin.name)
                )
            self._recover(error.message)
            raise self._failure(error.message)

    def _after_failed_send(
        self, error: AnsibleError, arrival: concurrent.futures.Future[Any]
    ) -> None:
        """Clean the target, unless the guest has continued there."""
        message = error.message
        try:
            if self._target("state")[0]["state"] in (*_SETTLED, "other"):
                self._after_send(arrival)  # the origin has failed, but had sent everything
                return
            self._target("discard")
        except MigrationError:
            raise
        except AnsibleError as second:
            message += ". The target could not be cleaned up: %s" % second.message
        else:
            self._recover(message)  # if the request was killed, and not only failed
        raise self._failure(message)

    def _failure(self, message: str) -> MigrationError:
        return MigrationError("%s. The VM continues on %s" % (message, self.origin.name))

    def _recover(self, reason: str) -> None:
        """Let the guest go on on the origin."""
        try:
            self._origin("recover")
        except AnsibleError as error:
            raise MigrationError(
                "%s. The guest could not go on on %s either: %s"
                % (reason or "a run was killed", self.origin.name, error.message)
            )

    def _complete(
        self, status: str, state: str, figures: dict[str, Any], has_origin: bool = True
    ) -> dict[str, Any]:
        """Let the guest run on the target, connect its neighbours, and remove it on the origin."""
        if state in _SETTLED:
            self._target("receive", status=status, timeout=self.options.limits["timeout"])
        for neighbour in self.neighbours:
            try:
                self._relink(neighbour)
            except AnsibleError as error:
                self.warnings.append(error.message)
        if has_origin:
            self.warnings += self._origin("remove")[0]["warnings"]
        return dict(self._result(True), vm=self._settle(), **figures)

    def _settle(self) -> dict[str, Any]:
        settled = self._target("settle")[0]
        self.warnings += settled["warnings"]
        vm: dict[str, Any] = settled["vm"]
        return vm

    def _relink(self, neighbour: Neighbour) -> None:
        common = dict(self.options.common, check_mode=self.options.check_mode)
        neighbour.hypervisor.request("relink", nic=neighbour.nic, **common, **neighbour.vm)

    def _changed(self) -> dict[str, Any]:
        return dict(self._result(True), vm={})

    def _result(self, changed: bool) -> dict[str, Any]:
        before, after = self.origin.name, self.target.name
        if before == after:
            before, after = (
                "%s (%s)" % (before, root or "the default root")
                for root in (self.options.root, self.options.to_root)
            )
        changes = [{"option": "hypervisor", "before": before, "after": after, "how": "live"}]
        return {
            "changed": changed,
            "changes": changes if changed else [],
            "diff": {
                "before": {"hypervisor": before} if changed else {},
                "after": {"hypervisor": after} if changed else {},
            },
            "warnings": self.warnings,
        }

    def _origin(self, name: str, data: bytes = b"", **more: Any) -> Any:
        return self.origin.request(name, data, **self._parameters(self.options.root), **more)

    def _target(self, name: str, data: bytes = b"", **more: Any) -> Any:
        return self.target.request(name, data, **self._parameters(self.options.to_root), **more)

    def _parameters(self, root: str | None) -> dict[str, Any]:
        options = self.options
        vm = {"root": root, "lab": options.lab, "vm": options.vm}
        return {**options.common, **vm, "check_mode": options.check_mode}
