# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Call a function for many VMs at the same time, and collect the errors of all of them."""

from __future__ import annotations

import concurrent.futures
from typing import Any, Callable, Iterable, TypeVar

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError

_Run = TypeVar("_Run")


def failures(
    runs: Iterable[_Run], function: Callable[[_Run], None], workers: int
) -> dict[str, VlabError]:
    """Call function for runs, which have a name; return {name: error} of those that failed.

    workers: how many threads at most; with 1, they run one after the other in this thread.
    """
    failed: dict[str, VlabError] = {}

    def guard(run: Any) -> None:
        try:
            function(run)
        except VlabError as error:
            failed[run.name] = error

    runs = list(runs)
    if workers == 1:
        for run in runs:
            guard(run)
    elif runs:
        with concurrent.futures.ThreadPoolExecutor(min(workers, len(runs))) as pool:
            list(pool.map(guard, runs))
    return failed


def failure_lines(failed: dict[str, VlabError]) -> str:
    """Return the errors as text: one for each line, sorted by name."""
    return "\n".join("%s: %s" % (name, error.message) for name, error in sorted(failed.items()))


def failure_facts(failed: dict[str, VlabError]) -> dict[str, Any]:
    """Return the facts and the message of each error, by name."""
    return {name: dict(error.facts, msg=error.message) for name, error in failed.items()}
