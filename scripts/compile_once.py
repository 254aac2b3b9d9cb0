# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep compiled source in memory, in the virtual environments of the sanity test "import".

sanity.py copies this file there as sitecustomize.py. The test imports each file of the collection
in one process, without what it has imported before. Ansible's collection loader then compiles the
same files again for each: a third of the time of the test. Another quarter is the search for
objects that nothing uses, of which there are few.
"""

from __future__ import annotations

import builtins
import gc
import sys

_compile = builtins.compile
_compiled: dict = {}
# The flags of __future__ statements in a code object; compile() inherits them from its caller.
_FUTURES = 0xFFF0000


def compile_once(source, filename, mode, flags=0, dont_inherit=False, optimize=-1, **other):
    """Compile as compile() does, or return the code of the same source compiled before."""
    if not dont_inherit:
        flags |= sys._getframe(1).f_code.co_flags & _FUTURES
    if other or not isinstance(source, (str, bytes)):
        return _compile(source, filename, mode, flags, True, optimize, **other)
    key = (source, filename, mode, flags, optimize)
    if key not in _compiled:
        _compiled[key] = _compile(source, filename, mode, flags, True, optimize)
    return _compiled[key]


builtins.compile = compile_once
gc.disable()
