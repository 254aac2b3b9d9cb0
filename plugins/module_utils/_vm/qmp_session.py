# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A session with a QMP monitor: commands, events to wait for, and file descriptors to pass."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    HostError,
    MonitorError,
    OptionError,
    VlabError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_json
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import (
    check_number,
    check_texts,
    shown,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.qmp_names import to_qmp
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.sandbox import REMEDY, sandbox_of

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
# How the human monitor begins a line that reports an error: monitor/hmp.c, hmp_handle_error() and
# the commands that print their own. The output of "info" may begin in any way.
_HUMAN_ERROR = re.compile(
    r"^(?:Error: |unknown command: |Try \"help |Command '.*' not available)", re.MULTILINE
)
_HUMAN_COMMAND_ERROR = re.compile(
    r"^(?:unknown key: |[Ii]nvalid |[Cc]ould not |[Cc]an'?t |[Ff]ailed to |"
    r".* not (?:found|in use)\s*$)",
    re.MULTILINE,
)

# One of execute, human and event; kind: which one; timeout: in seconds; fds: [(path, mode)];
# optionally arguments; of an event, a list of (name, match).
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
            "%s is not a command: give its name, or a dict with one of execute, human or event"
            % shown(entry),
        )
    kind = kinds[0]
    unknown = sorted(set(step) - _KEYS[kind])
    if unknown:
        raise OptionError("%s.%s" % (path, unknown[0]), "not supported by an entry with %s" % kind)
    if kind == "event":
        step["event"] = _parse_events(path, step["event"], step.pop("match", None))
    elif not isinstance(step[kind], str):
        raise OptionError("%s.%s" % (path, kind), "%s is not a text" % shown(step[kind]))
    if kind == "execute":
        step["execute"] = to_qmp(step["execute"])[0]
    _check_dict(path + ".arguments", step.get("arguments"))
    step["timeout"] = _parse_timeout(path + ".timeout", step.get("timeout"))
    if not step["timeout"] and kind != "event":
        raise OptionError(path + ".timeout", "0 is only for an event: a command takes time")
    step["fds"] = _parse_descriptors(path + ".fds", step.get("fds") or [])
    step["kind"] = kind
    return step


def _parse_events(path: str, entries: Any, match: Any) -> list[tuple[str, dict[str, Any] | None]]:
    """Return the events to wait for: [(name, match)]. match: of those without their own."""
    _check_dict(path + ".match", match)
    events = []
    for entry in entries if isinstance(entries, list) else [entries]:
        name, own = entry, match
        if isinstance(entry, dict) and "event" in entry and set(entry) <= {"event", "match"}:
            name, own = entry["event"], entry.get("match") or match
            _check_dict(path + ".event.match", own)
        if not isinstance(name, str):
            raise OptionError(
                path + ".event",
                "%s is not the name of an event, nor {event: ..., match: ...}" % shown(entry),
            )
        events.append((name, own))
    return events


def _check_dict(path: str, value: Any) -> None:
    if value is not None and not isinstance(value, dict):
        raise OptionError(path, "it must be a dict")


def _parse_timeout(path: str, value: Any) -> float:
    what = "a time in seconds"
    given = _DEFAULT_TIMEOUT if value is None or value == "" else value
    try:
        if isinstance(given, bool):
            raise ValueError(given)
        seconds: float = check_number(path, float(given), 0, _MAX_TIMEOUT, what)
    except (TypeError, ValueError):
        raise OptionError(path, "%s is not %s" % (shown(value), what))
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


def check_sandbox(run_file: str, steps: list[Step]) -> None:
    """Raise OptionError for a step that the sandbox of QEMU forbids, and may end the VM for.

    run_file: run.json of the VM, with the command line of its QEMU.
    """
    argv: Any = None
    with contextlib.suppress(HostError):
        argv = (read_json(run_file) or {}).get("argv")
    sandbox = sandbox_of(argv if isinstance(argv, list) else [])
    for number, step in enumerate(steps):
        if step["kind"] == "event":
            continue
        if step["kind"] == "human":
            reason = sandbox.refusal("human-monitor-command", {"command-line": step["human"]})
        else:
            reason = sandbox.refusal(*to_qmp(step["execute"], step.get("arguments")))
        if reason:
            raise OptionError(
                "commands[%d]" % number,
                "%s, which the sandbox of this QEMU forbids: it could end the VM, so the command "
                "was not sent; %s" % (reason, REMEDY),
            )


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
            except VlabError as error:
                error.facts.update(entry=number, replies=replies, events=monitor.events)
                raise
        return replies, monitor.events


def _run(monitor: Monitor, step: Step) -> Any:
    if step["kind"] == "event":
        return monitor.wait_any(step["event"], timeout=step["timeout"])
    if step["kind"] == "human":
        return _run_human(monitor, step)
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


def _run_human(monitor: Monitor, step: Step) -> str:
    """Run a line of the human monitor, which reports an error as its output."""
    output = monitor.execute(
        "human-monitor-command", {"command-line": step["human"]}, timeout=step["timeout"]
    )
    if not isinstance(output, str):
        raise MonitorError("QEMU's human monitor did not answer with a text", command=step["human"])
    if _HUMAN_ERROR.search(output) or may_change(step) and _HUMAN_COMMAND_ERROR.search(output):
        raise MonitorError(
            "QEMU refused %s: %s" % (step["human"], output.strip()),
            command=step["human"],
            error_class="GenericError",
        )
    return output
