# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""One node of a lab on this hypervisor: the run of its VM, and what the lab asks of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Collection

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._lab.readiness import check_ready
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import without_none
from ansible_collections.vlab.qemu.plugins.module_utils._vm.run import VmRun

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import Change
    from ansible_collections.vlab.qemu.plugins.module_utils._lab.bootstrap import Bootstrap
    from ansible_collections.vlab.qemu.plugins.module_utils._lab.commands import Commands
    from ansible_collections.vlab.qemu.plugins.module_utils._lab.template import Template
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Params,
        Settings,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.clone import Clone


class NodeRun:
    """The run of one node.

    node: {"name", "state", "options"}, with empty options for one that keeps its definition, and
    optionally: "ready": readiness checks; "bootstrap": a script, see Bootstrap; "exec":
    commands, see Commands; "after": {node:
    "started" or "ready"}; "awaited": whether another hypervisor waits for it; "later": whether a
    later call of this run starts it; "warm": whether it starts from a template, or auto;
    "shutdown": what of the policy in settings is different for it.
    state: of qemu_vm, or keep: leave the VM as it is.
    source: {"lab", "checkpoint"} that a new VM is cloned from, or None.
    A NIC in options may have: "segment": the segment that it is plugged into; "peer": the node at
    the other end of its link, if that is on this host; "spare": it is only for a guest that starts.
    """

    def __init__(
        self,
        root: str,
        lab: str,
        node: dict[str, Any],
        settings: Settings,
        source: dict[str, str] | None = None,
    ) -> None:
        self.name: str = node["name"]
        self.state: str = node["state"]
        self.node = node
        self.ready: dict[str, Any] = node.get("ready") or {}
        self.after: dict[str, str] = node.get("after") or {}
        self.bootstrap: Bootstrap | None = None
        self.commands: Commands | None = None
        # What it starts from, if it does not boot.
        self.template: Template | None = None
        # A VM that the run leaves as it is, and that is damaged.
        self.is_left_damaged = False
        self.folder = Folder(root, lab, self.name)
        if node.get("shutdown"):
            policy = {**settings["shutdown"], **without_none(node["shutdown"])}
            settings = dict(settings, shutdown=policy)
        self.vm = VmRun(Host(self.folder), settings)
        self.clone: Clone | None = None
        if source and self.state != "absent":
            # Most runs make no clone.
            from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.clone import Clone

            self.clone = Clone(self.folder, source["lab"], self.name, source["checkpoint"])

    def observe(self) -> None:
        """Observe the VM."""
        self.vm.observe()
        if self.state == "keep":
            is_defined = self.vm.observation.saved or self.vm.observation.damage
            self.state = "present" if is_defined else "absent"
            self.is_left_damaged = self.vm.observation.damage is not None

    def plan(self, allow_restart: bool) -> None:
        """Plan the changes of the VM. Raises VlabError."""
        if self.state != "absent":
            check_ready("nodes.%s" % self.name, self.ready)
            if self.clone:
                self.vm.make_clone(self.clone)
        self.vm.make_plan(self._compose, allow_restart)
        if self.node.get("bootstrap") and self.vm.desired:
            from ansible_collections.vlab.qemu.plugins.module_utils._lab.bootstrap import Bootstrap

            self.bootstrap = Bootstrap(self.folder, self.node["bootstrap"])
            self.bootstrap.plan(self.vm.desired, self.is_running, self.boots)
            if self.bootstrap.warning:
                self.vm.host.warn(self.bootstrap.warning)
        if self.node.get("exec") and self.vm.desired:
            from ansible_collections.vlab.qemu.plugins.module_utils._lab.commands import Commands

            self.commands = Commands(self.folder, self.node["exec"])
            self.commands.plan(self.vm.desired, self.is_running, self.boots)

    def plug_into_segments(self, scripts: dict[str, str], own: Collection[str]) -> None:
        """Plug NICs into bridges.

        scripts: {segment: the script that adds a tap to its bridge}. own: the scripts of bridges
        that no other lab has.
        """
        if self.clone:
            self.clone.own_scripts = own
        for nic in self.node["options"].get("nics", ()):
            segment = nic.pop("segment", None)
            if segment:
                nic["link"] = {"type": "tap", "script": scripts[segment]}

    def set_carriers(self, nodes: dict[str, NodeRun]) -> None:
        """Take the carrier from NICs whose peer on this host will not run."""
        for nic in self.node["options"].get("nics", ()):
            peer = nodes.get(nic.pop("peer", ""))
            if peer is not None and not peer.will_run():
                nic["link_down"] = True

    def will_run(self) -> bool:
        """Whether QEMU runs after this run, or after a later call of it."""
        if self.state == "present":
            return self.vm.observation.alive or bool(self.node.get("later"))
        # The others see a suspended guest as one that stands still.
        return self.state in ("started", "paused", "suspended")

    @property
    def exists(self) -> bool:
        """Whether there was a VM before this run."""
        return self.vm.observation.saved is not None or self.vm.observation.damage is not None

    @property
    def starts_later(self) -> bool:
        """Whether a later call of this run starts a VM that exists and does not run."""
        return bool(self.node.get("later")) and self.exists and not self.vm.observation.alive

    @property
    def is_planned(self) -> bool:
        """Whether the plan could be made."""
        return hasattr(self.vm, "plan")

    @property
    def starts(self) -> bool:
        """Whether QEMU is started."""
        return self.vm.plan.starts

    @property
    def boots(self) -> bool:
        """Whether QEMU is started, and its guest boots."""
        return self.starts and not self.vm.observation.suspended and not self.vm.host.saved_memory

    @property
    def guest_changes(self) -> list[Change]:
        """What is typed on the console and run in the guest, as changes."""
        return [part.change for part in (self.bootstrap, self.commands) if part and part.change]

    @property
    def has_commands(self) -> bool:
        """Whether commands are run once it is ready."""
        return bool(self.commands and self.commands.change)

    def type_bootstrap(self) -> None:
        """Type the first configuration, if the plan has it. Raises GuestError."""
        if self.bootstrap and self.bootstrap.change and self.vm.desired:
            self.bootstrap.run(self.vm.desired, self.vm.observation, self.boots)

    def run_commands(self) -> None:
        """Run the commands, if the plan has them. Raises GuestError."""
        if self.commands and self.commands.change and self.vm.desired:
            self.commands.run(self.vm.desired, self.vm.observation)

    def start(self) -> None:
        """Start QEMU, from a template if the node has one; the guest does not run yet.

        Raises VlabError.
        """
        host, is_loaded = self.vm.host, False
        with contextlib.ExitStack() as stack:
            if self.template:
                try:
                    stack.enter_context(self.template.kept())
                    self.template.obtain(host)
                    is_loaded = True
                except VlabError as error:
                    host.warn("%s boots without a template: %s" % (self.name, error.message))
            self.vm.apply(defer_resume=True)
        if self.template and is_loaded and not host.is_template:
            self.template.discard()

    @property
    def is_running(self) -> bool:
        """Whether the guest runs after this run."""
        return self.state == "started"

    def masked_options(self) -> Params:
        """Return the options without the display password."""
        return _masked(self.node["options"])

    def save_digest(self) -> None:
        """Save the digest of the options, if nothing else had to be saved."""
        desired, saved = self.vm.desired, self.vm.observation.saved
        if (
            desired
            and saved
            and not self.vm.plan.steps
            and saved.get("digest") != desired["digest"]
        ):
            definitions.save(self.folder, desired)

    def _compose(self, saved: Definition | None, host: Host) -> Definition:
        """Compose the desired definition, or reuse the saved one if the options are the same."""
        options: Params = self.node["options"]
        if not options and saved:
            # Without its topology, the VM stays as it is defined.
            return _as_saved(saved, host)
        base = host.clone.definition() if host.clone else saved
        if base and "origin" in base:
            options = definitions.without_identity(options)
        nic_names = {nic["name"] for nic in (base or {}).get("nics", ())}
        # A running VM gets spare NICs at its next start.
        postponed = {
            nic["name"]
            for nic in options["nics"]
            if "spare" in nic and self._keeps_devices and nic["name"] not in nic_names
        }
        digest = _digest(options, (saved or {}).get("digest"))
        if postponed:
            digest += " without %d" % len(postponed)
        if saved and saved.get("digest") == digest and not _display_password(options):
            desired = _as_saved(saved, host)
        else:
            nics = [
                {key: value for key, value in nic.items() if key != "spare"}
                for nic in options["nics"]
                if nic["name"] not in postponed
            ]
            desired = definitions.compose(base, self._with_unused_nics(options, nics, base), host)
        if host.clone:
            host.clone.check_definition(desired)
        if saved and saved.get("digest") != digest:
            saved["digest"] = None
        desired["digest"] = digest
        return desired

    @property
    def _keeps_devices(self) -> bool:
        """Whether the guest runs, or ran when it was saved."""
        clone = self.vm.host.clone
        return self.vm.observation.alive or clone is not None and clone.has_memory

    def _with_unused_nics(
        self, options: Params, nics: list[dict[str, Any]], saved: Definition | None
    ) -> Params:
        """Return the options with nics, and with those that the lab no longer uses.

        A running guest keeps such a NIC without a link; otherwise it is removed.
        """
        if not self._keeps_devices:
            return dict(options, nics=nics, purge_nics=True)
        names = {nic["name"] for nic in nics}
        unused = [
            {"name": nic["name"], "link": {"type": "none"}, "capture": {"enabled": False}}
            for nic in (saved or {}).get("nics", ())
            if nic["name"] not in names
        ]
        return dict(options, nics=nics + unused)


def _as_saved(saved: Definition, host: Host) -> Definition:
    """Return a saved definition as the desired one. A digest of its options stays with it."""
    host.find(saved["arch"], saved["qemu_binary"] or None)
    return dict({"digest": None}, **saved)


def _display_password(options: Params) -> str | None:
    return (options.get("display") or {}).get("password")


def _masked(options: Params) -> Params:
    """Return options with whether there is a display password, not with the password."""
    if not _display_password(options):
        return options
    return dict(options, display=dict(options["display"], password=True))


def _digest(options: Params, saved: str | None) -> str:
    """Return the digest of the options, which is kept in the definition.

    It covers whether there is a display password, not the password. Other options may have
    passwords in them: the digest begins with a salt, which is that of the saved digest.
    """
    salt = (saved or "").rpartition(":")[0] or os.urandom(8).hex()
    text = salt + json.dumps(_masked(options), sort_keys=True)
    return "%s:%s" % (salt, hashlib.sha256(text.encode("utf-8")).hexdigest())
