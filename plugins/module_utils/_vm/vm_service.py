# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The module qemu_vm, also as requests."""

from __future__ import annotations

from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._vm.converge import (
    converge_vm,
    vm_argument_spec,
)
from ansible_collections.vlab.qemu.plugins.module_utils._vm.module_service import handlers

SPECIFICATION: dict[str, Any] = {"argument_spec": vm_argument_spec()}

work = converge_vm

HANDLERS = handlers(work, SPECIFICATION)
