# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The interface of a part of a VM: each part owns everything about its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

from ansible_collections.vlab.qemu.plugins.module_utils._common.changes import RESTART, Change
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.addresses import SlotRequest
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import (
        Definition,
        Params,
        Result,
    )
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.host import Host
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.live import Live
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import Observation
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.ports import PortRequest


class Option(NamedTuple):
    """One option of a VM.

    spec: its entry in the argument spec. default: the value of a new VM that omits the option.
    how: how a change reaches a running VM. normalise(path, value): return the value as the
    definition keeps it; raise OptionError naming path. item_defaults: of a list of named items, the
    default of each suboption. written(value): the reverse of normalise: return a value that is not
    None as a user gives it; None to leave it out. Without it, the default is left out.
    """

    spec: dict[str, Any]
    default: Any = None
    how: str = RESTART
    normalise: Optional[Callable[[str, Any], Any]] = None
    item_defaults: Optional[dict[str, Any]] = None
    written: Optional[Callable[[Any], Any]] = None


class Part:
    """The base of all parts, with hooks that do nothing; a part overrides those that it needs.

    The hooks stand in the order in which a run calls them. Each step of a run calls its hook for
    every part, in the order of all.PARTS, before the next hook.

    observe   migrate, reconcile_observed
    compose   merge, complete, slots, complete_with_slots
    plan      pending, compare, check_files, check_start or check_live
    apply     port_requests; release after a stop; prepare and delete_files for a VM that does not
              run, apply and delete_files for one that does
    save      memory_blockers, sharing_blockers, state_files
    start     before_launch, helper_processes, arguments, leading_arguments, verify, before_continue
    result    refresh, report
    """

    name = ""
    options: dict[str, Option] = {}
    # The options that are paths of images, relative to image_dir: "option", or "option.suboption".
    image_options: tuple[str, ...] = ()

    # Observe.

    def migrate(self, definition: Definition) -> None:
        """Convert what an earlier version of the collection saved, in place.

        The shape of the definition is not checked yet.
        """

    def reconcile_observed(self, observation: Observation) -> None:
        """Correct observation.running, the recorded definition, by what QEMU answered."""

    # Compose the definition.

    def merge(self, saved: Definition, given: Params) -> Definition:
        """Return this part's options for the definition: as given, else as saved, else the default.

        An empty string restores the default.
        """
        merged: Definition = {}
        for name, option in self.options.items():
            value = given.get(name)
            if value is None:
                merged[name] = saved.get(name, option.default)
            elif value == "":
                merged[name] = option.default
            else:
                merged[name] = option.normalise(name, value) if option.normalise else value
        return merged

    def complete(self, desired: Definition, saved: Definition, given: Params, host: Host) -> None:
        """Derive in desired what the options leave open; check the options."""

    def slots(self, desired: Definition) -> list[SlotRequest]:
        """Return the devices that need a slot."""
        return []

    def complete_with_slots(self, desired: Definition, host: Host) -> None:
        """Derive in desired what depends on the slots of all parts."""

    # Plan.

    def pending(self, desired: Definition, host: Host) -> list[Change]:
        """Return the changes that prepare would make to files, where the definitions do not differ.

        Called for a VM that exists and does not run.
        """
        return []

    def compare(self, running: Definition, desired: Definition) -> list[Change]:
        """Return the changes from one definition to another."""
        return [
            Change((name,), running.get(name), desired.get(name), option.how, self.name)
            for name, option in self.options.items()
            if running.get(name) != desired.get(name)
        ]

    def check_files(self, desired: Definition, options: set[str] | None) -> None:
        """Raise a VlabError for a file of an option that is missing; called before any change.

        options: the changed ones, or None for all, before a start. For absent, desired is empty.
        """

    def check_start(self, desired: Definition, host: Host) -> None:
        """Raise a VlabError for anything that would prevent a start; called before any change."""

    def check_live(self, changes: list[Change], desired: Definition, pid: int) -> None:
        """Raise a VlabError for anything that would prevent LIVE changes of this part.

        Called before any change. pid: of the running QEMU.
        """

    # Apply.

    def port_requests(self, desired: Definition) -> list[PortRequest]:
        """Return the host ports that the definition needs."""
        return []

    def private_ports(self, desired: Definition) -> list[PortRequest]:
        """Return the ports on loopback addresses of one NIC, which need no registry."""
        return []

    def release(self, definition: Definition, host: Host) -> None:
        """Release what the definition holds on the host, after QEMU has ended."""

    def prepare(self, desired: Definition, host: Host) -> list[str]:
        """Create the files that the definition needs; return the actions, as text for the user."""
        return []

    def apply(self, change: Change, desired: Definition, live: Live) -> None:
        """Make one LIVE change in a running VM."""

    def delete_files(self, change: Change, running: Definition, host: Host) -> None:
        """Delete the files of an item that change removed. running: has the item."""

    # Save the state of a guest.

    def memory_blockers(self, definition: Definition) -> list[str]:
        """Return why the memory of a guest with this definition cannot be saved, with options."""
        return []

    def sharing_blockers(self, definition: Definition) -> list[str]:
        """Return why other guests cannot map the same file as memory, with options.

        Each guest has its own copy of the pages that it writes to, but QEMU can change the file.
        """
        return []

    def state_files(self, definition: Definition, host: Host) -> list[str]:
        """Return the names of files and folders, other than disks, with the state of the guest."""
        return []

    # Start.

    def before_launch(self, desired: Definition, host: Host) -> None:
        """Prepare a new run of QEMU, right before its helper programs and QEMU itself start."""

    def helper_processes(self, desired: Definition, host: Host) -> list[list[str]]:
        """Return the argv of each program that must run before QEMU and ends with it.

        Each goes to the background itself as soon as QEMU may connect to it.
        """
        return []

    def arguments(self, desired: Definition, host: Host) -> list[str]:
        """Return the command line words of this part."""
        return []

    def leading_arguments(self, desired: Definition, host: Host) -> list[str]:
        """Return the words that come first on the command line.

        Called after arguments of all parts, which add to host.machine_properties.
        """
        return []

    def verify(self, desired: Definition, live: Live) -> None:
        """Compare a VM that was just started with its definition. Raises MonitorError."""

    def before_continue(self, desired: Definition, live: Live) -> None:
        """Set by QMP what must be set before the guest's first instruction."""

    # Result.

    def refresh(self, desired: Definition, live: Live) -> None:
        """Set in a running VM what every run sets, because QEMU does not report it; no change."""

    def report(self, definition: Definition, observation: Observation, result: Result) -> None:
        """Add what this part contributes to the result of a VM."""


def left_out(value: Any) -> None:
    """Be Option.written of what identifies one VM, or is not kept."""


def written_option(option: Option, value: Any) -> Any:
    """Return a value of a definition as a user gives it; None if the option can be left out."""
    if value is None:
        return None
    if option.written:
        return option.written(value)
    if value == option.default:
        return None
    if option.item_defaults is None:
        return value
    defaults = {name: Option({}, default) for name, default in option.item_defaults.items()}
    return written_items(value, defaults)


def written_items(items: list[dict[str, Any]], options: dict[str, Option]) -> list[dict[str, Any]]:
    """Return named items as a user gives them: each name, and the suboptions to give."""
    return [
        {
            "name": item["name"],
            **without_none({key: written_option(options[key], item[key]) for key in options}),
        }
        for item in items
    ]


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    """Return the entries that have a value."""
    return {key: value for key, value in values.items() if value is not None}


def checked(check: Callable[[Any], Optional[str]]) -> Callable[[str, Any], Any]:
    """Return an Option.normalise from check(value), which returns None or what is wrong with it."""

    def normalise(path: str, value: Any) -> Any:
        wrong = check(value)
        if wrong:
            raise OptionError(path, wrong)
        return value

    return normalise
