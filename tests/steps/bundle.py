# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack the code that modules need on a target into one zip file, as Ansible does.

bundle.py COLLECTION ZIP
"""

from __future__ import annotations

import pathlib
import sys
import zipfile
from typing import Union

import ansible

# The modules of ansible-core that the targets use.
BUILTIN = (
    "command",
    "copy",
    "file",
    "find",
    "setup",
    "slurp",
    "stat",
    "tempfile",
    "uri",
    "wait_for",
)


def main(collection: Union[str, pathlib.Path], target: str) -> None:
    """Write the zip file `target` for a collection."""
    core = pathlib.Path(ansible.__path__[0])
    root = pathlib.Path(collection)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in ("", "/modules"):
            archive.writestr("ansible%s/__init__.py" % name, "")
        for name in ("", "/vlab", "/vlab/qemu", "/vlab/qemu/plugins"):
            archive.writestr("ansible_collections%s/__init__.py" % name, "")
        for name in BUILTIN:
            archive.write(core / "modules" / (name + ".py"), "ansible/modules/%s.py" % name)
        for folder, base, prefix in (
            (core / "module_utils", core, "ansible"),
            (root / "plugins/modules", root, "ansible_collections/vlab/qemu"),
            (root / "plugins/module_utils", root, "ansible_collections/vlab/qemu"),
        ):
            packages = {folder}
            for path in sorted(folder.rglob("*.py")):
                archive.write(path, "%s/%s" % (prefix, path.relative_to(base)))
                packages.add(path.parent)
            for package in sorted(packages):
                if not (package / "__init__.py").exists():
                    name = "%s/%s/__init__.py" % (prefix, package.relative_to(base))
                    archive.writestr(name, "")


if __name__ == "__main__":
    main(*sys.argv[1:])
