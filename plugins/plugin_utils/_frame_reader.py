# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A program on the controller that reads the frames of a live capture, such as Wireshark."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import threading
from typing import IO, Any, Callable

from ansible.errors import AnsibleActionFail

from ansible_collections.vlab.qemu.plugins.module_utils._common.processes import start_program
from ansible_collections.vlab.qemu.plugins.module_utils._remote import protocol
from ansible_collections.vlab.qemu.plugins.plugin_utils._stream import Stream

_MAX_LINES = 1000  # of its output, in the result
_END_TIMEOUT = 30  # seconds


def words_of(reader: str) -> list[str]:
    """Return the program and its arguments from the option reader. Raises AnsibleActionFail."""
    try:
        words = shlex.split(reader)
    except ValueError as error:
        raise AnsibleActionFail("reader: %r is not a command: %s" % (reader, error))
    if not words:
        raise AnsibleActionFail("reader: a program is required")
    return words


class FrameReader:
    """The program. show: called with each line of its output. Raises AnsibleActionFail."""

    def __init__(self, words: list[str], show: Callable[[str], object]) -> None:
        self._words, self._show = words, show
        self._lines: list[str] = []
        self._is_passed = False  # whether it got all that the stream has
        try:
            self._process = start_program(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise AnsibleActionFail(
                "reader: cannot run %s on the controller: %s" % (words[0], error.strerror)
            )

    def run(self, stream: Stream) -> dict[str, Any]:
        """Pass the data of a stream on until one of the two ends; return the result of the task.

        A program that shows the frames stays open after the end of the stream.
        """
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise AnsibleActionFail("reader: %s has no pipes" % self._words[0])
        pump = threading.Thread(target=self._pump, args=(stream, process.stdin), daemon=True)
        pump.start()
        for line in process.stdout:
            text = _printable(line.decode("utf-8", "replace").rstrip("\n"))
            self._show(text)
            self._lines = [*self._lines[1 - _MAX_LINES :], text]
        code = process.wait()
        stream.end()
        pump.join(_END_TIMEOUT)
        return self._result(stream, code)

    def stop(self) -> None:
        """End the program, for which there is no stream."""
        self._process.kill()
        self._process.wait()

    def _pump(self, stream: Stream, target: IO[bytes]) -> None:
        with contextlib.suppress(BrokenPipeError), contextlib.closing(stream.pieces()) as pieces:
            for piece in pieces:
                target.write(piece)
                target.flush()
            self._is_passed = True
        with contextlib.suppress(BrokenPipeError):
            target.close()

    def _result(self, stream: Stream, code: int) -> dict[str, Any]:
        outcome, failure = stream.outcome, ""
        if outcome is not None and outcome.type == protocol.ERROR:
            failure = outcome.content["message"]
        elif outcome is None and self._is_passed:
            failure = "the connection to the hypervisor ended: %s" % (
                stream.output()[-1000:] or "it printed nothing"
            )
        elif code != 0:
            failure = "reader: %s ended with exit code %d: %s" % (
                self._words[0],
                code,
                "\n".join(self._lines[-5:]) or "it printed nothing",
            )
        result = {"rc": code, "stdout": "\n".join(self._lines), "stdout_lines": self._lines}
        return dict(result, failed=True, msg=failure) if failure else result


def _printable(text: str) -> str:
    """Return text without control characters: guests choose what is in their frames."""
    return "".join(letter if letter.isprintable() or letter == "\t" else "." for letter in text)
