# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Modules as one file that Python runs: a zip archive."""

from __future__ import annotations

import io
import zipfile
from types import ModuleType

from ansible_collections.vlab.qemu.plugins.module_utils._common import detached_program
from ansible_collections.vlab.qemu.plugins.module_utils._common.source_text import source_text

_MAIN = "from %s import main\n\nraise SystemExit(main())\n"


def program_archive(program: ModuleType, *others: ModuleType) -> bytes:
    """Return the archive of a program, which has the function main. Raises HostError.

    others: the modules that it imports, besides detached_program and the standard library.
    """
    files = {"__main__.py": _MAIN % program.__name__}
    for module in (detached_program, *others, program):
        *packages, name = module.__name__.split(".")
        for depth in range(1, len(packages) + 1):
            files["/".join([*packages[:depth], "__init__.py"])] = ""
        files["/".join([*packages, name + ".py"])] = source_text(module)
    stream = io.BytesIO()
    # Not compressed, so that the program needs no zlib.
    with zipfile.ZipFile(stream, "w") as opened:
        for path, text in files.items():
            opened.writestr(zipfile.ZipInfo(path), text)
    return stream.getvalue()
