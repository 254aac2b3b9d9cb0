# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The error of a file that cannot be imported."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError

_MAX_SHOWN = 80


class LabFileError(VlabError):
    """A file of another tool that cannot be imported.

    file: its name. problems: (place in the file, reason) pairs; an empty place is the whole file.
    """

    def __init__(self, file: str, problems: Iterable[tuple[str, str]]) -> None:
        self.file, self.problems = file, list(problems)
        lines = ["%s: %s" % pair if pair[0] else pair[1] for pair in self.problems]
        text = lines[0] if len(lines) == 1 else "\n  " + "\n  ".join(lines)
        super().__init__("cannot import %s: %s" % (file, text), path=file)


def excerpt(value: object) -> str:
    """Return a value for a message, in at most a line."""
    text = ascii(value)
    return text if len(text) <= _MAX_SHOWN else text[:60] + " ... " + text[-10:]
