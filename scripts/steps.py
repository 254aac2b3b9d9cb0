# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A step of the tests, and what all definitions of steps use."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from typing import Callable, Optional

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv/bin"
WORK = ROOT / ".cache/test"
COPY = WORK / "ansible_collections/vlab/qemu"
# Kept for all checkouts: trees, virtual environments, container images. The name of each contains
# a digest of its inputs.
CACHE = pathlib.Path(os.environ.get("VLAB_CACHE") or pathlib.Path.home() / ".cache/vlab-qemu")
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed$")


@dataclasses.dataclass
class Step:
    """One program. It counts as one test unless `count` gets the counts from its log."""

    name: str
    command: list[str]
    cwd: pathlib.Path = COPY
    # Whether HOME is a folder in the cache, with the pip settings of the user.
    own_home: bool = True
    timeout: int = 1800
    # Return (passed, failed) for a log and an exit code.
    count: Optional[Callable[[str, int], tuple[int, int]]] = None
    # 2 if a busy machine or a package mirror can make the step fail. A step that passes on the
    # second try is reported as flaky.
    tries: int = 1
    # The command of the second try, if it differs: one that runs only the failed cases.
    retry: Optional[list[str]] = None
    # The steps that must have ended before, passed or failed.
    after: tuple[str, ...] = ()
    # Steps with the same resource never run at the same time.
    resource: str = ""


def own_summary(log: str, status: int) -> tuple[int, int]:
    """Count the tests of a runner whose last line is "N passed, N failed"."""
    last = [line for line in log.split("\n") if line.strip()][-1:]
    match = SUMMARY.match(last[0]) if last else None
    if not match:
        return (1, 0) if status == 0 else (0, 1)
    passed, failed = int(match.group(1)), int(match.group(2))
    return passed, failed if status == 0 or failed else 1


def tool(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a program of the virtual environment."""
    return [str(BIN / name), *arguments]


def python(*arguments: str) -> list[str]:
    """Return the command that runs a Python file."""
    return tool("python", *arguments)
