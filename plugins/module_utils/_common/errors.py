# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The exceptions of this collection. A module catches VlabError once and calls fail_json."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator


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


@contextlib.contextmanager
def report_os_errors(what: str) -> Iterator[None]:
    """Raise HostError for an OSError in the block: a full disk, a quota, a read-only folder.

    what: what was tried, as "cannot ...".
    """
    try:
        yield
    except OSError as error:
        raise host_error(what, error)


def host_error(what: str, error: OSError) -> HostError:
    """Return a HostError with the path and the reason of an OSError."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return HostError("%s: %s" % (what, reason))
    return HostError("%s: %s: %s" % (what, error.filename, reason), path=str(error.filename))


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
