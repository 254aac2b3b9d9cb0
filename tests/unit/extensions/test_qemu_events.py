# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The event source of Event-Driven Ansible, loaded as ansible-rulebook does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import runpy
import stat
import time

import pytest
import yaml
from ansible_collections.vlab.qemu.tests.unit import documents
from ansible_collections.vlab.qemu.tests.unit.fake_qmp import FakeQmp

PATH = documents.ROOT / "extensions/eda/plugins/event_source/qemu_events.py"
SOURCE = runpy.run_path(str(PATH))
RUNNING = {"query-status": {"status": "running", "running": True}}
TIMEOUT = 5  # s


@pytest.fixture
def root(tmp_path):
    """A root with a short path, for sockets."""
    return tmp_path


def make_vm(root, name="r1", lab="lab", **definition):
    folder = root / lab / name
    folder.mkdir(parents=True)
    (folder / "vm.json").write_text(json.dumps({"format": 1, **definition}))
    return folder


class Run:
    """The source as a task; a context manager that cancels it."""

    def __init__(self, root, **options):
        self.before = asyncio.all_tasks()
        self.queue = asyncio.Queue()
        args = {"roots": [str(root)], "interval": 0.05, **options}
        self.task = asyncio.create_task(SOURCE["main"](self.queue, args))

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(self.task, TIMEOUT)
        assert not self.followers(), "tasks are left"

    def followers(self):
        """Return the tasks of the source that run, without its first one."""
        return asyncio.all_tasks() - self.before - {self.task}

    async def next(self, *names):
        """Return the next event, or the next one with one of these names."""
        while True:
            event = await asyncio.wait_for(self.queue.get(), TIMEOUT)
            if not names or event["event"] in names:
                return event


def in_loop(function):
    """Run a test that is a coroutine."""

    def run(root):
        asyncio.run(asyncio.wait_for(function(root), 3 * TIMEOUT))

    run.__name__ = function.__name__
    return run


async def until(condition):
    """Wait for a condition."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@in_loop
async def test_events_of_a_vm(root):
    folder = make_vm(root)
    with FakeQmp(folder / "monitor.sock", RUNNING) as qmp:
        async with Run(root) as run:
            first = await run.next()
            names = ("type", "event", "data", "hypervisor", "root", "lab", "vm")
            assert {name: first[name] for name in names} == {
                "type": "source",
                "event": "CONNECTED",
                "data": {"status": "running"},
                "hypervisor": "localhost",
                "root": str(root),
                "lab": "lab",
                "vm": "r1",
            }
            qmp.event("GUEST_PANICKED", {"action": "pause"}, seconds=7)
            event = await run.next()
            assert (event["type"], event["event"]) == ("qmp", "GUEST_PANICKED")
            assert event["data"] == {"action": "pause"} and event["time"] == 7.5


@pytest.mark.parametrize(
    "shutdown", [{"guest": True, "reason": "guest-shutdown"}, None], ids=["shutdown", "killed"]
)
def test_the_end_of_a_qemu_and_its_next_start(root, shutdown):
    @in_loop
    async def run_it(root):
        folder = make_vm(root)
        async with Run(root) as run:
            for _start in range(2):
                with FakeQmp(folder / "monitor.sock", RUNNING) as qmp:
                    assert (await run.next())["event"] == "CONNECTED"
                    if shutdown:
                        qmp.event("SHUTDOWN", shutdown)
                        assert (await run.next())["data"] == shutdown
                ended = await run.next()
                reason = shutdown["reason"] if shutdown else "unexpected"
                assert (ended["event"], ended["data"]) == ("DISCONNECTED", {"reason": reason})

    run_it(root)


@in_loop
async def test_it_uses_the_monitor_of_its_own(root):
    monitors = [{"name": "other", "type": "hmp"}, {"name": "events", "type": "qmp"}]
    folder = make_vm(root, monitors=monitors)
    with FakeQmp(folder / "monitor.sock", RUNNING) as free:
        with FakeQmp(folder / "monitor1.sock", RUNNING) as own:
            async with Run(root) as run:
                await run.next("CONNECTED")
                assert own.requests and not free.requests


@in_loop
async def test_without_that_monitor_it_uses_the_free_one(root):
    folder = make_vm(root, monitors=[{"name": "events", "type": "qmp"}])  # at the next start
    with FakeQmp(folder / "monitor.sock", RUNNING) as free:
        async with Run(root) as run:
            await run.next("CONNECTED")
            assert free.requests


@in_loop
async def test_it_waits_while_another_client_holds_the_monitor(root):
    folder = make_vm(root)
    with FakeQmp(folder / "monitor.sock", RUNNING):
        _reader, writer = await asyncio.open_unix_connection(str(folder / "monitor.sock"))
        async with Run(root) as run:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(run.queue.get(), 0.4)
            writer.close()
            assert (await run.next())["event"] == "CONNECTED"


@in_loop
async def test_sockets_in_another_folder(root):
    folder, sockets = make_vm(root), root / "s"
    sockets.mkdir()
    (folder / "socket_folder").write_text("%s\n" % sockets)
    with FakeQmp(sockets / "monitor.sock", RUNNING):
        async with Run(root) as run:
            await run.next("CONNECTED")


@in_loop
async def test_new_and_removed_vms_and_the_filters(root):
    make_vm(root, "x1")
    make_vm(root, "r1", lab="other")
    async with Run(root, labs=["la*"], vms=["r1", "r2"], events=["CONNECTED", "RESET"]) as run:
        await asyncio.sleep(0.2)
        folder = make_vm(root, "r2")
        with FakeQmp(folder / "monitor.sock", RUNNING) as qmp:
            assert (await run.next())["vm"] == "r2"
            qmp.event("STOP")
            qmp.event("RESET", {"guest": True})
            assert (await run.next())["event"] == "RESET"
            (folder / "vm.json").unlink()
            await until(lambda: not run.followers())


@in_loop
async def test_a_flood_of_events_is_limited(root):
    folder = make_vm(root)
    with FakeQmp(folder / "monitor.sock", RUNNING) as qmp:
        async with Run(root) as run:
            await run.next("CONNECTED")

            def flood():
                for _number in range(500):
                    qmp.event("RESET", {"guest": True})

            await asyncio.get_running_loop().run_in_executor(None, flood)
            await asyncio.sleep(1.1)
            qmp.event("STOP")
            names = []
            while "STOP" not in names:
                event = await run.next()
                names.append(event["event"])
                if event["event"] == "DROPPED":
                    dropped = event["data"]["count"]
            assert dropped >= 350 and names.count("RESET") + dropped == 500


@pytest.mark.parametrize(
    "text", ["[1]", "{", "[" * 100000, "x" * (2 << 20), '{"event": 1}', '{"QMP": null}']
)
def test_a_message_that_is_not_valid(root, text):
    """The connection is closed or the message ignored, and the source goes on."""

    @in_loop
    async def run_it(root):
        folder = make_vm(root)
        clients = []

        async def serve(_reader, writer):
            clients.append(writer)
            writer.write(text.encode() + b"\n")
            if len(clients) == 1:
                writer.close()

        server = await asyncio.start_unix_server(serve, str(folder / "monitor.sock"))
        async with Run(root) as run:
            await until(lambda: len(clients) > 1)
            assert not run.task.done()
            server.close()
            clients[-1].close()
            await asyncio.sleep(0.1)
        await asyncio.sleep(0)

    run_it(root)


PATTERNS = [
    {"name": "panic", "regex": "Kernel panic.*: (?P<why>.*)"},
    {"regex": "login: $"},
    {"name": "other", "regex": "x", "console": "aux"},
]


@in_loop
async def test_patterns_on_the_console(root):
    folder = make_vm(root)
    log = folder / "console.log"
    log.write_bytes(b"old login: ")
    async with Run(root, patterns=PATTERNS) as run:
        await asyncio.sleep(0.2)
        with log.open("ab", buffering=0) as stream:
            stream.write(b"root\r\n\x1b[1mKernel panic - not syncing: attempted\x1b[0m to kill\r\n")
            event = await run.next()
            assert (event["type"], event["event"]) == ("console", "CONSOLE")
            assert event["data"] == {
                "pattern": "panic",
                "console": "console",
                "line": "Kernel panic - not syncing: attempted to kill",
                "groups": {"why": "attempted to kill"},
            }
            stream.write(b"r1 login: ")  # no end of the line
            assert (await run.next())["data"]["pattern"] == "login: $"
            stream.write(b"\nr1 login: ")
            assert (await run.next())["data"]["line"] == "r1 login: "
        log.write_bytes(b"Kernel panic: again\n")  # a new log
        assert (await run.next())["data"]["groups"] == {"why": "again"}
        (folder / "aux.log").write_bytes(b"x")
        assert (await run.next())["data"]["console"] == "aux"
        assert run.queue.empty()


@in_loop
async def test_the_console_of_a_new_vm_is_read_from_its_start(root):
    async with Run(root, patterns=PATTERNS) as run:
        await asyncio.sleep(0.2)
        folder = root / "lab/r1"
        folder.mkdir(parents=True)
        (folder / "console.log").write_bytes(b"a" * 300000 + b"\nlogin: ")
        (folder / "vm.json").write_text("{}")
        assert (await run.next())["vm"] == "r1"


def fake_ssh(folder):
    """Put a program ssh into the path that runs the command on this host."""
    program = folder / "ssh"
    program.write_text(
        '#!/bin/sh\necho "$@" >> "$0.log"\nfor last; do :; done\nexec sh -c "$last"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder / "ssh.log"


def test_another_host_through_ssh(root, monkeypatch):
    log = fake_ssh(root)
    monkeypatch.setenv("PATH", "%s:%s" % (root, os.environ["PATH"]))
    # As for a path that does not exist on this side.
    options = {"ssh": "hv2", "ssh_args": ["-p", "2222"], "patterns": PATTERNS}

    @in_loop
    async def run_it(root):
        folder = make_vm(root)
        with FakeQmp(folder / "monitor.sock", RUNNING) as qmp:
            async with Run(root, **options) as run:
                first = await run.next()
                assert (first["event"], first["hypervisor"]) == ("CONNECTED", "hv2")
                qmp.event("RESET", {"guest": True})
                assert (await run.next())["data"] == {"guest": True}
                (folder / "console.log").write_bytes(b"login: ")
                assert (await run.next())["data"]["pattern"] == "login: $"
            # The program there ends: it no longer holds the monitor.
            reader, writer = await asyncio.open_unix_connection(str(folder / "monitor.sock"))
            assert b"QMP" in await asyncio.wait_for(reader.readline(), TIMEOUT)
            writer.close()

    run_it(root)
    words = log.read_text().split()
    assert words[words.index("-p") + 1] == "2222" and words[words.index("--") + 1] == "hv2"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lab": "x"}, "has no option lab; options: roots, "),
        ({"labs": [1]}, "labs must be a list of strings"),
        ({"vms": {}}, "vms must be a list of strings"),
        ({"patterns": ["x"]}, "each of patterns must be a dictionary with regex"),
        ({"patterns": [{"regex": "("}]}, "regex '(' is not valid"),
        ({"patterns": [{"regex": "x", "console": "../x"}]}, "must be the name of a console"),
        ({"patterns": [{"regex": "x", "more": 1}]}, "patterns has no suboption more"),
        ({"patterns": 1}, "patterns must be a list"),
        ({"interval": 0}, "interval must be a number of at least 0.05"),
        ({"interval": True}, "interval must be a number"),
        ({"ssh": "-oProxyCommand=x"}, "ssh must be the name of a host"),
        ({"monitor": ""}, "monitor must be a string"),
    ],
    ids=str,
)
def test_an_option_that_is_not_valid(options, message):
    with pytest.raises(ValueError) as error:
        asyncio.run(SOURCE["main"](None, options))
    assert message in str(error.value)


def test_options_and_defaults_are_documented():
    documented = yaml.safe_load(SOURCE["DOCUMENTATION"])["options"]
    assert list(documented) == list(SOURCE["Settings"]._fields)
    settings = SOURCE["parse"]({})
    for name, option in documented.items():
        if "default" in option:
            assert getattr(settings, name) == option["default"], name
    (ruleset,) = yaml.safe_load(SOURCE["EXAMPLES"])
    (source,) = ruleset["sources"]
    SOURCE["parse"](source["vlab.qemu.qemu_events"])


def test_the_rulebooks_use_options_that_exist():
    for path in (documents.ROOT / "extensions/eda/rulebooks").glob("*.yml"):
        for ruleset in yaml.safe_load(path.read_text(encoding="utf-8")):
            for source in ruleset["sources"]:
                given = dict(source["vlab.qemu.qemu_events"])
                for name, value in given.items():
                    if isinstance(value, str) and value.startswith("{{"):
                        given[name] = None
                SOURCE["parse"](given)
