# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The exceptions of this collection. A module catches VlabError once and calls fail_json."""

from __future__ import annotations

from typing import Any


class VlabError(Exception):
    """An error that the user can read and act on.

    message: what was tried, what the program said, which option fixes it.
    facts: further fields of the module's failure result, such as cmd, rc, log.
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class OptionError(VlabError):
    """A value that cannot be used.

    option: its path as the user wrote it, such as disks[1].size. reason: why.
    """

    def __init__(self, option: str, reason: str, **facts: Any) -> None:
        super().__init__("%s: %s" % (option, reason), option=option, **facts)
        self.option, self.reason = option, reason


class HostError(VlabError):
    """The hypervisor lacks something: a program, a permission, memory, a port."""


class ProgramError(VlabError):
    """A program failed. facts: cmd (argv list), rc, stderr."""


class ImageError(VlabError):
    """An image file is missing, unreadable, changed, in use or invalid. facts: path."""


class MonitorError(VlabError):
    """QEMU refused a command, or its monitor cannot be reached. facts: command, error_class."""


class MonitorTimeout(MonitorError):
    """QEMU did not answer, or an event did not come, before the deadline."""


class MonitorClosed(MonitorError):
    """No process listens on the monitor's socket, or QEMU ended during the session. facts: path."""


class LaunchError(VlabError):
    """QEMU did not start. facts: cmd (argv list), rc, log (the end of its output)."""


class GuestError(VlabError):
    """The guest or its agent failed, or gave an answer that cannot be used."""


class RestartRequired(VlabError):
    """A running VM needs a power cycle for some changes, and allow_restart is not set.

    facts: options.
    """


class LockTimeout(VlabError):
    """Another run holds the lock. facts: path, holder."""


class GuestNotReady(GuestError):
    """The VM runs, but its guest does not answer yet: it may still be booting."""


class GuestGone(GuestError):
    """The guest went away while it was used: it ended, rebooted, or stopped answering."""


class LoginFailed(GuestError):
    """The guest rejected the login."""
