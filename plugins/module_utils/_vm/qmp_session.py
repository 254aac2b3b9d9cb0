# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A conversation with the monitor of a VM: commands, events awaited, descriptors passed."""

from __future__ import annotations

import contextlib
import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    MonitorError,
    OptionError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import (
    check_number,
    check_texts,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qmp_names import to_qmp

_READ_ONLY = (
    "qom-get",
    "qom-list",
    "qom-list-types",
    "qom-list-properties",
    "device-list-properties",
    "trace-event-get-state",
)
_MODES = {"r": os.O_RDONLY, "w": os.O_WRONLY | os.O_CREAT, "rw": os.O_RDWR | os.O_CREAT}


def is_read_only(command):
    """Whether a QMP command changes nothing."""
    return command.startswith("query-") or command in _READ_ONLY


def steps_of(commands):
    """The user's list as dicts with one of execute, human, event. Raises OptionError naming the entry."""
    check_texts("commands", commands)
    steps = []
    for number, entry in enumerate(commands):
        here = "commands[%d]" % number
        step = (
            {"execute": entry}
            if isinstance(entry, str)
            else dict(entry)
            if isinstance(entry, dict)
            else None
        )
        kinds = [kind for kind in ("execute", "human", "event") if step and step.get(kind)]
        if len(kinds) != 1:
            raise OptionError(
                here,
                "%r is not a command: give its name, or a dict with one of execute, human or event"
                % (entry,),
            )
        allowed = {
            "execute": {"execute", "arguments", "fds", "timeout"},
            "human": {"human", "timeout"},
            "event": {"event", "match", "timeout"},
        }[kinds[0]]
        unknown = sorted(set(step) - allowed)
        if unknown:
            raise OptionError(
                "%s.%s" % (here, unknown[0]), "an entry with %s does not have it" % kinds[0]
            )
        for word in (
            [step[kinds[0]]]
            if kinds[0] != "event" or not isinstance(step["event"], list)
            else step["event"]
        ):
            if not isinstance(word, str):
                raise OptionError("%s.%s" % (here, kinds[0]), "%r is not a text" % (word,))
        if kinds[0] == "execute":
            step["execute"] = to_qmp(step["execute"])[0]
        for key in ("arguments", "match"):
            if step.get(key) is not None and not isinstance(step[key], dict):
                raise OptionError("%s.%s" % (here, key), "it must be a dict")
        try:
            step["timeout"] = check_number(
                here + ".timeout", float(step.get("timeout") or 30), 0, 1000000, "a time in seconds"
            )
        except (TypeError, ValueError):
            raise OptionError(here + ".timeout", "%r is not a time in seconds" % (step["timeout"],))
        if not isinstance(step.get("fds") or [], list):
            raise OptionError(here + ".fds", "it must be a list")
        step["fds"] = [
            _descriptor("%s.fds[%d]" % (here, n), fd) for n, fd in enumerate(step.get("fds") or ())
        ]
        steps.append(dict(step, kind=kinds[0]))
    return steps


def _descriptor(here, entry):
    if not (
        isinstance(entry, dict)
        and isinstance(entry.get("path"), str)
        and entry["path"]
        and entry.get("mode", "r") in list(_MODES)
    ):
        raise OptionError(here, "a descriptor is {path: ..., mode: r, w or rw}")
    return entry["path"], entry.get("mode", "r")


def changes_something(step):
    """Whether a step may change the VM. A line of the human monitor that begins with "info" does not."""
    if step["kind"] == "event":
        return False
    if step["kind"] == "human":
        return not step["human"].lstrip().startswith("info ")
    return not is_read_only(step["execute"])


def converse(path, steps, check_mode, timeout=10):
    """Run the steps on the monitor at path; return (replies, events). In check mode what would change something is passed over."""
    replies = []
    with Monitor(path, timeout=timeout) as monitor:
        monitor.batch([])
        for number, step in enumerate(steps):
            if check_mode and (changes_something(step) or step["kind"] == "event"):
                replies.append({"skipped": True})
                continue
            try:
                replies.append(_run(monitor, step))
            except MonitorError as error:
                error.facts.update(entry=number, replies=replies)
                raise
        return replies, monitor.events


def _run(monitor, step):
    if step["kind"] == "event":
        return monitor.wait_event(step["event"], step.get("match"), timeout=step["timeout"])
    if step["kind"] == "human":
        return monitor.execute(
            "human-monitor-command", {"command-line": step["human"]}, timeout=step["timeout"]
        )
    with contextlib.ExitStack() as stack:
        handles = []
        for path, mode in step["fds"]:
            try:
                handles.append(os.open(path, _MODES[mode] | os.O_CLOEXEC, 0o600))
            except OSError as error:
                raise OptionError("fds", "cannot open %s: %s" % (path, error.strerror))
            stack.callback(os.close, handles[-1])
        command, arguments = to_qmp(step["execute"], step.get("arguments"))
        return monitor.execute(command, arguments, fds=handles, timeout=step["timeout"])
