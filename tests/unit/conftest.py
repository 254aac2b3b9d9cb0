# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect the tests fast: pytest keeps what it compiles in the folder VLAB_TEST_BYTECODE, if set.

Each worker collects all tests. Without bytecode, pytest rewrites the assertions of every file each
time, which takes most of the time of the collection.
"""

from __future__ import annotations

import gc
import os
import sys

_USUAL = (sys.dont_write_bytecode, sys.pycache_prefix)
_FOLDER = os.environ.get("VLAB_TEST_BYTECODE")
if _FOLDER:
    sys.dont_write_bytecode, sys.pycache_prefix = False, _FOLDER
gc.disable()


def pytest_collection_finish() -> None:
    """Run the tests as usual, with bytecode and the garbage collection as they were."""
    sys.dont_write_bytecode, sys.pycache_prefix = _USUAL
    # What the collection has made stays to the end: it need not be looked at again.
    gc.collect()
    gc.freeze()
    gc.enable()
