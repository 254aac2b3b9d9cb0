# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The result of a module, also if it fails."""

from __future__ import annotations

from typing import Any, Callable, Dict

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError, host_error


def result_of(work: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
    """Return the result of the work of a module.

    A VlabError becomes a failure with the error's facts, an OSError one with its path.
    """
    try:
        return work()
    except VlabError as error:
        failure = error
    except OSError as error:
        failure = host_error("the host refuses what the module needs", error)
    return dict(failure.facts, failed=True, msg=failure.message)
