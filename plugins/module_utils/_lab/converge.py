# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""One hypervisor's share of a lab: the runs of its VMs, many at a time, and its segments."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Callable

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import Change, module_diff
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    OptionError,
    VlabError,
    report_os_errors,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import make_folder
from ansible_collections.vlab.qemu.plugins.module_utils._lab import lab_record
from ansible_collections.vlab.qemu.plugins.module_utils._lab.address_changes import address_changes
from ansible_collections.vlab.qemu.plugins.module_utils._lab.autostart import LabAutostart
from ansible_collections.vlab.qemu.plugins.module_utils._lab.bridge import Bridge
from ansible_collections.vlab.qemu.plugins.module_utils._lab.content_key import content_key
from ansible_collections.vlab.qemu.plugins.module_utils._lab.facts import available_resources
from ansible_collections.vlab.qemu.plugins.module_utils._lab.lab_lock import lab_lock
from ansible_collections.vlab.qemu.plugins.module_utils._lab.moved import check_placement
from ansible_collections.vlab.qemu.plugins.module_utils._lab.node_run import NodeRun
from ansible_collections.vlab.qemu.plugins.module_utils._lab.origin import (
    Ownership,
    affected_by,
    ownership_of,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab.parallel import (
    failure_facts,
    failure_lines,
    failures,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab.progress import Progress
from ansible_collections.vlab.qemu.plugins.module_utils._lab.segment_ports import SEGMENTS
from ansible_collections.vlab.qemu.plugins.module_utils._lab.segments import (
    Segment,
    find_segments,
    is_removed,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab.shortages import (
    QEMU_OVERHEAD,
    resource_rows,
    shortage_message,
)
from ansible_collections.vlab.qemu.plugins.module_utils._lab.start_scheduler import StartScheduler
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import (
    Folder,
    check_name,
    remove_empty_lab,
    root_folder,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.image_folder import (
    image_folder,
    with_image_paths,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.node_facts import (
    read_node_facts,
    remove_node_facts,
    write_node_facts,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import address_of_root
from ansible_collections.vlab.qemu.plugins.module_utils._vm.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params, Result

# The result of a large lab is long: it has only these keys of each VM, from these parts.
_REPORTING_PARTS = [part for part in PARTS if part.name in ("machine", "consoles", "network")]
_VM_KEYS = ("name", "status", "pid", "accel", "consoles", "nics", "forwards", "monitors")
_MAX_WORKERS = 8  # threads that observe, change and stop VMs: they mostly wait for QEMU


class LabRun:
    """The run of a lab's share on this hypervisor.

    params: the options of qemu_lab and the share that the controller computed:
      vms: the nodes, see NodeRun. segments: [{"name", "bridge"} for a bridge, else {"name"} and
      Settings of segment_ports].
      record: what the controller derived for the record of the lab, see lab_record.Sent.
      by_name: whether there is no topology, and state is for all VMs of the lab.
      origin, placed, queried_lab: see origin.ownership_of.
      limits: {"booting", "memory_overcommit", "vcpu_ratio"}. node_facts: for the inventory.
      progress: the path of the progress file.
    """

    def __init__(self, params: Params, check_mode: bool) -> None:
        self.params, self.check_mode = params, check_mode
        self.lab: str = check_name("lab", params["lab"])
        self.root = root_folder(params.get("root"))
        self.folder = os.path.join(self.root, self.lab)
        self.image_folder = image_folder(self.root, params.get("image_dir"))
        self.settings, self.limits = settings_of(params), params.get("limits") or {}
        # Whether what the topology does not name is removed.
        self.removes_unnamed = params["purge"] or params["state"] == "absent"
        self.nodes = {node["name"]: self._node(node) for node in params["vms"]}
        self.damaged: dict[str, VlabError | None] = {}  # left as they are
        self.failed: dict[str, VlabError] = {}  # damaged ones that were to change
        self.unnamed: list[str] = []
        self.segments: list[Segment] = []
        self.replaced: dict[str, Segment] = {}  # by one of another type
        self.autostart = LabAutostart(self.folder, params)
        self.record = lab_record.LabRecord()
        # What the controller derived, if the record changes.
        self.given_record: lab_record.LabRecord | None = None
        self.address_changes: list[Change] = []
        self.ownership: Ownership
        self.progress = Progress(params.get("progress"))

    def run(self) -> Result:
        """Converge the lab; return the module's result.

        Raises VlabError with everything that is wrong, before any change; with damaged VMs, after
        the others have changed.
        """
        with contextlib.ExitStack() as stack:
            self._lock(stack)
            if lab_record.is_unknown(self.record, self.params.get("record"), self.given_record):
                # The controller derives the share again.
                return {
                    "changed": False,
                    "vms": [],
                    "lab_record": lab_record.to_text(self.record),
                }
            self._observe()
            try:
                self._plan()
            finally:
                # Whose lab it is comes before what keeps this run from changing it.
                self._check_origin()
            if not self.check_mode:
                stack.callback(self.progress.remove_file)
                try:
                    self._apply()
                except VlabError as error:
                    error.facts["progress"] = self.progress.lines
                    raise
                self._save_node_facts()
                if not self.ownership.is_foreign:
                    self.autostart.apply()
            elif self.failed:
                raise _failure(self.failed, "plan")
            result = self._result()
            if result["changed"] and not self.check_mode and self.params["state"] == "absent":
                self._remove_folder()
            return result

    # What there is, and what is asked for.

    def _lock(self, stack: contextlib.ExitStack) -> None:
        """Take the lock of the lab, then look which VMs it has, then take their locks.

        One deadline is for all locks. Every run takes them in this order, so that no two runs wait
        for each other.
        """
        deadline = time.monotonic() + self.settings["lock_timeout"]
        has_root = self.params["state"] != "absent" or os.access(self.root, os.W_OK | os.X_OK)
        stack.enter_context(
            lab_lock(
                self.root,
                self.lab,
                self.settings["lock_timeout"],
                has_root and not self.check_mode,
                self.check_mode,
            )
        )
        self.record = self._read_record()
        self.unnamed = self._unnamed_vms()
        if self.removes_unnamed:
            self._add_nodes(self.unnamed, "absent")
        elif self.params.get("by_name"):
            self._add_nodes([name for name in self.unnamed if self._is_defined(name)])
            self.unnamed = []
        self._find_segments()
        for name in sorted(self.nodes):
            node, left = self.nodes[name], max(0, deadline - time.monotonic())
            create = not self.check_mode and node.state != "absent"
            stack.enter_context(node.folder.locked(create, left, self.check_mode))
            if create:
                stack.callback(node.folder.tidy)
            stack.callback(node.vm.close)
            if node.clone and not node.folder.exists():
                stack.enter_context(node.clone.locked(max(0, deadline - time.monotonic())))

    def _node(self, node: dict[str, Any]) -> NodeRun:
        for nic in node["options"].get("nics") or ():
            if (nic.get("link") or {}).get("type") == "udp":
                _set_addresses(self.root, nic["link"])
        try:
            options = with_image_paths(node["options"], self.image_folder)
        except OptionError as error:
            raise OptionError("nodes.%s.%s" % (node["name"], error.option), error.reason)
        node = dict(node, options=options)
        return NodeRun(self.root, self.lab, node, self.settings, self.params.get("from"))

    def _add_nodes(self, names: list[str], state: str | None = None) -> None:
        """Add VMs that the topology does not name. state: that of the run by default."""
        for name in names:
            node: dict[str, Any] = {
                "name": name,
                "state": state or self.params["state"],
                "options": {},
            }
            self.nodes[name] = self._node(node)

    def _is_defined(self, name: str) -> bool:
        return os.path.exists(Folder(self.root, self.lab, name).definition)

    def _unnamed_vms(self) -> list[str]:
        """Return the VMs of the lab that the topology does not name."""
        try:
            return sorted(
                entry.name
                for entry in os.scandir(self.folder)
                if entry.is_dir()
                and not entry.name.startswith(".")
                and entry.name not in self.nodes
            )
        except OSError:
            return []

    def _find_segments(self) -> None:
        """Find the segments, and plug the NICs of nodes into the bridges."""
        desired = {entry["name"]: entry for entry in self.params.get("segments") or ()}
        for entry in desired.values():
            for port in (entry.get("ports") or {}).values():
                _set_addresses(self.root, port)
        self.segments, self.replaced = find_segments(
            self.root, self.lab, desired, self.removes_unnamed
        )
        scripts = {
            segment.name: segment.attach_script
            for segment in self.segments
            if isinstance(segment, Bridge)
        }
        own = {
            script for name, script in scripts.items() if not desired.get(name, {}).get("is_shared")
        }
        for node in self.nodes.values():
            node.plug_into_segments(scripts, own)

    def _read_record(self) -> lab_record.LabRecord:
        """Return the record of the lab. Raises HostError for a damaged one that is needed.

        One that this run does not change has no allocations: they are not parsed.
        """
        sent = self.params.get("record")
        if sent is not None:
            if lab_record.is_saved(self.folder, sent):
                return lab_record.LabRecord(self.lab, sent["origin"], sent["revision"])
            self.given_record = lab_record.from_sent(sent)
        try:
            record, source = lab_record.read(self.folder), self.params.get("from")
            if source and not record.revision:
                return lab_record.of_origin(os.path.join(self.root, source["lab"]))
            return record
        except HostError:
            if self.params["state"] != "absent" and not (sent and sent["based_on"]):
                raise
            # The removal of the lab needs none, and the controller has that of another hypervisor.
            return lab_record.LabRecord()

    # Observe and plan.

    def _observe(self) -> None:
        self._for_each(self.nodes.values(), NodeRun.observe, "observe")
        for name in [name for name, node in self.nodes.items() if node.is_left_damaged]:
            self.damaged[name] = self.nodes.pop(name).vm.observation.damage
        for name, node in list(self.nodes.items()):
            if node.vm.observation.damage and node.state != "absent":
                self.failed[name] = node.vm.observation.damage_error
                del self.nodes[name]
        for segment in [*self.segments, *self.replaced.values()]:
            segment.observe()
        self.ownership = self._ownership()

    def _ownership(self) -> Ownership:
        existing = {name for name, node in self.nodes.items() if node.exists}
        removed = set(self.unnamed) if self.removes_unnamed else set()
        return ownership_of(
            self.lab,
            self.record.origin,
            frozenset(existing.union(self.unnamed, self.damaged, self.failed)),
            frozenset(self.nodes).union(self.damaged, self.failed) - removed,
            self.params,
        )

    def _plan(self) -> None:
        if self.params["state"] != "absent":
            check_placement(
                [Folder(self.root, self.lab, name) for name in self.unnamed],
                self.params.get("placed") or {},
                {name: node.vm.observation for name, node in self.nodes.items()},
            )
        for node in self.nodes.values():
            node.vm.request_state(node.state, self.params["allow_container"])
        for node in self.nodes.values():
            node.set_carriers(self.nodes)
        try:
            self._for_each(
                self.nodes.values(),
                lambda node: node.plan(self.params["allow_restart"]),
                "plan",
                workers=1,
            )
        except VlabError as error:
            # A node that does not fit by itself is in the table as well.
            self._check_resources(error.message)
            raise
        self._check_resources()
        for segment in [*self.segments, *self.replaced.values()]:
            segment.plan()
        self.address_changes = address_changes(
            read_node_facts(self.root, self.lab), self.params.get("node_facts") or {}
        )

    def _check_origin(self) -> None:
        """Raise OptionError if the VMs of the lab belong to another topology."""
        self.ownership.check(affected_by(self.nodes, self.segments))

    def _check_resources(self, other_error: str = "") -> None:
        """Raise HostError with a table of what this host lacks. other_error: to be added to it."""
        planned = [node for node in self.nodes.values() if node.is_planned]
        starting = [node.vm.desired or {} for node in planned if node.starts]
        if not starting:
            return
        need = {
            "memory_mb": sum(
                desired["memory"] + QEMU_OVERHEAD
                for desired in starting
                if desired["check_host_memory"]
            ),
            "starting": len(starting),
            "vcpus": sum(
                node.vm.desired["vcpus"]
                for node in self.nodes.values()
                if node.vm.desired and node.will_run()
            ),
            "memory_overcommit": self.limits.get("memory_overcommit"),
            "vcpu_ratio": self.limits.get("vcpu_ratio"),
        }
        rows = resource_rows(socket.gethostname(), need, available_resources(self.root))
        if rows:
            message = shortage_message(self.lab, rows)
            raise HostError("\n".join([message, other_error] if other_error else [message]))

    # Apply.

    def _apply(self) -> None:
        self._save_record()
        nodes = list(self.nodes.values())
        changing = [node for node in nodes if node.vm.plan.steps and not node.starts]
        self._for_each(changing, lambda node: node.vm.stop_guest(), "stop")
        # First what frees resources, then what no guest waits for, then the starts.
        self._for_each([n for n in changing if not n.is_running], self._apply_node, "change")
        for segment in self.segments:
            self._apply_segment(segment)
        self._for_each([n for n in changing if n.is_running], self._apply_node, "change")
        remaining = [node for node in nodes if node.state != "absent"]
        failed = {**self.failed, **self._start(remaining)}
        for node in nodes:
            node.save_digest()
        if failed:
            raise _failure(failed, "bring up")
        self._for_each(remaining, lambda node: node.vm.refresh(), "change")

    def _start(self, nodes: list[NodeRun]) -> dict[str, VlabError]:
        """Start the nodes, and wait until they are ready; return {name: error}."""
        wait_ready = self.params["wait_ready"]
        if not any(
            node.starts or node.guest_changes or node.is_running and wait_ready for node in nodes
        ):
            return {}
        if any(node.boots and node.node.get("warm") for node in nodes):
            from ansible_collections.vlab.qemu.plugins.module_utils._lab.template import (
                assign_templates,
            )

            assign_templates(nodes, self.settings)
        for node in nodes:
            if node.starts and not node.boots:
                # All that continue do so at one moment, as they were saved.
                node.after = {}
        return StartScheduler(
            {node.name: node for node in nodes},
            self.limits.get("booting") if any(node.boots for node in nodes) else None,
            wait_ready,
            self.progress.add,
            self.failed,
        ).run()

    def _apply_node(self, node: NodeRun) -> None:
        node.vm.apply()
        options = [change.shown_option for change in node.vm.plan.changes]
        if options == ["state"]:
            state = "removed" if node.state == "absent" else node.state
            self.progress.add("%s is %s" % (node.name, state))
        else:
            self.progress.add("%s: %s" % (node.name, ", ".join(options)))

    def _apply_segment(self, segment: Segment) -> None:
        if segment.changes:
            with report_os_errors("cannot change the segment %s" % segment.name):
                if segment.name in self.replaced:
                    self.replaced[segment.name].apply(self.settings["start_timeout"])
                segment.apply(self.settings["start_timeout"])
            self.progress.add(
                "segment %s is %s" % (segment.name, "removed" if is_removed(segment) else "ready")
            )

    @staticmethod
    def _for_each(
        nodes: Iterable[NodeRun],
        function: Callable[[NodeRun], None],
        what: str,
        workers: int = _MAX_WORKERS,
    ) -> None:
        """Call function for the nodes, several at a time; raise one error for all that failed."""
        failed = failures(nodes, function, workers)
        if failed:
            raise _failure(failed, what)

    def _save_record(self) -> None:
        """Save what the lab has, before anything is made with it, and whose it is."""
        if self.ownership.is_foreign:
            return
        record = lab_record.updated(self.record, self.given_record)
        origin = self.ownership.origin
        if origin != record.origin:
            record = record._replace(name=self.lab, origin=origin, revision=max(1, record.revision))
        if record != self.record and self._keeps_record:
            make_folder(self.root)
            make_folder(self.folder)
            if record == self.given_record:
                lab_record.write_sent(self.folder, self.params["record"])
            else:
                lab_record.write(self.folder, record)
            self.record = record

    @property
    def _keeps_record(self) -> bool:
        """Whether this hypervisor has something of the lab after the run."""
        has_nodes = any(node.state != "absent" for node in self.nodes.values())
        return has_nodes or bool(self.params.get("segments"))

    def _save_node_facts(self) -> None:
        """Save the facts of the nodes; VMs that the topology does not name keep theirs."""
        facts = self.params.get("node_facts")
        # Without any VM and segment, the folder of the lab does not exist.
        if facts and os.path.isdir(self.folder) and not self.ownership.is_foreign:
            kept = {} if self.removes_unnamed else read_node_facts(self.root, self.lab)
            unnamed = {name: kept[name] for name in self.unnamed if name in kept}
            write_node_facts(self.root, self.lab, {**unnamed, **facts})

    def _remove_folder(self) -> None:
        remove_node_facts(self.root, self.lab)
        lab_record.remove(self.folder)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(self.folder, SEGMENTS))
            remove_empty_lab(self.folder)

    # Result.

    def _result(self) -> Result:
        nodes = self.nodes.values()
        changes: list[Change] = [
            change._replace(path=(node.name, *change.path))
            for node in nodes
            for change in (*node.vm.plan.changes, *node.guest_changes)
        ]
        for segment in self.segments:
            changes += segment.changes
        changes += self.address_changes
        if not self.ownership.is_foreign:
            changes += self.autostart.changes
        if self._keeps_record:
            changes += self.ownership.changes
        warnings = [warning for node in nodes for warning in node.vm.warnings]
        warnings += ["%s: %s" % (name, error) for name, error in self.damaged.items()]
        warnings += self.autostart.warnings
        if self.unnamed and not self.removes_unnamed:
            warnings.insert(
                0,
                "the lab has VMs that the topology does not name: %s; purge: true removes them"
                % ", ".join(self.unnamed),
            )
        return {
            "changed": bool(changes) or any(node.vm.plan.changed for node in nodes),
            "changes": [change.result() for change in changes],
            "diff": module_diff(changes),
            "actions": {node.name: node.vm.actions for node in nodes if node.vm.actions},
            "vms": [self._report(node) for node in nodes if node.state != "absent"],
            "progress": self.progress.lines,
            "warnings": warnings,
            "content_key": content_key(nodes),
        }

    def _report(self, node: NodeRun) -> Result:
        vm = node.vm.report(self.check_mode, _REPORTING_PARTS)
        return {key: vm[key] for key in _VM_KEYS}


def _set_addresses(root: str, link: dict[str, Any]) -> None:
    """Give the ends of a link within this host the addresses of this root."""
    for option in ("local_address", "remote_address"):
        if link.get(option):
            link[option] = address_of_root(root, link[option])


def _failure(failed: dict[str, VlabError], what: str) -> VlabError:
    return VlabError(
        "cannot %s %d node%s of the lab:\n%s"
        % (what, len(failed), "" if len(failed) == 1 else "s", failure_lines(failed)),
        failed=failure_facts(failed),
    )


def converge_lab(params: Params, check_mode: bool) -> Result:
    """Bring a lab's share of this hypervisor into its state; return the module's result.

    Raises VlabError.
    """
    return LabRun(params, check_mode).run()
