# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What python3 -c runs on a hypervisor to do errands: it finds the rooms that are kept there, or unpacks those that come along.

Words: the mark of the bundle, the size of the bundle that comes first on standard input, 0 for none, and the room that serves.
"""

from __future__ import annotations

import json
import secrets
import shlex
from typing import Any, NamedTuple

from ansible_collections.vlab.qemu.plugins.plugin_utils import _bundle

MISSING = "vlab-bundle-missing"
START = (
    r"""
import importlib, os, sys, tempfile, types
mark, size = sys.argv[1], int(sys.argv[2])
name = ""
for word in "ansible_collections.vlab.qemu.plugins.module_utils._common".split("."):
    package, name = name, (name + "." + word).lstrip(".")
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
base = "/var/cache/vlab" if os.geteuid() == 0 else os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vlab")
folder = os.path.join(base, "bundle-" + mark)
if size:
    with tempfile.NamedTemporaryFile(suffix=".zip") as archive:
        archive.write(sys.stdin.buffer.read(size))
        archive.flush()
        sys.modules[name].__path__ = [os.path.join(archive.name, "_common")]
        from ansible_collections.vlab.qemu.plugins.module_utils._common.bundle import load
        load(mark, archive.name)
for place in (base, folder):
    try:
        state = os.lstat(place)
    except OSError:
        sys.stdin.buffer.read()  # nobody is to write into a pipe that has gone
        print("%s")
        sys.exit()
    if state.st_uid != os.geteuid() or state.st_mode & 0o22:
        sys.exit(place + " can be written to by others")
os.utime(folder)
sys.modules[package].__path__, sys.modules[name].__path__ = [folder], [os.path.join(folder, "_common")]
importlib.import_module(package + "." + sys.argv[3]).serve(sys.stdin.buffer, sys.stdout.buffer)
"""
    % MISSING
)


class Answer(NamedTuple):
    """What came of an errand. told: what it answered, or None. data: the bytes after that. begun: whether it had, where nothing was told.

    code, said: the exit code of its Python, and what that said of its end.
    """

    told: Any
    data: bytes
    begun: bool
    code: int
    said: str


def ask(run, interpreter, room, request, data=b""):
    """Have a room of the hypervisor do what a request (a dict) asks for, and tell what came of it: an Answer.

    run(command, input): runs a line of sh there, and returns (exit code, output, error output), all in bytes.
    interpreter: one or more words. room: the path of a room with a function serve.
    """
    token = "vlab-" + secrets.token_hex(8)
    mark, line = (
        token.encode("ascii"),
        json.dumps(dict(request, mark=token)).encode("ascii") + b"\n",
    )
    for packed in (lambda: b"", _bundle.packed):
        bundle = packed()
        # -I: nothing of the user's Python gets in between.
        words = [
            *shlex.split(interpreter),
            "-I",
            "-c",
            START,
            _bundle.mark(),
            str(len(bundle)),
            room,
        ]
        code, out, error = run(shlex.join(words), bundle + line + data)
        if mark in out or MISSING.encode("ascii") not in out:
            break
    before, found, answer = out.partition(mark + b"\n")
    head, _newline, rest = answer.partition(b"\n")
    return Answer(
        json.loads(head) if found else None,
        rest,
        mark in before,
        code,
        (error or out).decode("utf-8", "replace").strip(),
    )


def interpreter_of(variables):
    """The Python of a host, by its variables: the one given, the one that Ansible has found, or python3."""
    given = variables.get("ansible_python_interpreter") or "auto"
    if not given.startswith("auto"):
        return given
    return (variables.get("ansible_facts") or {}).get("discovered_interpreter_python") or "python3"
