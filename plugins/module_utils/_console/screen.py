# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Type on a console, and wait for a text or a prompt, among messages that come at any time."""

from __future__ import annotations

import re
import time
from typing import NamedTuple, Pattern, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import GuestError
from ansible_collections.vlab.qemu.plugins.module_utils._console.console import Console

# Seconds without output after what looks like a prompt: more output follows a text that is none.
QUIET_TIME = 0.2
# Seconds without output before a password is typed. BusyBox prints the prompt before it turns the
# echo off and discards what was typed so far: a password that comes too early is in the log, and
# lost.
ECHO_OFF_TIME = 0.5
MAX_OUTPUT = 16 << 20  # bytes of the output of a command
_MAX_CHUNK = 100  # characters typed at once: the UARTs of some systems lose more than about 115
_CHUNK_PAUSE = 0.05  # seconds between chunks that are not echoed
_MAX_PROMPT = 4096  # bytes of the last line
_LINE_ENDS = re.compile(rb"[\r\n\0]+")


class Found(NamedTuple):
    """What a console shows.

    number: which of the texts, or, after them, of the prompts. output: all up to its end.
    """

    number: int
    match: re.Match[bytes]
    output: bytes


def prompt_at_end(pattern: Pattern[bytes], printed: bytes) -> re.Match[bytes] | None:
    """Return the match of a pattern that the last line ends with, or None."""
    line = _LINE_ENDS.split(printed[-_MAX_PROMPT:].rstrip(b"\r\0"))[-1]
    end = len(line.rstrip())
    return next((match for match in pattern.finditer(line) if match.end() >= max(end, 1)), None)


def wait_for(
    console: Console,
    texts: Sequence[Pattern[bytes]],
    prompts: Sequence[Pattern[bytes]],
    deadline: float,
    wake: float = 0,
    wake_keys: bytes = b"\r",
) -> Found | None:
    """Wait until a console shows one of texts, or ends with one of prompts and pauses.

    A text counts before a prompt. The output up to it is removed from printed.
    wake: seconds without output after which wake_keys are typed, as a message may have covered a
    prompt; 0 for never. Return None at deadline (time.monotonic()).
    Raises GuestError for more than 16 MiB of output before a prompt.
    """
    # Without texts, complete lines need not be searched again.
    lines = bytearray()
    wake_at = time.monotonic() + wake if wake else deadline
    is_late = False
    try:
        while True:
            found = _search(texts, prompts, console.printed)
            if found is not None and (
                found.number < len(texts)
                or not console.read(min(deadline, time.monotonic() + QUIET_TIME))
            ):
                output = bytes(lines) + found.output
                del lines[:]
                console.printed = console.printed[len(found.output) :]
                return found._replace(output=output)
            if is_late:
                return None
            if found is None and not console.read(min(deadline, wake_at)):
                if time.monotonic() >= deadline:
                    return None
                console.send(wake_keys, deadline)
                wake_at = time.monotonic() + wake
            elif wake:
                wake_at = time.monotonic() + wake
            if not texts:
                _move_lines(console, lines)
            # A guest may print without a pause: check the clock after each search.
            is_late = time.monotonic() >= deadline
    finally:
        if lines:
            console.printed = bytes(lines) + console.printed


def _search(
    texts: Sequence[Pattern[bytes]], prompts: Sequence[Pattern[bytes]], printed: bytes
) -> Found | None:
    matches = [(number, pattern.search(printed)) for number, pattern in enumerate(texts)]
    found = [(match.start(), number, match) for number, match in matches if match]
    if found:
        _start, number, match = min(found, key=lambda entry: entry[:2])
        return Found(number, match, printed[: match.end()])
    for number, pattern in enumerate(prompts):
        at_end = prompt_at_end(pattern, printed)
        if at_end:
            return Found(len(texts) + number, at_end, printed)
    return None


def _move_lines(console: Console, lines: bytearray) -> None:
    end = console.printed.rfind(b"\n") + 1
    lines += console.printed[:end]
    console.printed = console.printed[end:]
    if len(lines) > MAX_OUTPUT:
        del lines[:-_MAX_PROMPT]
        raise GuestError("the console printed more than %d MiB" % (MAX_OUTPUT >> 20))


def is_shown(patterns: Sequence[Pattern[bytes]], printed: bytes) -> bool:
    """Return whether output has a text, other than an empty one, that a pattern matches."""
    return any(match.group() for pattern in patterns for match in pattern.finditer(printed))


def read_until_quiet(console: Console, quiet: float, deadline: float) -> None:
    """Read until there was no output for some seconds, or until deadline."""
    while time.monotonic() < deadline:
        if not console.read(min(deadline, time.monotonic() + quiet)):
            break


def pause(console: Console, seconds: float, deadline: float) -> None:
    """Let seconds pass, and read what the console shows."""
    end = min(deadline, time.monotonic() + seconds)
    while time.monotonic() < end:
        console.read(end)


def type_text(console: Console, text: str, deadline: float, echo: bool) -> tuple[bytes, str]:
    """Type a text in chunks.

    echo: wait for the echo of each chunk. Return the output up to the end of the echo, and the
    chunk that was not echoed by deadline; empty if all was.
    """
    output = b""
    data = text.encode("utf-8", "surrogateescape")
    for start in range(0, len(data), _MAX_CHUNK):
        chunk = data[start : start + _MAX_CHUNK]
        if echo:
            output, console.printed = output + console.printed, b""
        console.send(chunk, deadline)
        if echo:
            end = _read_echo(console, chunk, deadline)
            if end is None:
                return output, chunk.decode("utf-8", "replace")
            output, console.printed = output + console.printed[:end], console.printed[end:]
        elif start + _MAX_CHUNK < len(data):
            pause(console, _CHUNK_PAUSE, deadline)
    return output, ""


def _read_echo(console: Console, chunk: bytes, deadline: float) -> int | None:
    """Return where the echo of chunk ends in printed, None if it does not come.

    Messages, line breaks and cursor movements may be between its characters.
    """
    letters = bytes(letter for letter in chunk if 32 < letter < 127)
    searched = found = 0
    while found < len(letters):
        printed = console.printed
        while found < len(letters):
            at = printed.find(letters[found : found + 1], searched)
            if at < 0:
                break
            searched, found = at + 1, found + 1
        if found == len(letters):
            break
        before = len(printed)
        if time.monotonic() >= deadline or not console.read(deadline):
            return None
        if len(console.printed) < before:  # an escape sequence was removed, or old output
            searched = found = 0
        else:
            searched = max(searched, min(before, len(console.printed)))
    return searched
