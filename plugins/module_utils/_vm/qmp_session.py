# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A session with a QMP monitor: commands, events to wait for, and file descriptors to pass."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict

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

_READ_ONLY_COMMANDS = (
    "qom-get",
    "qom-list",
    "qom-list-types",
    "qom-list-properties",
    "device-list-properties",
    "trace-event-get-state",
)
_OPEN_FLAGS = {"r": os.O_RDONLY, "w": os.O_WRONLY | os.O_CREAT, "rw": os.O_RDWR | os.O_CREAT}
_DEFAULT_TIMEOUT, _MAX_TIMEOUT = 30, 1000000
# The keys of each kind of step.
_KEYS = {
    "execute": {"execute", "arguments", "fds", "timeout"},
    "human": {"human", "timeout"},
    "event": {"event", "match", "timeout"},
}

# One of execute, human and event; kind: which one; timeout: in seconds; fds: [(path, mode)]; and
# optionally arguments or match.
Step = Dict[str, Any]


def parse_steps(commands: list[Any]) -> list[Step]:
    """Return the steps from the user's list. Raises OptionError naming the entry."""
    check_texts("commands", commands)
    return [_parse_step("commands[%d]" % n, entry) for n, entry in enumerate(commands)]


def _parse_step(path: str, entry: Any) -> Step:
    step: Step = {}
    if isinstance(entry, str):
        step = {"execute": entry}
    elif isinstance(entry, dict):
        step = dict(entry)
    kinds = [kind for kind in _KEYS if step.get(kind)]
    if len(kinds) != 1:
        raise OptionError(
            path,
            "%r is not a command: give its name, or a dict with one of execute, human or event"
            % (entry,),
        )
    kind = kinds[0]
    unknown = sorted(set(step) - _KEYS[kind])
    if unknown:
        raise OptionError("%s.%s" % (path, unknown[0]), "not supported by an entry with %s" % kind)
    names = step[kind] if kind == "event" and isinstance(step[kind], list) else [step[kind]]
    for name in names:
        if not isinstance(name, str):
            raise OptionError("%s.%s" % (path, kind), "%r is not a text" % (name,))
    if kind == "execute":
        step["execute"] = to_qmp(step["execute"])[0]
    for key in ("arguments", "match"):
        if step.get(key) is not None and not isinstance(step[key], dict):
            raise OptionError("%s.%s" % (path, key), "it must be a dict")
    step["timeout"] = _parse_timeout(path + ".timeout", step.get("timeout"))
    step["fds"] = _parse_descriptors(path + ".fds", step.get("fds") or [])
    step["kind"] = kind
    return step


def _parse_timeout(path: str, value: Any) -> float:
    what = "a time in seconds"
    try:
        seconds: float = check_number(path, float(value or _DEFAULT_TIMEOUT), 0, _MAX_TIMEOUT, what)
    except (TypeError, ValueError):
        raise OptionError(path, "%r is not %s" % (value, what))
    return seconds


def _parse_descriptors(path: str, entries: Any) -> list[tuple[str, str]]:
    if not isinstance(entries, list):
        raise OptionError(path, "it must be a list")
    descriptors = []
    for number, entry in enumerate(entries):
        if not (
            isinstance(entry, dict)
            and isinstance(entry.get("path"), str)
            and entry["path"]
            and entry.get("mode", "r") in list(_OPEN_FLAGS)
        ):
            raise OptionError(
                "%s[%d]" % (path, number), "a descriptor is {path: ..., mode: r, w or rw}"
            )
        descriptors.append((entry["path"], entry.get("mode", "r")))
    return descriptors


def may_change(step: Step) -> bool:
    """Whether a step may change the VM."""
    if step["kind"] == "event":
        return False
    if step["kind"] == "human":
        return not step["human"].lstrip().startswith("info ")
    command = step["execute"]
    return not (command.startswith("query-") or command in _READ_ONLY_COMMANDS)


def run_session(
    path: str, steps: list[Step], check_mode: bool, timeout: float = 10
) -> tuple[list[Any], list[dict[str, Any]]]:
    """Run the steps on the monitor at path; return (replies, events).

    Check mode skips events and the steps that may change the VM. timeout: for the connection.
    """
    replies: list[Any] = []
    with Monitor(path, timeout=timeout) as monitor:
        monitor.batch([])
        for number, step in enumerate(steps):
            if check_mode and (may_change(step) or step["kind"] == "event"):
                replies.append({"skipped": True})
                continue
            try:
                replies.append(_run(monitor, step))
            except MonitorError as error:
                error.facts.update(entry=number, replies=replies)
                raise
        return replies, monitor.events


def _run(monitor: Monitor, step: Step) -> Any:
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
                handles.append(os.open(path, _OPEN_FLAGS[mode] | os.O_CLOEXEC, 0o600))
            except OSError as error:
                raise OptionError("fds", "cannot open %s: %s" % (path, error.strerror))
            stack.callback(os.close, handles[-1])
        command, arguments = to_qmp(step["execute"], step.get("arguments"))
        return monitor.execute(command, arguments, fds=handles, timeout=step["timeout"])
