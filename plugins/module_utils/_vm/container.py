# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Application containers, such as the one that AWX runs a job in: their end takes every VM along, so none is started there unasked."""

from __future__ import annotations

import functools
import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError

_PID_NAMESPACE = "/proc/self/ns/pid"
_MACHINES_OWN = 0xEFFFFFFC  # the inode of the PID namespace that the kernel boots with: linux/proc_ns.h, PROC_PID_INIT_INO
_MARKS = (
    ("/run/.containerenv", "Podman or CRI-O"),
    ("/.dockerenv", "Docker"),
    ("/var/run/secrets/kubernetes.io/serviceaccount", "Kubernetes"),
)
_BOOTED_BY_SYSTEMD = "/run/systemd/system"


def _inode(path):
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def application_container(inode=_inode, exists=os.path.exists, variable=os.environ.get):
    """What tells that this process is in an application container, for a person; None on a machine.

    A container that has booted systemd (LXC, nspawn) is as good as a machine. Marks count only in a PID namespace of its own: there
    are machines whose disk was made from a container's image, with the marks of that.
    """
    if inode(_PID_NAMESPACE) == _MACHINES_OWN:
        return None
    mark = next(("%s (%s)" % (who, path) for path, who in _MARKS if exists(path)), None)
    if mark is None and variable("KUBERNETES_SERVICE_HOST"):
        mark = "Kubernetes (KUBERNETES_SERVICE_HOST)"
    return None if mark is None or exists(_BOOTED_BY_SYSTEMD) else mark


@functools.lru_cache(maxsize=None)
def _here():
    return application_container()


def refuse_start(allowed):
    """Raise HostError where a VM would be started in an application container, and that was not asked for."""
    if allowed or not _here():
        return
    raise HostError(
        "no VM is started here, as this is an application container of %s, and its end would end the VM: run against a hypervisor "
        "that Ansible reaches over SSH, or set allow_container: true" % _here(),
        container=_here(),
    )
