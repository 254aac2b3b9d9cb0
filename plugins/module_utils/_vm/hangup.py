# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""End a process whose client has ended: it would hold the console or the agent of a guest."""

from __future__ import annotations

import os
import select
import signal
import stat
import threading
from typing import NoReturn

_STDOUT = 1


def end_with_client() -> None:
    """End this process, with a clean-up, when nobody reads its standard output any more.

    Without effect if the output is no pipe and no socket, or outside of the main thread.
    """
    mode = os.fstat(_STDOUT).st_mode
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        signal.signal(signal.SIGTERM, _exit)
        threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    poller = select.poll()
    poller.register(_STDOUT, 0)  # errors and hang-ups are always reported: poll(2)
    poller.poll()
    os.kill(os.getpid(), signal.SIGTERM)


def _exit(_number: int, _frame: object) -> NoReturn:
    raise SystemExit("the connection from the controller was lost")
