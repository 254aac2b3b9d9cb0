# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack what a module process needs on a target, as Ansible does, into one zip: bundle.py COLLECTION TARGET."""

from __future__ import annotations

import pathlib
import sys
import zipfile

import ansible

# Ansible's own modules that the steps of the targets use.
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


def main(collection, target):
    core = pathlib.Path(ansible.__path__[0])
    ours = pathlib.Path(collection)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for package in ("", "/modules"):
            archive.writestr("ansible%s/__init__.py" % package, "")
        for package in ("", "/vlab", "/vlab/qemu", "/vlab/qemu/plugins"):
            archive.writestr("ansible_collections%s/__init__.py" % package, "")
        for name in BUILTIN:
            archive.write(core / "modules" / (name + ".py"), "ansible/modules/%s.py" % name)
        for folder, base, prefix in (
            (core / "module_utils", core, "ansible"),
            (ours / "plugins/modules", ours, "ansible_collections/vlab/qemu"),
            (ours / "plugins/module_utils", ours, "ansible_collections/vlab/qemu"),
        ):
            seen = {folder}
            for path in sorted(folder.rglob("*.py")):
                archive.write(path, "%s/%s" % (prefix, path.relative_to(base)))
                seen.update([path.parent, path])
            for made in sorted(
                entry for entry in seen if entry.is_dir() and not (entry / "__init__.py").exists()
            ):
                archive.writestr("%s/%s/__init__.py" % (prefix, made.relative_to(base)), "")


if __name__ == "__main__":
    main(*sys.argv[1:])
