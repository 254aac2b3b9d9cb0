# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run modules on a hypervisor, each in a fork of one warm interpreter.

channel.py starts it with `python3 -c BOOTSTRAP`; the archive of bundle.py and this file are in the
module search path. Requests and replies are lines of JSON on the original standard input and
output. A module gets the same environment as from Ansible: its own session, no standard input, and
pipes for its output, which must be closed when it ends.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import os
import pkgutil
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any, BinaryIO, Dict, NoReturn, Optional, TextIO

# Seconds that the output of a module may stay open after its end, and that a module may run.
CLOSE_TIMEOUT = 10
RUN_TIMEOUT = 600
Request = Dict[str, Any]  # parsed JSON
# Runs a module in a new interpreter.
NEW_INTERPRETER = """
import json, sys
sys.path.insert(0, sys.argv[1])
import ansible.module_utils.basic as basic
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), 'legacy'
import runpy
runpy.run_module(sys.argv[2], run_name='__main__')
"""


class Server:
    """The server of one hypervisor: its temporary folder and its background jobs."""

    def __init__(self, bundle: str, folder: str) -> None:
        """Use the archive `bundle` and create temporary files in `folder`."""
        self.bundle, self.folder = bundle, folder
        self.jobs: dict[str, tuple[int, str]] = {}
        self.basic: Any = importlib.import_module("ansible.module_utils.basic")

    def import_all(self, _request: Request) -> Request:
        """Import every module and module utility of the collection; return their number."""
        package = importlib.import_module("ansible_collections.vlab.qemu.plugins")
        names = [
            entry.name
            for entry in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
            if not entry.ispkg
        ]
        for name in names:
            importlib.import_module(name)
        return {"imported": len(names), "python": "%d.%d" % sys.version_info[:2]}

    def put(self, request: Request) -> Request:
        """Write a temporary file; return its path."""
        folder = tempfile.mkdtemp(dir=self.folder)
        path = os.path.join(folder, os.path.basename(request["name"]))
        with open(path, "wb") as stream:
            stream.write(base64.b64decode(request["data"]))
        os.chmod(path, request.get("mode", 0o600))
        return {"path": path}

    def drop(self, request: Request) -> Request:
        """Delete a temporary file."""
        shutil.rmtree(os.path.dirname(request["path"]), ignore_errors=True)
        return {}

    def folder_of_target(self, request: Request) -> Request:
        """Create the output folder of a target, empty, or remove it."""
        path = request["path"]
        # What a failed target has left, so that its second try can begin.
        for mount in reversed(_mounts_below(path)):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(path, ignore_errors=True)
        if request["present"]:
            os.makedirs(path, mode=0o700)
        return {}

    def run(self, request: Request) -> Request:
        """Run a module and return its output."""
        if request.get("user"):
            return self._as_user(request)
        reading, writing = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            self._child(request, reading[1], writing[1])
        os.close(reading[1])
        os.close(writing[1])
        output, late = _read_all([reading[0], writing[0]], pid)
        status = os.waitpid(pid, 0)[1]
        return {"stdout": output[0], "stderr": output[1] + late, "status": status}

    def start(self, request: Request) -> Request:
        """Start a module in the background."""
        path = tempfile.mkdtemp(dir=self.folder)
        pid = os.fork()
        if pid == 0:
            streams = [
                os.open(os.path.join(path, name), os.O_WRONLY | os.O_CREAT, 0o600)
                for name in ("stdout", "stderr")
            ]
            self._child(request, *streams)
        job = "%d.%s" % (pid, os.path.basename(path))
        self.jobs[job] = (pid, path)
        return {"job": job}

    def poll(self, request: Request) -> Request:
        """Return the output of a background module, or that it still runs."""
        pid, path = self.jobs[request["job"]]
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            return {"running": True}
        del self.jobs[request["job"]]
        texts = []
        for name in ("stdout", "stderr"):
            with open(os.path.join(path, name), encoding="utf-8", errors="replace") as stream:
                texts.append(stream.read())
        shutil.rmtree(path)
        return {"stdout": texts[0], "stderr": texts[1], "status": status}

    def _child(self, request: Request, out: int, err: int) -> NoReturn:
        """Run the module in the forked process; never return."""
        status = 1
        try:
            os.setsid()
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.closerange(3, 256)
            os.environ.update(request.get("environment") or {})
            self.basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": request["args"]}).encode(
                "utf-8"
            )
            self.basic._ANSIBLE_PROFILE = "legacy"
            importlib.import_module(request["module"]).main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:  # Ansible would report a module failure
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status & 0xFF)

    def _as_user(self, request: Request) -> Request:
        """Run a module as another user, in a new interpreter."""
        arguments = json.dumps({"ANSIBLE_MODULE_ARGS": request["args"]}).encode("utf-8")
        argv = ["sudo", "-n", "-H", "-u", request["user"], "--", sys.executable, "-c"]
        argv += [NEW_INTERPRETER, self.bundle, request["module"]]
        done = subprocess.run(
            argv,
            input=arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=RUN_TIMEOUT,
            check=False,
            cwd="/",
        )
        return {
            "stdout": done.stdout.decode("utf-8", "replace"),
            "stderr": done.stderr.decode("utf-8", "replace"),
            "status": done.returncode << 8,
        }

    def close(self) -> None:
        """End the background jobs and delete the temporary files."""
        for pid, _path in self.jobs.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        shutil.rmtree(self.folder, ignore_errors=True)


def _ended(pid: int) -> bool:
    """Return whether a child has ended, without reaping it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _mounts_below(folder: str) -> list[str]:
    """Return the mount points below a folder, in the order in which they were mounted."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as stream:
        points = [line.split()[1] for line in stream]
    return [point for point in points if point.startswith(folder + "/")]


def _read_all(streams: list[int], pid: int) -> tuple[list[str], str]:
    """Return the complete outputs, and an error if they were not closed in time."""
    texts: dict[int, list[bytes]] = {stream: [] for stream in streams}
    live, deadline = set(streams), time.monotonic() + RUN_TIMEOUT
    closing: Optional[float] = None
    late = ""
    while live:
        now = time.monotonic()
        if closing is None and _ended(pid):
            closing = now + CLOSE_TIMEOUT
        if now > (closing or deadline):
            late = "\nsteps: %s" % (
                "a process that the module started keeps its output open"
                if closing
                else "the module ran for more than %d s" % RUN_TIMEOUT
            )
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            break
        for stream in select.select(list(live), [], [], 0.2)[0]:
            data = os.read(stream, 65536)
            texts[stream].append(data)
            if not data:
                live.discard(stream)
    for stream in streams:
        os.close(stream)
    return [b"".join(texts[stream]).decode("utf-8", "replace") for stream in streams], late


def main(bundle: str, folder: str, requests: BinaryIO, replies: TextIO) -> None:
    """Answer requests until the connection is closed."""
    server = Server(bundle, folder)
    actions = {
        "folder": server.folder_of_target,
        "import_all": server.import_all,
        "put": server.put,
        "drop": server.drop,
        "run": server.run,
        "start": server.start,
        "poll": server.poll,
    }
    try:
        for line in requests:
            request = json.loads(line)
            try:
                reply = actions[request["action"]](request)
            except Exception:  # the client raises it
                reply = {"error": traceback.format_exc()}
            replies.write(json.dumps(reply) + "\n")
            replies.flush()
    finally:
        server.close()
