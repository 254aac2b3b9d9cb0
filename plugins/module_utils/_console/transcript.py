# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What a console has shown: the end of it, with secrets masked."""

from __future__ import annotations

import re
from typing import Iterable

MAX_OUTPUT = 1 << 20  # bytes
MAX_SHOWN_LINES = 20  # in an error
_MAX_SHOWN_OUTPUT = 2000  # characters in an error
_MASK = "********"
_OMITTED = "[earlier output is omitted]\n"
# Values in a configuration that an error must not show: what follows such a word, and the name of
# an encryption after it.
_SECRET_VALUES = re.compile(
    r"(?i)((?:password|passwd|secret|passphrase|psk|pre-shared-key|key-string|community)"
    r"(?:[ =:]+(?:\d|md5|sha\d*|hash|cipher|irreversible-cipher|encrypted|clear|plain(?:-?text)?)"
    r"(?= ))?[ =:]+)(?!\*)\S+"
)


class Transcript:
    """The output of a console, as text. secrets: texts that it never shows."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # A secret may contain another one.
        self._secrets = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self._output = bytearray()
        self._is_cut = False

    def add(self, output: bytes) -> None:
        """Add output; of all output, only the end is kept."""
        self._output += output
        if len(self._output) > MAX_OUTPUT:
            del self._output[:-MAX_OUTPUT]
            self._is_cut = True

    def masked(self, text: str) -> str:
        """Return text with the secrets masked."""
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text

    def without_secrets(self, text: str) -> str:
        """Return text without the secrets, and without the values of secrets in a configuration."""
        return _SECRET_VALUES.sub(r"\1" + _MASK, self.masked(text))

    def shows(self, pattern: re.Pattern[bytes]) -> bool:
        """Whether the output matches a pattern."""
        return pattern.search(self._output) is not None

    @property
    def text(self) -> str:
        """All output that is kept."""
        text = bytes(self._output).decode("utf-8", "replace")
        text = self.masked(text.replace("\r\n", "\n").replace("\r", "\n"))
        return _OMITTED + text.partition("\n")[2] if self._is_cut else text

    @property
    def last_lines(self) -> str:
        """The last lines for an error, without the values of secrets in a configuration."""
        lines = [line.rstrip() for line in self.text.strip().split("\n")]
        text = "\n".join([line for line in lines if line][-MAX_SHOWN_LINES:])[-_MAX_SHOWN_OUTPUT:]
        return _SECRET_VALUES.sub(r"\1" + _MASK, text) or "nothing"

    def shown_text(self, text: str) -> str:
        """Return a typed text as an error shows it."""
        return repr(self.without_secrets(text))
