# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""File descriptors that QEMU inherits: files that we open, and that it finds as /dev/fdset/SET."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.paths import absolute_path
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import (
    check_number,
    shown,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import keyval
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.part import (
    Option,
    Part,
    without_none,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Definition
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host

_MAX_SET = (1 << 31) - 1
# Each mode with its flag of open(2), and what the process must be allowed: access(2).
_MODES = {
    "r": (os.O_RDONLY, os.R_OK),
    "w": (os.O_WRONLY, os.W_OK),
    "rw": (os.O_RDWR, os.R_OK | os.W_OK),
}
# A FIFO without a reader, and a terminal, must not hold up or change our process.
_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
# The numbers in QEMU's process: above those that a shell or a wrapper uses for itself.
_FIRST = 100


def _descriptors(path: str, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
    descriptors: list[dict[str, Any]] = []
    numbers: dict[tuple[int, str], int] = {}
    for number, given in enumerate(value):
        item = "%s[%d]" % (path, number)
        entry = {
            "set": check_number(item + ".set", given["set"], 0, _MAX_SET, "a descriptor set"),
            "path": absolute_path(item + ".path", given["path"]),
            "mode": given.get("mode") or "r",
            "opaque": given.get("opaque") or None,
        }
        key = (entry["set"], entry["mode"])
        if key in numbers:
            raise OptionError(
                item + ".set",
                "%s[%d] has the mode %s in the set %d too, and QEMU takes the first one"
                % (path, numbers[key], entry["mode"], entry["set"]),
            )
        numbers[key] = number
        descriptors.append(entry)
    return descriptors


def _check_access(option: str, path: str, mode: str) -> None:
    """Raise OptionError if we may not open what is at path, without an effect on it."""
    try:
        state = os.stat(path)
    except OSError as error:
        if error.errno == errno.ENOENT and os.path.islink(path):
            raise OptionError(
                option,
                "the link %s points to %s, which does not exist" % (path, os.readlink(path)),
            )
        raise OptionError(option, "cannot reach %s: %s" % (path, error.strerror))
    if stat.S_ISDIR(state.st_mode) or stat.S_ISSOCK(state.st_mode):
        raise OptionError(option, "%s is a folder or a socket, which cannot be opened" % path)
    if not os.access(path, _MODES[mode][1], effective_ids=True):
        raise OptionError(
            option,
            "user id %d may not open %s with the mode %s" % (os.geteuid(), shown(path), mode),
        )


def _open(option: str, path: str, mode: str, least: int) -> int:
    """Open a file; return its descriptor, with a number from least up. Raises OptionError."""
    try:
        opened = os.open(path, _MODES[mode][0] | _FLAGS)
    except OSError as error:
        reason = "no process reads this FIFO" if error.errno == errno.ENXIO else error.strerror
        raise OptionError(option, "cannot open %s with the mode %s: %s" % (path, mode, reason))
    try:
        fcntl.fcntl(opened, fcntl.F_SETFL, fcntl.fcntl(opened, fcntl.F_GETFL) & ~os.O_NONBLOCK)
        return fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, least)
    except OSError as error:
        raise OptionError(option, "cannot pass on %s: %s" % (path, error.strerror))
    finally:
        os.close(opened)


class Descriptors(Part):
    """The part that owns the descriptors that QEMU inherits."""

    name = "descriptors"
    options = {
        "fds": Option(
            {
                "type": "list",
                "elements": "dict",
                "options": {
                    "set": {"type": "int", "required": True},
                    "path": {"type": "path", "required": True},
                    "mode": {"type": "str", "choices": list(_MODES), "default": "r"},
                    "opaque": {"type": "str"},
                },
            },
            [],
            normalise=_descriptors,
            written=lambda entries: [without_none(entry) for entry in entries] or None,
        )
    }

    def check_files(self, desired: Definition, options: set[str] | None) -> None:
        if options is None or "fds" in options:
            for number, entry in enumerate(desired.get("fds", ())):
                _check_access("fds[%d].path" % number, entry["path"], entry["mode"])

    def before_launch(self, desired: Definition, host: Host) -> None:
        host.close_descriptors()
        for number, entry in enumerate(desired["fds"]):
            option = "fds[%d].path" % number
            host.descriptors.append(_open(option, entry["path"], entry["mode"], _FIRST + number))

    def release(self, definition: Definition, host: Host) -> None:
        host.close_descriptors()

    def arguments(self, desired: Definition, host: Host) -> list[str]:
        words = []
        for number, entry in enumerate(desired["fds"]):
            # Before they are opened: what they are going to be, unless a number is in use.
            opened = host.descriptors[number] if host.descriptors else _FIRST + number
            properties = {"fd": opened, "set": entry["set"], "opaque": entry["opaque"]}
            words += ["-add-fd", keyval("", properties)]
        return words
