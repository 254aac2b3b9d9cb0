# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replace get-pip.py: install pip from the standard library instead of a download.

ansible-test runs a copy of this file, whose path is in GET_PIP, in each virtual environment. What
the first one with a version of Python gets is kept beside that copy, and the others get the same.
"""

from __future__ import annotations

import ensurepip
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig


def install(arguments: list[str]) -> None:
    """Install the pip of this Python, then what the arguments of "pip install" ask for."""
    ensurepip.bootstrap()
    # ensurepip points this at the null device, which would hide a configured index or certificate.
    os.environ.pop("PIP_CONFIG_FILE", None)
    command = [sys.executable, "-m", "pip", "install", *arguments]
    if subprocess.run(command, check=False).returncode != 0:
        print("keeping the pip of this Python")


def main() -> None:
    """Install pip, or copy it from the first virtual environment with this Python."""
    own = pathlib.Path(os.environ["GET_PIP"])
    kept = own.with_name(f"{own.stem}_{sys.implementation.cache_tag}")
    packages = pathlib.Path(sysconfig.get_path("purelib"))
    if not kept.is_dir():
        install([word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")])
        part = kept.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(packages, part)
        part.rename(kept)
    else:
        shutil.copytree(kept, packages, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
