# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A large part of a value that most of those that read the value do not need."""

from __future__ import annotations

import pickle
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Lazy(Generic[_Value]):
    """A value that is pickled by itself, and unpickled when it is needed."""

    def __init__(self, value: _Value) -> None:
        self._value, self._pickled = value, b""

    def get(self) -> _Value:
        """Return the value."""
        if self._pickled:
            self._value = pickle.loads(self._pickled)
            self._pickled = b""
        return self._value

    def __getstate__(self) -> bytes:
        return self._pickled or pickle.dumps(self._value, pickle.HIGHEST_PROTOCOL)

    def __setstate__(self, pickled: bytes) -> None:
        self._pickled = pickled
