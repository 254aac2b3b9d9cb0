# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The messages between a controller and the process that it starts on a hypervisor.

The controller writes one request to the standard input of the process. The process answers on
its standard output: `started` before it calls the handler, then `result` or `error`. A handler that
is a generator sends `data` before that. A message is

    TOKEN TYPE           a line; all messages of one request have the token of the request
    {"sizes": [3], ...}  a line of JSON: the content, and the sizes of the data that follows
    abc                  the data: pieces of bytes, one after the other

A reader skips other output before a message, such as the greeting of a login shell.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import IO, Any, Callable, Dict, Generator, Mapping, NamedTuple, Sequence, Tuple, Union

REQUEST = "request"
STARTED = "started"  # from here on the handler may have changed something
DATA = "data"
RESULT = "result"
ERROR = "error"
CODE_BUNDLE_MISSING = "code-bundle-missing"

_TOKEN = rb"vlab-[0-9a-f]+"

# A result and pieces of data.
Outcome = Tuple[Dict[str, Any], Sequence[bytes]]
# Yields data that is sent at once.
Stream = Generator[bytes, None, Outcome]
# Takes the parameters and the data of a request.
Handler = Callable[[Dict[str, Any], bytes], Union[Outcome, Stream]]


class RequestError(Exception):
    """A handler could not do what was requested. kind: the word by which a client classifies it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


class Message(NamedTuple):
    """A message. type: one of the constants above."""

    token: str
    type: str
    content: dict[str, Any]
    pieces: Sequence[bytes] = ()


def write_message(target: IO[bytes], message: Message) -> None:
    """Write a message to a binary stream and flush the stream."""
    head = dict(message.content, sizes=[len(piece) for piece in message.pieces])
    lines = "%s %s\n%s\n" % (message.token, message.type, json.dumps(head))
    target.write(lines.encode("ascii"))
    for piece in message.pieces:
        target.write(piece)
    target.flush()


def read_message(source: IO[bytes], token: str | None = None) -> Message | None:
    """Return the next message of a binary stream, with this token if one is given; None at the end.

    Raises EOFError when the stream ends within a message.
    """
    head = re.compile(rb"(%s) ([a-z-]+)\n" % (token.encode("ascii") if token else _TOKEN))
    for line in source:
        match = head.search(line)
        if match:
            break
    else:
        return None
    text = source.readline()
    if not text.endswith(b"\n"):
        raise EOFError("the stream ended within a message")
    content = json.loads(text)
    pieces = [source.read(size) for size in content["sizes"]]
    if [len(piece) for piece in pieces] != content.pop("sizes"):
        raise EOFError("the stream ended within a message")
    return Message(match[1].decode("ascii"), match[2].decode("ascii"), content, pieces)


def handle_request(handlers: Mapping[str, Handler], request: Message, target: IO[bytes]) -> None:
    """Call the handler that a request names; write its result or RequestError to target."""
    write_message(target, Message(request.token, STARTED, {}))
    handler = handlers[request.content["name"]]
    try:
        outcome = handler(request.content["parameters"], request.pieces[0])
        if not isinstance(outcome, tuple):
            outcome = _send_stream(outcome, request.token, target)
        result, pieces = outcome
    except RequestError as error:
        content = {"kind": error.kind, "message": error.message}
        write_message(target, Message(request.token, ERROR, content))
    else:
        write_message(target, Message(request.token, RESULT, {"result": result}, pieces))


def _send_stream(stream: Stream, token: str, target: IO[bytes]) -> Outcome:
    """Send what a handler yields; return its outcome."""
    with contextlib.closing(stream):  # also if the client has ended
        while True:
            try:
                piece = next(stream)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
            write_message(target, Message(token, DATA, {}, (piece,)))
