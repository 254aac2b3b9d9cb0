# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Events of QEMU and patterns on consoles, for Event-Driven Ansible.

ansible-rulebook loads this file by its path, without the collection, and a hypervisor that is
followed through SSH runs its text. It therefore needs only Python 3.9 and its standard library.
"""

from __future__ import annotations

import asyncio
import fnmatch
import json
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from typing import Any, Callable, NamedTuple, Optional

DOCUMENTATION = r"""
short_description: Receive events of virtual machines
description:
  - Receives the events that QEMU reports of the VMs of a hypervisor, such as C(GUEST_PANICKED),
    C(SHUTDOWN), C(RESET) and C(NIC_RX_FILTER_CHANGED), and lines on their consoles that match
    patterns.
  - VMs that are created later are followed, too. A connection that ends is made again.
  - An event has C(type) (V(qmp), V(console) or V(source)), C(event), C(data), C(time) (seconds
    since 1970), C(hypervisor), C(root), C(lab) and C(vm).
  - Events of the type V(qmp) are those of QEMU; see the QMP reference.
  - Events of the type V(console) have the name C(CONSOLE), and as C(data) the name of the
    C(pattern), the C(console), the C(line) as far as it is written, and the named C(groups).
  - Events of the type V(source) are C(CONNECTED), with the C(status) of the VM; C(DISCONNECTED),
    with the C(reason) of the last C(SHUTDOWN), or V(unexpected) if QEMU ended without one; and
    C(DROPPED), with the C(count) of events that exceeded 50 per second.
options:
  roots:
    description: The folders of the labs. Default is that of the modules.
    type: list
    elements: str
  labs:
    description: The labs to follow, as names or shell patterns.
    type: list
    elements: str
    default: ['*']
  vms:
    description: The VMs to follow, as names or shell patterns.
    type: list
    elements: str
    default: ['*']
  events:
    description: The events to pass on, by their names. Default is all of them.
    type: list
    elements: str
  patterns:
    description: Regular expressions for lines of the consoles, each reported once for a line.
    type: list
    elements: dict
    suboptions:
      name:
        description: A name for conditions of rules. Default is the expression.
        type: str
      regex:
        description: A Python regular expression.
        type: str
        required: true
      console:
        description: The name of the console, whose log is read.
        type: str
        default: console
  monitor:
    description:
      - The name of the QMP monitor in the option C(monitors) of the VM. A VM without it is followed
        on the monitor that is free for the user.
      - QEMU serves one client of a monitor at a time. If another client holds the monitor, the
        source waits until it is free, and while it is connected, other clients wait.
    type: str
    default: events
  interval:
    description: Seconds between two looks for new VMs and at the consoles, and between two attempts
      to connect.
    type: float
    default: 1
  hypervisor:
    description: The name of the hypervisor in the events. Default is that of O(ssh), otherwise
      V(localhost).
    type: str
  ssh:
    description: Follow the VMs of this host through ssh, with a key and without a password. By
      default those of the local host.
    type: str
  ssh_args:
    description: Further arguments of ssh, such as V([-p, "2222"]).
    type: list
    elements: str
  python:
    description: The Python interpreter of O(ssh), version 3.9 or newer. May have words before it,
      such as V(sudo -n python3).
    type: str
    default: python3
"""

EXAMPLES = r"""
- name: Follow all VMs of this host
  hosts: localhost
  sources:
    - vlab.qemu.qemu_events:
        events: [GUEST_PANICKED, SHUTDOWN, RESET, DISCONNECTED]
  rules:
    - name: Report a panic
      condition: event.event == "GUEST_PANICKED"
      action:
        debug:
          msg: "{{ event.vm }} of the lab {{ event.lab }} has panicked"
"""

logger = logging.getLogger("vlab.qemu.qemu_events")

MAX_MESSAGE = 1 << 20  # bytes of a QMP message, and of an event from another host
MAX_DEFINITION = 1 << 22  # bytes of vm.json
MAX_LINE = 4096  # bytes of a line of a console
MAX_READ = 1 << 16  # bytes of a console for each look
MAX_RATE = 50  # events of a VM in a second
SSH_DELAY = 5.0  # s until ssh is started again
END_TIMEOUT = 3.0  # s for ssh to end
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*\x07?|[\x00-\x08\x0b-\x1f\x7f]")

Event = dict[str, Any]
Emit = Callable[[Event], Awaitable[None]]


class Pattern(NamedTuple):
    """A pattern for lines of a console."""

    name: str
    regex: re.Pattern[str]
    console: str


class Settings(NamedTuple):
    """The options of the source, checked."""

    roots: list[str]
    labs: list[str]
    vms: list[str]
    events: Optional[list[str]]
    patterns: list[Pattern]
    monitor: str
    interval: float
    hypervisor: str
    ssh: Optional[str]
    ssh_args: list[str]
    python: str

    def accepts(self, event: str) -> bool:
        """Return whether an event is to be passed on."""
        return self.events is None or event in self.events


class Vm(NamedTuple):
    """A VM by its names, and its folder."""

    root: str
    lab: str
    name: str

    @property
    def path(self) -> str:
        """The folder of the VM."""
        return os.path.join(self.root, self.lab, self.name)

    def event(self, kind: str, name: str, data: Any, stamp: Optional[float] = None) -> Event:
        """Return an event of this VM."""
        return {
            "type": kind,
            "event": name,
            "data": data,
            "time": time.time() if stamp is None else stamp,
            "root": self.root,
            "lab": self.lab,
            "vm": self.name,
        }


# --- Options ---


def default_root() -> str:
    """Return the folder of the labs that the modules use by default."""
    if os.geteuid() == 0:
        return "/var/lib/vlab"
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "vlab")


def _words(args: Mapping[str, Any], option: str, default: list[str]) -> list[str]:
    """Return an option that is a list of strings; one string is a list of one."""
    value = args.get(option)
    if value is None:
        return default
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise ValueError(f"qemu_events: {option} must be a list of strings")
    return words


def _text(args: Mapping[str, Any], option: str, default: Optional[str]) -> Optional[str]:
    value = args.get(option)
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f"qemu_events: {option} must be a string")
    return default if value is None else value


def _pattern(given: Any) -> Pattern:
    """Return a pattern of the option patterns."""
    if not isinstance(given, dict) or not isinstance(given.get("regex"), str):
        raise ValueError("qemu_events: each of patterns must be a dictionary with regex")
    unknown = sorted(set(given) - {"name", "regex", "console"})
    if unknown:
        raise ValueError(f"qemu_events: patterns has no suboption {unknown[0]}")
    console = _text(given, "console", "console") or ""
    if "/" in console:
        raise ValueError("qemu_events: console must be the name of a console")
    try:
        regex = re.compile(given["regex"])
    except re.error as error:
        raise ValueError(f"qemu_events: regex {given['regex']!r} is not valid: {error}") from None
    return Pattern(_text(given, "name", given["regex"]) or "", regex, console)


def parse(args: Mapping[str, Any]) -> Settings:
    """Return the options of the source. Raises ValueError with the option and the reason."""
    # ansible-rulebook adds eda_feedback_queue if it is asked to.
    unknown = sorted(set(args) - set(Settings._fields) - {"eda_feedback_queue"})
    if unknown:
        raise ValueError(
            f"qemu_events has no option {unknown[0]}; options: {', '.join(Settings._fields)}"
        )
    ssh = _text(args, "ssh", None)
    if ssh and ssh.startswith("-"):
        raise ValueError("qemu_events: ssh must be the name of a host")
    interval = args.get("interval", 1)
    if isinstance(interval, bool) or not isinstance(interval, (int, float)) or interval < 0.05:
        raise ValueError("qemu_events: interval must be a number of at least 0.05 seconds")
    patterns = args.get("patterns") or []
    if not isinstance(patterns, list):
        raise ValueError("qemu_events: patterns must be a list")
    return Settings(
        roots=_words(args, "roots", []),
        labs=_words(args, "labs", ["*"]),
        vms=_words(args, "vms", ["*"]),
        events=_words(args, "events", []) or None,
        patterns=[_pattern(given) for given in patterns],
        monitor=_text(args, "monitor", "events") or "",
        interval=float(interval),
        hypervisor=_text(args, "hypervisor", ssh or "localhost") or "",
        ssh=ssh,
        ssh_args=_words(args, "ssh_args", []),
        python=_text(args, "python", "python3") or "",
    )


# --- VMs ---


def find_vms(settings: Settings) -> Iterator[Vm]:
    """Yield the VMs that match the options."""
    for root in settings.roots or [default_root()]:
        for lab in _folders(root, settings.labs):
            for name in _folders(os.path.join(root, lab), settings.vms):
                if os.path.exists(os.path.join(root, lab, name, "vm.json")):
                    yield Vm(root, lab, name)


def _folders(path: str, patterns: list[str]) -> list[str]:
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return []
    return [
        name
        for name in names
        if name[0] != "." and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]


def _text_of(path: str, limit: int) -> str:
    """Return the text of a file, empty if it cannot be read or is too large."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(limit + 1)
    except OSError:
        return ""
    return data.decode("utf-8", "replace") if len(data) <= limit else ""


def monitor_path(vm: Vm, monitor: str) -> str:
    """Return the socket of a VM's monitor by its name, or else of the one that is free."""
    try:
        definition = json.loads(_text_of(os.path.join(vm.path, "vm.json"), MAX_DEFINITION) or "{}")
    except ValueError:
        definition = {}
    monitors = definition.get("monitors") if isinstance(definition, dict) else None
    # The sockets of a VM with a long path are in another folder, which a file names.
    recorded = _text_of(os.path.join(vm.path, "socket_folder"), 4096).rstrip("\n")
    folder = recorded if os.path.isabs(recorded) else vm.path
    for number, entry in enumerate(monitors if isinstance(monitors, list) else []):
        if isinstance(entry, dict) and (entry.get("name"), entry.get("type")) == (monitor, "qmp"):
            path = os.path.join(folder, f"monitor{number}.sock")
            if os.path.exists(path):  # not one that the next start creates
                return path
    return os.path.join(folder, "monitor.sock")


class Limiter:
    """Pass the events of one VM on, MAX_RATE of them in a second."""

    def __init__(self, vm: Vm, settings: Settings, emit: Emit) -> None:
        self.vm, self.settings, self._emit = vm, settings, emit
        self._second, self._count, self._dropped = 0, 0, 0

    async def send(self, kind: str, name: str, data: Any, stamp: Optional[float] = None) -> None:
        """Pass an event on, if it is one of those desired."""
        if not self.settings.accepts(name):
            return
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._count = second, 0
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                await self._emit(self.vm.event("source", "DROPPED", {"count": dropped}))
        self._count += 1
        if self._count > MAX_RATE:
            self._dropped += 1
        else:
            await self._emit(self.vm.event(kind, name, data, stamp))


# --- Monitors ---


async def messages(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """Yield the messages of a monitor until it closes. Raises ValueError for an invalid one."""
    while True:
        line = await reader.readline()
        if not line.endswith(b"\n"):
            return
        if line.strip():
            message = json.loads(line)
            if not isinstance(message, dict):
                raise ValueError("a message is not an object")
            yield message


def _stamp(message: Mapping[str, Any]) -> Optional[float]:
    """Return the time of an event in seconds since 1970, None if it has no valid one."""
    stamp = message.get("timestamp")
    if not isinstance(stamp, dict):
        return None
    seconds, more = (stamp.get(key) for key in ("seconds", "microseconds"))
    if not isinstance(seconds, int) or not isinstance(more, int):
        return None
    return seconds + more / 1e6


class MonitorFollower:
    """Pass the events of one VM's monitor on, for as long as the VM exists."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter, self.settings = limiter, limiter.settings
        self._is_connected = False
        self._reason = ""  # of the last SHUTDOWN of this connection

    async def run(self) -> None:
        """Connect again and again."""
        while True:
            path = monitor_path(self.limiter.vm, self.settings.monitor)
            try:
                reader, writer = await asyncio.open_unix_connection(path, limit=MAX_MESSAGE)
            except OSError as error:  # no QEMU listens
                logger.debug("cannot connect to %s: %s", path, error)
            else:
                try:
                    await self._session(reader, writer)
                except (OSError, ValueError, RecursionError) as error:
                    logger.warning("the connection to the monitor %s failed: %s", path, error)
                finally:
                    writer.close()
                if self._is_connected:
                    data = {"reason": self._reason or "unexpected"}
                    await self.limiter.send("source", "DISCONNECTED", data)
            await asyncio.sleep(self.settings.interval)

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Follow one connection until QEMU closes it."""
        self._is_connected, self._reason = False, ""
        # Other ids are of late replies to an earlier client.
        status_id = f"vlab-{os.getpid()}-{time.monotonic_ns()}"
        async for message in messages(reader):
            if "QMP" in message:
                for command, number in (("qmp_capabilities", 0), ("query-status", status_id)):
                    request = {"execute": command, "id": number}
                    writer.write(json.dumps(request).encode() + b"\n")
            elif message.get("id") == status_id:
                status = message.get("return")
                self._is_connected = True
                data = {"status": status.get("status") if isinstance(status, dict) else None}
                await self.limiter.send("source", "CONNECTED", data)
            elif isinstance(message.get("event"), str):
                data = message.get("data", {})
                if message["event"] == "SHUTDOWN":
                    self._reason = str(data.get("reason")) if isinstance(data, dict) else ""
                await self.limiter.send("qmp", message["event"], data, _stamp(message))


# --- Consoles ---


class ConsoleFollower:
    """Match the patterns of one console of a VM against what its log gets."""

    def __init__(self, limiter: Limiter, console: str, from_start: bool) -> None:
        self.limiter, self.settings, self.console = limiter, limiter.settings, console
        self.path = os.path.join(limiter.vm.path, console + ".log")
        self.patterns = [entry for entry in self.settings.patterns if entry.console == console]
        self._position, self._inode = 0, 0
        self._line = b""  # the one that is not complete
        self._reported: set[str] = set()  # the patterns that this line has matched
        if not from_start:
            try:
                found = os.stat(self.path)
                self._position, self._inode = found.st_size, found.st_ino
            except OSError:
                pass

    async def run(self) -> None:
        """Read again and again."""
        while True:
            data = self._read()
            await self._match(data)
            if len(data) < MAX_READ:
                await asyncio.sleep(self.settings.interval)
            else:
                await asyncio.sleep(0)

    def _read(self) -> bytes:
        """Return what the log got since the last time, MAX_READ bytes at most."""
        try:
            with open(self.path, "rb") as stream:
                found = os.fstat(stream.fileno())
                if found.st_ino != self._inode or found.st_size < self._position:
                    self._position, self._inode, self._line = 0, found.st_ino, b""
                    self._reported.clear()
                stream.seek(self._position)
                data = stream.read(MAX_READ)
        except OSError:
            return b""
        self._position += len(data)
        return data

    async def _match(self, data: bytes) -> None:
        """Match complete lines, and the last one if it is not complete."""
        if not data:
            return
        *complete, rest = re.split(rb"[\r\n]+", self._line + data)
        for line in complete:
            await self._match_line(line)
            self._reported.clear()
        if len(rest) > MAX_LINE:
            rest = b""
            self._reported.clear()
        self._line = rest
        await self._match_line(rest)

    async def _match_line(self, line: bytes) -> None:
        text = CONTROL.sub("", line[:MAX_LINE].decode("utf-8", "replace"))
        if not text.strip():
            return
        for pattern in self.patterns:
            match = pattern.regex.search(text)
            if match and pattern.name not in self._reported:
                self._reported.add(pattern.name)
                data = {
                    "pattern": pattern.name,
                    "console": self.console,
                    "line": text,
                    "groups": match.groupdict(),
                }
                await self.limiter.send("console", "CONSOLE", data)


# --- Hypervisors ---


def _followers(vm: Vm, settings: Settings, emit: Emit, is_new: bool) -> list[asyncio.Task[None]]:
    """Start to follow a VM. is_new: whether it did not exist at the start of the source."""
    limiter = Limiter(vm, settings, emit)
    consoles = sorted({pattern.console for pattern in settings.patterns})
    runs = [MonitorFollower(limiter).run()]
    runs += [ConsoleFollower(limiter, console, is_new).run() for console in consoles]
    return [asyncio.create_task(run) for run in runs]


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def watch(settings: Settings, emit: Emit) -> None:
    """Follow the VMs of this host until the task is cancelled. Raises the error of a follower."""
    followed: dict[Vm, list[asyncio.Task[None]]] = {}
    is_first = True
    try:
        while True:
            found = set(find_vms(settings))
            for vm in sorted(set(followed) - found):
                await _end(followed.pop(vm))
            for vm in sorted(found - set(followed)):
                followed[vm] = _followers(vm, settings, emit, not is_first)
            is_first = False
            await asyncio.sleep(settings.interval)
            for tasks in followed.values():
                for task in tasks:
                    if task.done():
                        task.result()  # raises the error of a follower, such as a closed queue
    finally:
        await _end([task for tasks in followed.values() for task in tasks])


# --- Through SSH ---

LOADER = "import sys;exec(compile(sys.stdin.buffer.read(int(sys.argv[1])),'qemu_events','exec'))"


def remote_options(settings: Settings) -> dict[str, Any]:
    """Return the options for the source on the other host."""
    given = settings._asdict()
    patterns = [
        {"name": entry.name, "regex": entry.regex.pattern, "console": entry.console}
        for entry in settings.patterns
    ]
    kept = ("roots", "labs", "vms", "events", "monitor", "interval", "hypervisor")
    return {"patterns": patterns, **{name: given[name] for name in kept if given[name]}}


def remote_command(settings: Settings, size: int) -> list[str]:
    """Return the command that runs a program of this size on the other host."""
    words = [*shlex.split(settings.python), "-I", "-c", LOADER, str(size)]
    command = " ".join(shlex.quote(word) for word in words)
    options = ["-T", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15"]
    return ["ssh", *options, *settings.ssh_args, "--", str(settings.ssh), command]


async def follow_ssh(settings: Settings, emit: Emit) -> None:
    """Run this source on another host, again and again, and pass on what it reports."""
    with open(__file__, "rb") as stream:
        program = stream.read()
    program += f"\nserve({json.dumps(remote_options(settings))!r})\n".encode()
    while True:
        process = await asyncio.create_subprocess_exec(
            *remote_command(settings, len(program)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=MAX_MESSAGE,
        )
        try:
            await _pass_on(process, program, settings, emit)
        except (OSError, ValueError, RecursionError) as error:
            logger.warning("the connection to %s failed: %s", settings.ssh, error)
        finally:
            await _end_process(process)
        logger.warning("ssh to %s ended with %s", settings.ssh, process.returncode)
        await asyncio.sleep(SSH_DELAY)


async def _pass_on(
    process: asyncio.subprocess.Process, program: bytes, settings: Settings, emit: Emit
) -> None:
    """Send the program to the other host, and pass on its events."""
    if process.stdin and process.stdout:
        process.stdin.write(program)
        async for event in messages(process.stdout):
            await emit({**event, "hypervisor": settings.hypervisor})


async def _end_process(process: asyncio.subprocess.Process) -> None:
    """End ssh, by its standard input, with which the program on the other host ends, too."""
    if process.stdin:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.communicate(), END_TIMEOUT)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()


def serve(options: str) -> None:
    """Print events as lines of JSON until standard input closes; the other end of follow_ssh."""
    settings = parse(json.loads(options))

    async def emit(event: Event) -> None:
        print(json.dumps(event), flush=True)

    async def run() -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        followers = asyncio.create_task(watch(settings, emit))
        end = asyncio.create_task(reader.read())
        await asyncio.wait({followers, end}, return_when=asyncio.FIRST_COMPLETED)
        if followers.done():
            followers.result()  # raises its error
        await _end([followers])

    asyncio.run(run())


async def main(queue: Any, args: Mapping[str, Any]) -> None:
    """Put events into the queue until the task is cancelled; the entry of ansible-rulebook."""
    settings = parse(args)

    async def emit(event: Event) -> None:
        await queue.put({"hypervisor": settings.hypervisor, **event})

    await (follow_ssh if settings.ssh else watch)(settings, emit)
