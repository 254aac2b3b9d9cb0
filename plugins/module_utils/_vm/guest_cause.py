# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Why a guest does not answer: what is wrong with its VM."""

from __future__ import annotations

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import (
    GuestError,
    GuestNotReady,
    HostError,
    MonitorError,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder, no_such_vm
from ansible_collections.vlab.qemu.plugins.module_utils._vm.observation import (
    Observation,
    observe,
)

# States of QEMU in which a guest may answer, or will soon.
_RUNNING = ("running", "inmigrate", "save-vm", "restore-vm", "finish-migrate", "unresponsive")


def with_cause(error: GuestError, folder: Folder, agent: bool) -> GuestError:
    """Return an error that says what is wrong with the VM; the given one if nothing is.

    agent: whether the guest agent of the VM does not answer.
    """
    if not folder.exists():
        return GuestError(no_such_vm(folder))
    try:
        observation = observe(folder)
    except (MonitorError, HostError) as failure:
        return GuestNotReady("%s; and %s" % (error.message, failure.message))
    observation.close()
    if observation.monitor_error:
        return GuestNotReady("%s; and %s" % (error.message, observation.monitor_error.message))
    cause = _cause(observation, agent)
    return GuestError(cause) if cause else error


def check_agent(error: GuestError, folder: Folder) -> None:
    """Raise GuestError if it is in vain to wait for the guest agent of a VM."""
    better = with_cause(error, folder, agent=True)
    if better is not error and not isinstance(better, GuestNotReady):
        raise better


def _cause(observation: Observation, agent: bool) -> str | None:
    name = "%s of the lab %s" % (observation.folder.name, observation.folder.lab)
    if observation.damage:
        return observation.damage.message
    if not observation.alive:
        return "the VM %s does not run: it is %s" % (name, observation.status)
    if observation.status == "paused":
        return "the VM %s is paused: state=started resumes it" % name
    if observation.status not in _RUNNING:
        return (
            "the guest of the VM %s does not run: QEMU reports %s. state=started continues it, or "
            "resets it if it cannot go on" % (name, observation.status)
        )
    if agent and not observation.running.get("guest_agent"):
        return "the VM %s has no channel for a guest agent: give it guest_agent: true" % name
    return None
