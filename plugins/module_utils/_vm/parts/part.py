# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What a part of a machine is: it owns everything about its options."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import RESTART, Change
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError


class Option(NamedTuple):
    """One option of a VM.

    spec: its entry in the argument spec. default: the value of a new VM that does not say. how: how a change reaches a running
    VM. normalise(path, value): the value as the definition keeps it; raises OptionError naming path.
    """

    spec: dict
    default: Any = None
    how: str = RESTART
    normalise: Optional[Callable] = None


class Part:
    """The neutral part; a part overrides what it has.

    A definition is a flat dict of every option, complete with defaults, plus what is derived once and kept: uuid, places, ports.
    """

    name = ""
    options: dict = {}

    def merge(self, saved, given):
        """This part's options for the definition: given where the user said something, else saved, else the default.

        An empty text takes back what was said: the default is there again.
        """
        merged = {}
        for name, option in self.options.items():
            value = given.get(name)
            if value is None:
                merged[name] = saved.get(name, option.default)
            elif value == "":
                merged[name] = option.default
            else:
                merged[name] = option.normalise(name, value) if option.normalise else value
        return merged

    def complete(self, desired, saved, given, host):
        """Derive what the options leave open, in wanted; check options against each other and against the QEMU at hand."""

    def places(self, desired):
        """The devices that need a place: list of (key, kind, index asked for or None, option)."""
        return []

    def ports(self, desired):
        """The host ports that the definition needs: list of ports.Wish."""
        return []

    def compare(self, running, desired):
        """The changes from one definition to another."""
        return [
            Change((name,), running.get(name), desired.get(name), option.how, self.name)
            for name, option in self.options.items()
            if running.get(name) != desired.get(name)
        ]

    def look(self, observation):
        """Correct what observation.running says by what QEMU told."""

    def check_start(self, desired, host):
        """Whatever can be known to prevent a start, before anything is done. Raises a VlabError."""

    def pending(self, desired, host):
        """The changes that prepare would make to files of a VM that does not run, beyond what the definitions tell."""
        return []

    def prepare(self, desired, host):
        """Make the files that the definition needs; return what was done, as words for the user."""
        return []

    def companions(self, desired, host):
        """Programs that must run before QEMU and end with it: argv lists. Each goes to the background once QEMU may connect."""
        return []

    def before_launch(self, desired, host):
        """What each new run of QEMU needs done, right before it."""

    def arguments(self, desired, host):
        """The command line words of this part."""
        return []

    def before_continue(self, desired, live):
        """What is set by QMP in a VM that is started but not running yet."""

    def refresh(self, desired, live):
        """What every run sets in a running VM because QEMU does not tell what it has; no change."""

    def verify(self, desired, live):
        """Compare a VM that was just started with what was asked for. Raises MonitorError."""

    def forget(self, change, running, host):
        """Remove the files of what a change removed."""

    def apply(self, change, desired, live):
        """Make one LIVE change in a running VM."""

    def release(self, definition, host):
        """Give back what the definition holds on the host, when the VM is gone."""

    def report(self, definition, observation, told):
        """Add what this part knows to the result dict told."""


def checked(check):
    """An Option.normalise from check(value), which returns None or what is wrong with it."""

    def normalise(path, value):
        wrong = check(value)
        if wrong:
            raise OptionError(path, wrong)
        return value

    return normalise
