# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A clone: a new VM that continues from a snapshot of another one.

Its disks are overlays over the layers of the snapshot, which are base images then, and QEMU loads
the memory of the snapshot. What the guest sees, such as its UUID and its MAC addresses, is that of
the origin. The definition has the origin under "origin": {lab, vm, snapshot}.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Collection, ContextManager, Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import RESTART, Change
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import write_atomically
from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import (
    boot_id,
    process_start_time,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import names_hint
from ansible_collections.vlab.qemu.plugins.module_utils._vm import addresses
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import (
    Folder,
    check_name,
    no_such_vm,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.items import by_name
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.consoles import log_name
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import links
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage import bases
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.storage.image_users import (
    definitions as all_definitions,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import layers
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.plan import check_loadable
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import (
    Record,
    SavedState,
    snapshots,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qemu_img import QemuImg
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host

# Links that lead to nothing that another VM is on.
_OWN_LINKS = ("none", "user", "passt")
# Links to a network of the host, where each MAC address must be there once.
_SHARED_LINKS = ("tap", "bridge", "mcast", "vde")
# Parts whose live changes are changes of devices.
_DEVICE_PARTS = ("storage", "media")
_MAX_LOG = 1 << 20  # bytes of the console's log that a clone gets


class Clone:
    """The making of one clone. folder: of the new VM. lab, vm, snapshot: the origin.

    own_scripts: the scripts of taps that lead to bridges of the new lab.
    """

    def __init__(self, folder: Folder, lab: str, vm: str, snapshot: str) -> None:
        self.folder, self.origin = folder, {"lab": lab, "vm": vm, "snapshot": snapshot}
        self.state = SavedState(Folder(folder.root, lab, vm), check_name("from", snapshot))
        if self.state.vm.path == folder.path:
            raise OptionError("from", "the VM %s cannot be a clone of itself" % folder.name)
        self.record: Record = {}
        self.own_scripts: Collection[str] = ()

    def locked(self, timeout: float) -> ContextManager[None]:
        """Hold the lock of the origin during a block: nobody removes the snapshot meanwhile."""
        return self.state.vm.locked(False, timeout)

    def check_same_origin(self, saved: Definition) -> None:
        """Raise OptionError for a VM that exists and does not come from this snapshot."""
        found = saved.get("origin")
        if found != self.origin:
            raise OptionError(
                "from",
                "the VM %s exists, and %s, not a clone of %s: remove it first, or leave from out"
                % (
                    self.folder.name,
                    "is a clone of " + _text(found) if found else "was made without a snapshot",
                    _text(self.origin),
                ),
            )

    def load(self) -> None:
        """Load the record of the snapshot. Raises OptionError if this host does not have it."""
        vm, name = self.state.vm, self.origin["snapshot"]
        if not vm.exists():
            raise OptionError("from", no_such_vm(vm))
        if not self.state.exists():
            names = sorted(state.name or "" for state in snapshots(vm) if state.exists())
            raise OptionError(
                "from",
                "the VM %s of the lab %s has no snapshot %s on this host: %s"
                % (vm.name, vm.lab, name, names_hint(name, names)),
            )
        self.record = self.state.load()
        for disk in self.record["definition"]["disks"]:
            is_left = disk["read_only"] or disk["snapshot"]
            if is_left and bases.is_owned(vm, disk) and disk["name"] not in self.record["disks"]:
                raise OptionError(
                    "from",
                    "the disk %s of the VM %s is not in its snapshots: give the disk a path outside"
                    " the folder of the VM" % (disk["name"], vm.name),
                )

    @property
    def has_memory(self) -> bool:
        """Whether the guest continues where it was."""
        return bool(self.record.get("memory"))

    def check_state(self, state: str) -> None:
        """Raise OptionError for a state in which the saved memory would be lost."""
        if self.has_memory and state not in ("started", "paused"):
            raise OptionError(
                "from",
                "a clone continues from the saved memory at once: use state: started or paused to"
                " make the VM %s, not %s" % (self.folder.name, state),
            )

    # Plan.

    def _layers(self) -> list[layers.Layer]:
        """Return the disks; after a killed run, the next one makes the same overlays."""
        digest = hashlib.sha256("\0".join(self.origin.values()).encode("utf-8")).hexdigest()[:8]
        return [
            layers.Layer(
                disk,
                self.state.vm.file(layer),
                self.folder.file("%s.%s.qcow2" % (disk, digest)),
            )
            for disk, layer in self.record["disks"].items()
        ]

    def definition(self) -> Definition:
        """Return the definition of the origin as that of the new VM, which has no ports yet."""
        definition = addresses.without_slots_at_start(plain_copy(self.record["definition"]))
        definition = layers.with_overlays(definition, self._layers())
        definition.pop("digest", None)
        return dict(
            definition,
            lab=self.folder.lab,
            name=self.folder.name,
            ports={},
            origin=self.origin,
        )

    def check_definition(self, desired: Definition) -> None:
        """Raise a VlabError for what does not fit the saved memory, or a running relative."""
        base = self.definition()
        if self.has_memory:
            _check_same_devices(base, desired)
        before = by_name(base["nics"])
        for nic in desired["nics"]:
            link, old = nic["link"], before.get(nic["name"], {}).get("link")
            if self._is_shared(link) or link == old and link["type"] not in _OWN_LINKS:
                self._check_alone("nics[%s].link" % nic["name"], link)
        self._check_ports(desired)

    def _check_ports(self, desired: Definition) -> None:
        """Raise OptionError for a port that the origin or another clone of it has."""
        fixed = {
            (request.protocol, request.port): request.option
            for request in definitions.port_requests(desired)
            if request.port != "auto"
        }
        for relative in self._relatives() if fixed else ():
            try:
                definition = definitions.load(relative) or {}
            except HostError:
                continue  # its own runs report it
            for request in definitions.port_requests(definition) if definition else ():
                key = request.protocol, definition["ports"].get(request.key)
                if key in fixed:
                    raise OptionError(
                        fixed[key],
                        "the VM %s of the lab %s has port %s/%s: give the clone another one, or"
                        " auto" % (relative.name, relative.lab, *key),
                    )

    def _is_shared(self, link: dict[str, Any]) -> bool:
        return link["type"] in _SHARED_LINKS and link.get("script") not in self.own_scripts

    def _check_alone(self, option: str, link: dict[str, Any]) -> None:
        """Raise OptionError for a link with which the origin, or another clone, is running."""
        for relative in self._relatives():
            if is_running(relative):
                raise OptionError(
                    option,
                    "the clone has the MAC addresses of the VM %s of the lab %s, which runs, and a"
                    " link of type %s would bring both onto one network: stop that one, or give"
                    " the clone another link" % (relative.name, relative.lab, link["type"]),
                )

    def _relatives(self) -> Iterator[Folder]:
        """Yield the origin and its other clones."""
        yield self.state.vm
        for lab, name, definition in all_definitions(self.folder.root):
            found = definition.get("origin")
            is_relative = isinstance(found, dict) and all(
                found.get(key) == self.origin[key] for key in ("lab", "vm")
            )
            if is_relative and (lab, name) != (self.folder.lab, self.folder.name):
                yield Folder(self.folder.root, lab, name)

    def plan_load(self, host: Host) -> None:
        """Let the first start load the saved memory."""
        if self.has_memory:
            host.load(self.state.memory, dict(self.record, console_from=0))

    def check_load(self, host: Host) -> None:
        """Raise HostError if this QEMU cannot load the saved memory; host.accel is chosen."""
        machine = host.capabilities.machine_name(self.record["machine_type"] or "")
        check_loadable(self.record, list(host.capabilities.version), machine, host.accel)

    # Apply.

    def make_files(self, qemu_img: QemuImg) -> None:
        """Make the overlays and the other files of the guest in the folder of the new VM."""
        layers.make_overlays(self._layers(), qemu_img)
        self.state.restore_files(self.record["files"], self.folder)
        self._copy_log()
        if self.has_memory:
            # If this run is killed before the start, the next one continues the guest.
            suspended = SavedState(self.folder, None)
            suspended.remove()
            suspended.make()
            suspended.share_memory(self.state)
            suspended.save(dict(self.record, console_from=0))

    def _copy_log(self) -> None:
        """Copy what the first console has shown until the snapshot: nodes are ready by that."""
        definition, end = self.record["definition"], self.record.get("console_to", 0)
        if not definition["consoles"] or not end:
            return
        name = log_name(definition["consoles"][0])
        begin = max(self.record["console_from"], end - _MAX_LOG)
        try:
            with open(self.state.vm.file(name), "rb") as stream:
                stream.seek(begin)
                content = stream.read(max(0, end - begin))
        except OSError:
            return  # the origin has no log any more
        write_atomically(self.folder.file(name), content)


def clone_of(folder: Folder, given: dict[str, Any]) -> Clone:
    """Return the clone that the option from of qemu_vm asks for."""
    return Clone(folder, given["lab"] or folder.lab, given["vm"], given["snapshot"])


def _check_same_devices(base: Definition, desired: Definition) -> None:
    changes = [change for part in PARTS for change in part.compare(base, desired)]
    options = sorted({change.option for change in changes if changes_machine(change)})
    if options:
        raise OptionError(
            "from",
            "the guest continues on the machine that was saved, and the definition has another"
            " one now: %s. Take a new snapshot, or give what it was" % ", ".join(options),
        )


def changes_machine(change: Change) -> bool:
    """Whether a guest that continues would find another machine."""
    if change.path[0] in ("mac_base", "mac_copy_from"):
        return False
    if change.part == "network" and change.path[-1] == "link":
        # A hub is between the card and the link, unless one of the links is direct.
        return links.is_direct(change.before) or links.is_direct(change.after)
    is_device = change.verb in ("add", "remove") or change.part in _DEVICE_PARTS
    return change.how == RESTART or change.is_live and is_device


def is_running(folder: Folder) -> bool:
    """Whether QEMU runs, by the record of its run."""
    try:
        run = definitions.load_run(folder)
    except HostError:
        return False  # damaged: its own runs report it
    if not run.get("pid") or run["boot_id"] != boot_id():
        return False
    return bool(process_start_time(run["pid"]) == run["start"])


def clones_of(state: SavedState) -> list[str]:
    """Return the names of the clones of a snapshot: LAB/VM."""
    origin = {"lab": state.vm.lab, "vm": state.vm.name, "snapshot": state.name}
    return [
        "%s/%s" % (lab, name)
        for lab, name, definition in all_definitions(state.vm.root)
        if definition.get("origin") == origin
    ]


def _text(origin: dict[str, Any]) -> str:
    return "the snapshot %s of the VM %s of the lab %s" % (
        origin["snapshot"],
        origin["vm"],
        origin["lab"],
    )
