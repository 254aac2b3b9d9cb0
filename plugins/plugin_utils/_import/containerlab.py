# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Import a topology file of containerlab: nodes of vrnetlab, bridges, and their links."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import import (
    clab_kinds,
    clab_links,
    clab_settings,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.file_text import FileText
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Lab, Options, Peer, Vm
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import (
    LabFileError,
    excerpt,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.names import valid_name
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.qemu_arguments import (
    apply_text,
    set_cpus,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import Report

_OF_THE_TOOL = "a setting of containerlab itself"
_TOP_DROPPED = {"prefix": _OF_THE_TOOL, "debug": _OF_THE_TOOL, "settings": _OF_THE_TOOL}
_STAGE_STATES = {"healthy": "ready"}


def is_containerlab(data: Any) -> bool:
    """Return whether the data of a YAML file is a lab of containerlab."""
    return (
        isinstance(data, dict)
        and isinstance(data.get("topology"), dict)
        and "nodes" in data["topology"]
        and "revision" not in data
    )


def import_containerlab(given: FileText, report: Report, options: Options) -> Lab:
    """Return the lab that a text describes. Raise LabFileError."""
    text = given.text
    if "{{" in text and ("{{-" in text or re.search(r"\{\{\s*(range|if|end|\.|\$)", text)):
        reason = (
            "it is a template: render it first, for example with containerlab generate or gomplate"
        )
        raise LabFileError(report.file, [("", reason)])
    data = given.yaml
    if not is_containerlab(data):
        raise LabFileError(
            report.file, [("topology.nodes", "it is missing: no lab of containerlab")]
        )
    return _Importer(data, report, options).run()


class _Importer:
    """The import of one file."""

    def __init__(self, data: Any, report: Report, options: Options) -> None:
        self.report, self.options = report, options
        self.lab = Lab(report, options)
        self.top = Fields(report, "", data)
        self.texts = clab_settings.Variables(report.file, options.variables)
        self.peers: dict[str, Peer] = {}
        self.sources: dict[str, Fields] = {}

    def run(self) -> Lab:
        """Import everything."""
        self.lab.set_name(self.texts.replaced(self.top.text("name", "name"), "name"))
        topology = self.top.fields("topology")
        layers = clab_settings.Layers(self.report, topology)
        for name, own in topology.fields("nodes").data.items():
            place = "topology.nodes." + name
            if not own:
                self.report.mapped(place, "a node")
            self._add(name, place, layers.of_node(name, Fields(self.report, place, own)))
        for name, settings in self.sources.items():
            peer = self.peers[name]
            if isinstance(peer, Vm):
                self._start_order(peer, settings)
        layers.report_levels()
        clab_links.Links(self.lab, self.peers, self.texts).add(topology)
        topology.opened("nodes")
        self.lab.vars.update(topology.close())
        self.lab.vars.update(self.top.close(_TOP_DROPPED))
        return self.lab

    def _add(self, name: str, place: str, settings: Fields) -> None:
        kind = self.texts.replaced(settings.text("kind", "kind"), place + ".kind")
        if not kind:
            reason = "the node has no kind: set it here, in its group, or in defaults"
            raise LabFileError(self.report.file, [(place + ".kind", reason)])
        default, reason = clab_kinds.decision(kind)
        peer = self.peers[name] = self.lab.add_peer(name, place, kind, default, reason)
        self.sources[name] = settings
        labels = self._labels(peer, settings)
        if not isinstance(peer, Vm):
            for fields in (settings, *labels):
                for key in list(fields.data):
                    fields.dropped(key, "the node is no VM of the lab")
            return
        kept = [fields.close() for fields in labels]
        if any(kept):
            peer.imported["labels"] = kept[0]
        self._image(peer, settings)
        self._group(peer, settings)
        self._environment(peer, settings)
        self._config(peer, settings, name)
        self._commands(peer, settings, clab_kinds.is_container(kind))
        settings.opened("stages")
        settings.dropped("startup-delay", "limits.booting and after order the start of nodes")
        peer.imported.update({"kind": kind})
        peer.imported.update(settings.close(clab_settings.OF_THE_CONTAINER))

    def _image(self, vm: Vm, settings: Fields) -> None:
        image = self.texts.replaced(
            settings.text("image", "the images of the lab"), settings.place("image")
        )
        self.lab.want_image(vm, image or "not named")

    def _group(self, vm: Vm, settings: Fields) -> None:
        group = settings.text("group", "groups")
        if group:
            self.lab.groups.setdefault(valid_name(group, "group"), []).append(vm.name)

    def _environment(self, vm: Vm, settings: Fields) -> None:
        if "env" not in settings:
            return
        env = settings.fields("env")
        memory = env.text("QEMU_MEMORY", "memory")
        if memory:
            memory = self.texts.replaced(memory, env.place("QEMU_MEMORY"))
            if not re.fullmatch(r"\d{1,9}[MG]?", memory):
                env.fail("QEMU_MEMORY", "%s is not an amount of memory" % excerpt(memory))
            vm.settings["memory"] = int(memory) if memory.isdigit() else memory
        cpus = self.texts.replaced(env.text("QEMU_SMP", "vcpus"), env.place("QEMU_SMP"))
        if cpus and not set_cpus(vm.settings, cpus):
            env.fail("QEMU_SMP", "%s is not a number of CPUs" % excerpt(cpus))
        self._typed(vm, env, "QEMU_CPU", "-cpu ")
        self._typed(vm, env, "QEMU_ADDITIONAL_ARGS", "")
        kept = env.close()
        if kept:
            vm.imported["env"] = kept

    def _typed(self, vm: Vm, env: Fields, key: str, prefix: str) -> None:
        """Apply arguments of QEMU in a variable."""
        if key not in env:
            return
        text = self.texts.replaced(env.text(key, "options of qemu_vm"), env.place(key))
        left = apply_text(self.lab, vm, prefix + text, env.place(key))
        if left:
            vm.imported.setdefault("env", {})[key] = left

    def _config(self, vm: Vm, settings: Fields, name: str) -> None:
        if "startup-config" not in settings:
            return
        place = settings.place("startup-config")
        given = settings.text("startup-config", "config")
        if "\n" in given:
            self.lab.add_config(vm, given, place)
            return
        path = self.texts.replaced(given.replace("__clabNodeName__", name), place)
        content = None
        if "__clab" not in path:
            try:
                content = self.options.attachment(path)
            except LabFileError as error:
                reasons = [(place, reason) for _place, reason in error.problems]
                raise LabFileError(self.report.file, reasons) from None
        if content is None:
            self.report.kept(place)
            vm.imported["startup-config"] = path
            self.report.warn(
                "%s: there is no file %s beside the lab: add the configuration of %s "
                "yourself" % (place, excerpt(path), vm.name)
            )
            return
        try:
            self.lab.add_config(vm, content.decode("utf-8"), place)
        except UnicodeDecodeError:
            raise LabFileError(
                self.report.file, [(place, "the file %s is not UTF-8 text" % excerpt(path))]
            ) from None

    def _labels(self, peer: Peer, settings: Fields) -> list[Fields]:
        """Return the labels of a node, if it has any, without those with its position."""
        if not isinstance(settings.data.get("labels"), dict):
            return []
        labels = settings.fields("labels")
        self.lab.set_position(peer, labels, ("graph-posX", "graph-posY"))
        return [labels]

    def _commands(self, vm: Vm, settings: Fields, is_container: bool) -> None:
        if "exec" not in settings:
            return
        if not is_container:
            settings.dropped("exec", "containerlab runs it in the container, not in the guest")
            return
        commands = []
        for number, command in enumerate(settings.items("exec")):
            place = "%s[%d]" % (settings.place("exec"), number)
            if not isinstance(command, str) or not command.strip():
                raise LabFileError(
                    self.report.file, [(place, "%s is not a command" % excerpt(command))]
                )
            # Those that have no value are the shell's own.
            with contextlib.suppress(LabFileError):
                command = self.texts.replaced(command, place)
            commands.append(_for_shell(command))
        if commands:
            self.report.mapped(settings.place("exec"), "exec")
            vm.settings["exec"] = commands

    def _start_order(self, vm: Vm, settings: Fields) -> None:
        if "stages" not in settings:
            return
        stages = settings.fields("stages")
        after: dict[str, str] = {}
        for stage in list(stages.data):
            fields = stages.fields(stage)
            for condition in fields.mappings("wait-for"):
                other = self.peers.get(condition.text("node", "after"))
                state = condition.text("stage", "after")
                if isinstance(other, Vm) and other is not vm:
                    is_ready = _STAGE_STATES.get(state) or after.get(other.name) == "ready"
                    after[other.name] = "ready" if is_ready else "started"
                else:
                    self.report.dropped(condition.path, "the node is no other VM of the lab")
                condition.close()
            kept: Mapping[str, Any] = fields.close()
            if kept:
                vm.imported.setdefault("stages", {})[stage] = dict(kept)
        if after:
            vm.settings["after"] = after


def _for_shell(command: str) -> str:
    """Return a command for a shell: containerlab has none, and splits words by quotes."""
    try:
        return shlex.join(shlex.split(command))
    except ValueError:
        return command
