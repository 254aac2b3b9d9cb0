# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Application containers, such as the one that AWX runs a job in.

VMs die with the container, so starting one there must be allowed explicitly.
"""

from __future__ import annotations

import functools
import os
from typing import Callable

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError

_PID_NAMESPACE = "/proc/self/ns/pid"
# The inode of the PID namespace that the kernel boots with: linux/proc_ns.h, PROC_PID_INIT_INO.
_INITIAL_NAMESPACE = 0xEFFFFFFC
# Files that exist in containers only.
_MARKERS = (
    ("/run/.containerenv", "Podman or CRI-O"),
    ("/.dockerenv", "Docker"),
    ("/var/run/secrets/kubernetes.io/serviceaccount", "Kubernetes"),
)
_BOOTED_BY_SYSTEMD = "/run/systemd/system"


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def application_container(
    inode: Callable[[str], int | None] = _inode,
    exists: Callable[[str], bool] = os.path.exists,
    variable: Callable[[str], str | None] = os.environ.get,
) -> str | None:
    """Return how an application container was recognised, as text; None on a machine.

    A container that boots with systemd (LXC, nspawn) counts as a machine. A machine whose disk was
    made from a container image has the markers too, so they count in another PID namespace only.
    """
    if inode(_PID_NAMESPACE) == _INITIAL_NAMESPACE:
        return None
    found = next(("%s (%s)" % (name, path) for path, name in _MARKERS if exists(path)), None)
    if found is None and variable("KUBERNETES_SERVICE_HOST"):
        found = "Kubernetes (KUBERNETES_SERVICE_HOST)"
    return None if found is None or exists(_BOOTED_BY_SYSTEMD) else found


@functools.lru_cache(maxsize=None)
def _current_container() -> str | None:
    return application_container()


def refuse_start(allowed: bool) -> None:
    """Raise HostError in an application container, unless starting VMs is allowed there."""
    container = None if allowed else _current_container()
    if container:
        raise HostError(
            "no VM is started here, as this is an application container of %s, and the VM would "
            "end with it: run against a hypervisor that Ansible reaches over SSH, or set "
            "allow_container: true" % container,
            container=container,
        )
