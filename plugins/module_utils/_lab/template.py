# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Templates: booted guests without a configuration, saved once per host, that nodes continue from.

A template is a suspended VM in the cache folder. Its memory is a file, of which each node has its
own copy of the pages that it writes to. It differs from a node in what a running guest can
still learn: its NICs, which the guest has not probed, and its config drive, whose label makes the
guest wait for another one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
from typing import TYPE_CHECKING, Any, Collection, Iterable, Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    VlabError,
    report_os_errors,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_private_folder,
    size_and_time,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.locks import try_lock
from ansible_collections.vlab.qemu.plugins.module_utils._common.plain_copy import plain_copy
from ansible_collections.vlab.qemu.plugins.module_utils._lab.readiness import Readiness
from ansible_collections.vlab.qemu.plugins.module_utils._remote.cache_folder import (
    cache_folder,
    check_owner,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host, MemoryFile
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.all import PARTS
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.machine import derived_uuid
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.media import seeds
from ansible_collections.vlab.qemu.plugins.module_utils._vm.run import VmRun
from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved import suspend

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._lab.node_run import NodeRun
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Settings,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import Part

_FORMAT = 2  # of the files, and of the agreement with the guest: a new one makes new templates
_LAB = "templates"  # the folder in the cache folder
_MAX_TEMPLATES = 8  # on a host, for each user: each takes up to the memory of its guest
_LABEL, _SAID = "template", "vlab: template"  # see roles/guest_image/files/guest/functions
_MIN_SHARING = 3  # nodes: making a template takes as long as booting one or two
_BOOT_TIMEOUT = 180  # seconds
_NIC_MODEL = "virtio-net-pci"  # it takes its MAC address from the command line when it is probed
# Options that a guest with a template cannot have, and the values that mean "none".
_EXCLUDED: dict[str, Any] = {
    "disks": [],
    "cdroms": [],
    "floppies": [],
    "cloud_init": None,
    "tftp_files": None,
    "passthrough": [],
    "tpm": False,
    "wrapper": [],
    "fds": [],
    "display": {"type": "none"},
}
# What a template has instead of the options of the node; nothing of it is visible in the guest.
_NEUTRAL: dict[str, Any] = {
    "description": "",
    "digest": None,
    "environment": {},
    "ports": {},
    "monitors": [],
    "cpu_limit": 0,
    "priority": "normal",
    "check_host_memory": True,
    "lab": _LAB,
    "mac_base": None,
    "mac_copy_from": None,
}


def unsuitable(definition: Definition) -> str | None:
    """Return why a VM cannot continue from a template, or None."""
    drive = definition["config_drive"]
    if not definition["kernel"] or not definition["initrd"]:
        return "it does not boot a kernel with an initrd"
    if not drive or (drive["bus"], drive["format"], drive["label"]) != ("virtio", "iso", "config"):
        return "it has no config drive with the label config, the format iso and the bus virtio"
    for option, none in _EXCLUDED.items():
        if definition[option] != none:
            return "it has the option %s" % option
    for nic in definition["nics"]:
        if nic["model"] != _NIC_MODEL or nic["boot_rom"]:
            return "nics[%s] is no %s without a boot ROM" % (nic["name"], _NIC_MODEL)
    return next((reason for part in PARTS for reason in _blockers(part, definition)), None)


def _blockers(part: Part, definition: Definition) -> list[str]:
    return part.memory_blockers(definition) + part.sharing_blockers(definition)


def template_of(definition: Definition) -> Definition:
    """Return the definition of the template of a node, without a name and a UUID."""
    nics = [
        dict(
            nic,
            mac="02:00:00:00:00:%02x" % number,
            link={"type": "none"},
            link_down=False,
            capture=None,
        )
        for number, nic in enumerate(definition["nics"])
    ]
    consoles = [
        {"name": console["name"], "type": "unix", "log": True, "host": None, "port": None}
        for console in definition["consoles"]
    ]
    more = {"nics": nics, "consoles": consoles, "config_drive": None, "name": "", "uuid": ""}
    template: Definition = plain_copy(dict(definition, **_NEUTRAL, **more))
    for digest in ("bootstrap", "exec"):
        template.pop(digest, None)
    return template


def _config_drive() -> dict[str, Any]:
    drive = seeds.config_drive("config_drive", {"files": {_LABEL: ""}, "label": _LABEL})
    return drive or {}


def template_key(template: Definition, host: Host) -> str:
    """Return the name of a template: a digest of all that its saved state depends on.

    host: of a node, after its plan.
    """
    files = [host.binary, template["kernel"], template["initrd"]]
    states = [(path, size_and_time(path)) for path in files]
    parts = [_FORMAT, host.accel, host.capabilities.version_text, states, template]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:24]


class Template:
    """A template, in one run of a lab.

    key, definition: of template_key and template_of. arch: of the QEMU binary.
    """

    def __init__(self, key: str, definition: Definition, arch: str, settings: Settings) -> None:
        self.key, self.definition, self.arch, self.settings = key, definition, arch, settings
        self.folder = Folder(cache_folder(), _LAB, key)
        self._lock = threading.Lock()
        self._error: VlabError | None = None

    @property
    def _memory(self) -> str:
        return self.folder.file("ram")

    def exists(self) -> bool:
        """Whether the template is there."""
        try:
            # QEMU would create an empty file for a missing one.
            is_complete = os.path.getsize(self._memory) == self.definition["memory"] << 20
        except OSError:
            return False
        return is_complete and os.path.exists(self.folder.suspended)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the files of the template during the block, in which a node starts from them.

        QEMU reads them one by one: after a change in between, the guest would have wrong memory.
        Raises HostError if another run removes templates.
        """
        with _lock_files(is_shared=True) as is_locked:
            if not is_locked:
                raise HostError("another run is removing templates")
            yield

    def obtain(self, host: Host) -> None:
        """Let the next start of a node continue from the template, which is made if it is missing.

        Raises VlabError, also if it failed for another node of this run.
        """
        from ansible_collections.vlab.qemu.plugins.module_utils._vm.saved.record import SavedState

        with self._lock:
            if self._error:
                raise self._error
            try:
                self._make_once()
            except VlabError as error:
                self._error = error
                raise
        state = SavedState(self.folder, None)
        host.load(state.memory, state.load(), is_template=True)
        host.memory_file = MemoryFile(self._memory, is_shared=False)

    def discard(self) -> None:
        """Remove the saved state, which QEMU cannot load: the next run makes another."""
        with contextlib.suppress(VlabError), _lock_files(is_shared=False) as is_locked:
            if is_locked:  # otherwise, another node has not started yet
                suspend.discard(self.folder)

    def _make_once(self) -> None:
        with self.folder.locked(True, _BOOT_TIMEOUT + self.settings["lock_timeout"]):
            self._check_owner()
            if not self.exists():
                suspend.discard(self.folder)  # without the memory, the rest is of no use
                self._make()
            with contextlib.suppress(OSError):
                os.utime(self.folder.path)  # see _remove_unused

    def _check_owner(self) -> None:
        with report_os_errors("cannot use the template %s" % self.folder.path):
            check_owner(self.folder.path)

    def _make(self) -> None:
        """Boot the guest until it waits for a configuration, and suspend it."""
        try:
            self._converge("started")
            self._converge("suspended")
        except VlabError:
            with contextlib.suppress(VlabError):
                self._converge("absent")
            raise

    def _converge(self, state: str) -> None:
        policy = dict(self.settings["shutdown"], acpi=False)
        host = Host(self.folder)
        host.memory_file = MemoryFile(self._memory, is_shared=True)
        run = VmRun(host, dict(self.settings, shutdown=policy))
        try:
            run.observe()
            run.request_state(state, allow_container=True)
            run.make_plan(self._compose, allow_restart=True)
            run.apply()
            observation = run.observation
            if state == "started" and observation.pid and observation.start:
                ready = {"console": _SAID, "failed": "Kernel panic", "timeout": _BOOT_TIMEOUT}
                began = observation.run.get("console_from", 0)
                Readiness(self.folder, run.desired or {}, ready, observation.monitor, began).wait(
                    observation.pid, observation.start
                )
        finally:
            run.close()

    def _compose(self, saved: Definition | None, host: Host) -> Definition:
        host.find(self.arch, self.definition["qemu_binary"] or None)
        if saved:
            return dict(saved)
        definition = dict(
            self.definition,
            name=self.key,
            uuid=derived_uuid(_LAB, self.key),
            config_drive=_config_drive(),
        )
        seeds.finish("config_drive", definition, None, host)
        return definition


def _lock_files(is_shared: bool) -> contextlib.AbstractContextManager[bool]:
    """Lock the files of all templates, to read them (is_shared) or to remove some."""
    make_private_folder(cache_folder())
    return try_lock(os.path.join(cache_folder(), "%s.lock" % _LAB), is_shared)


def _remove_unused(used: Collection[str]) -> None:
    """Remove the templates that were not used for the longest time, if there are too many.

    used: the keys of those that this run uses.
    """
    folder = os.path.join(cache_folder(), _LAB)
    with contextlib.suppress(OSError, VlabError), _lock_files(is_shared=False) as is_locked:
        if not is_locked:
            return
        names = [entry.name for entry in os.scandir(folder) if entry.name not in used]
        names.sort(key=lambda name: os.stat(os.path.join(folder, name)).st_mtime, reverse=True)
        for name in names[max(0, _MAX_TEMPLATES - len(used)) :]:
            with contextlib.suppress(VlabError):
                # Not one that another run makes.
                with Folder(cache_folder(), _LAB, name).locked(create=False, timeout=0):
                    shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def assign_templates(nodes: Iterable[NodeRun], settings: Settings) -> None:
    """Set the template of each node that is to start from one; all nodes have been planned.

    With warm: auto, a node boots if no template exists, and too few nodes of the run share it.
    """
    sharing: dict[str, list[NodeRun]] = {}
    definitions: dict[str, Definition] = {}
    nodes = list(nodes)
    for node in nodes:
        definition = node.vm.desired
        if not node.node.get("warm") or definition is None or not node.boots:
            continue
        reason = unsuitable(definition)
        if reason:
            if node.node["warm"] is True:
                node.vm.host.warn("%s boots without a template: %s" % (node.name, reason))
            continue
        template = template_of(definition)
        key = template_key(template, node.vm.host)
        definitions[key] = template
        sharing.setdefault(key, []).append(node)
    for key, group in sharing.items():
        shared = Template(key, definitions[key], group[0].vm.host.arch, settings)
        is_worthwhile = len(group) >= _MIN_SHARING or shared.exists()
        for node in group:
            if is_worthwhile or node.node["warm"] is True:
                node.template = shared
    used = {node.template.key: node.template for node in nodes if node.template}
    if not all(template.exists() for template in used.values()):
        _remove_unused(used)
