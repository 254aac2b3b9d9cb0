# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The one exception tree. A module catches VlabError once and turns it into fail_json."""

from __future__ import annotations


class VlabError(Exception):
    """Something that the user can read and act on.

    message: what was tried, what the program said, which option mends it.
    facts: further fields of the module's failure result, such as cmd, rc, log.
    """

    def __init__(self, message, **facts):
        super().__init__(message)
        self.message = message
        self.facts = facts


class OptionError(VlabError):
    """A value that cannot be used. option: its path as the user wrote it, such as disks[1].size. reason: why."""

    def __init__(self, option, reason, **facts):
        super().__init__("%s: %s" % (option, reason), option=option, **facts)
        self.option, self.reason = option, reason


class HostError(VlabError):
    """The hypervisor lacks something: a program, a permission, memory, a port."""


class ProgramError(VlabError):
    """A program that ended with an error. facts: cmd (argv list), rc, stderr."""


class ImageError(VlabError):
    """An image file that is missing, unreadable, changed, in use or wrong. facts: path."""


class MonitorError(VlabError):
    """QEMU refused a command, or its monitor cannot be reached. facts: command, error_class."""


class MonitorTimeout(MonitorError):
    """QEMU did not answer, or an event did not come, before the deadline."""


class MonitorClosed(MonitorError):
    """Nobody listens at the monitor's socket, or QEMU ended while we were connected. facts: path."""


class LaunchError(VlabError):
    """QEMU did not start. facts: cmd (argv list), rc, log (the end of what it said)."""


class GuestError(VlabError):
    """The guest or its agent did not do its part."""


class RestartRequired(VlabError):
    """Changes that need a power cycle, on a running VM, without allow_restart. facts: options."""


class LockTimeout(VlabError):
    """Another run holds the lock. facts: path, holder."""


class GuestNotReady(GuestError):
    """The VM runs, but its guest does not answer yet: it may still be booting."""


class LoginFailed(GuestError):
    """The guest did not let us in."""
