# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Requests to a hypervisor: one Python process there, which handles one request and ends.

The process is `python3 -I -S -c LOADER`. Its standard input has the text of the modules _SOURCES,
then the request. So the code that finds, checks and loads the code bundle exists once, in _SOURCES.
"""

from __future__ import annotations

import io
import os
import secrets
import shlex
from typing import Any, Callable, Mapping, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._remote import protocol
from ansible_collections.vlab.qemu.plugins.module_utils._remote.protocol import Message
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote import code_bundle

# What bootstrap needs before there is a code bundle, in the order of their imports.
_SOURCES = ("cache_folder", "code_bundle", "protocol", "bootstrap")

# Arguments: NAME=SIZE for each module that comes on standard input; the last one has main().
LOADER = """\
import sys, types
package = ""
for name in "ansible_collections.vlab.qemu.plugins.module_utils._remote".split("."):
    package = (package + "." + name).lstrip(".")
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = []
for argument in sys.argv[1:]:
    name, size = argument.split("=")
    module = sys.modules[package + "." + name] = types.ModuleType(package + "." + name)
    exec(compile(sys.stdin.buffer.read(int(size)), name + ".py", "exec"), vars(module))
module.main()
"""

# Runs a line of sh with input on the hypervisor; returns (exit code, output, error output).
Run = Callable[[str, bytes], tuple[int, bytes, bytes]]


class Reply(NamedTuple):
    """What came back from a request.

    message: the handler's RESULT or ERROR, None without one. started: whether the handler was
    called. incomplete: the output ended within a message. code, output: the exit code of the
    process, and what it wrote to its error output.
    """

    message: Message | None
    started: bool
    incomplete: bool
    code: int
    output: str


def send_request(
    run: Run,
    interpreter: str,
    service: str,
    name: str,
    parameters: Mapping[str, Any],
    data: bytes = b"",
) -> Reply:
    """Have a hypervisor handle a request, and return what came back.

    interpreter: the command of Python there, one or more words. service: a module below
    module_utils with HANDLERS, of which name is one. data: bytes for the handler.
    """
    request = request_for(service, name, parameters, data)
    reply, missing = _exchange(run, interpreter, request)
    if missing:
        request = request._replace(pieces=(data, code_bundle.pack()))
        reply, missing = _exchange(run, interpreter, request)
    return reply


def request_for(
    service: str, name: str, parameters: Mapping[str, Any], data: bytes = b""
) -> Message:
    """Return the message of a request."""
    content = {
        "code_bundle": code_bundle.digest(),
        "service": service,
        "name": name,
        "parameters": parameters,
    }
    return Message("vlab-" + secrets.token_hex(8), protocol.REQUEST, content, (data,))


def process_of(interpreter: str, request: Message) -> tuple[str, bytes]:
    """Return the command line of the process that handles a request, and its standard input."""
    sources = {name: _read_source(name) for name in _SOURCES}
    sizes = ["%s=%d" % (name, len(text)) for name, text in sources.items()]
    # -I: the user's own Python modules and settings have no effect. -S: nor do packages that are
    # installed beside the standard library, which can take longer to load than the request.
    command = shlex.join([*shlex.split(interpreter), "-I", "-S", "-c", LOADER, *sizes])
    stdin = io.BytesIO()
    stdin.write(b"".join(sources.values()))
    protocol.write_message(stdin, request)
    return command, stdin.getvalue()


def _exchange(run: Run, interpreter: str, request: Message) -> tuple[Reply, bool]:
    """Start the process for a request. Return the reply and whether the code bundle is missing."""
    code, out, error = run(*process_of(interpreter, request))
    messages, incomplete = _read_messages(out, request.token)
    last = messages[-1] if messages else None
    is_result = last is not None and last.type in (protocol.RESULT, protocol.ERROR)
    reply = Reply(
        last if is_result else None,
        any(message.type == protocol.STARTED for message in messages),
        incomplete,
        code,
        (error or out).decode("utf-8", "replace").strip(),
    )
    return reply, last is not None and last.type == protocol.CODE_BUNDLE_MISSING


def _read_messages(out: bytes, token: str) -> tuple[list[Message], bool]:
    """Return the messages in the output of the process, and whether it ended within one."""
    source = io.BytesIO(out)
    messages: list[Message] = []
    try:
        while True:
            message = protocol.read_message(source, token)
            if message is None:
                return messages, False
            messages.append(message)
    except EOFError:
        return messages, True


def _read_source(name: str) -> bytes:
    with open(os.path.join(code_bundle.MODULE_UTILS, "_remote", name + ".py"), "rb") as stream:
        return stream.read()


def interpreter_of(variables: Mapping[str, Any]) -> str:
    """Return the command of Python on a host: from its variables, or as Ansible found it."""
    given = str(variables.get("ansible_python_interpreter") or "auto")
    if not given.startswith("auto"):
        return given
    facts = variables.get("ansible_facts") or {}
    return str(facts.get("discovered_interpreter_python") or "python3")
