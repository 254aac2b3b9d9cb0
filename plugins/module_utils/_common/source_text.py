# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The text of modules that run as programs of their own."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError


def source_text(module: ModuleType) -> str:
    """Return the text of a module, which may come from an archive. Raises HostError."""
    loader: Any = module.__spec__.loader if module.__spec__ else None
    get_source = getattr(loader, "get_source", None)
    source = get_source(module.__name__) if get_source else None
    if not source:
        raise HostError("the text of %s is not available" % module.__name__)
    return str(source)
