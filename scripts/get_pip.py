# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replace get-pip.py: install pip from the standard library instead of a download."""

from __future__ import annotations

import ensurepip
import os
import subprocess
import sys

ensurepip.bootstrap()
# ensurepip points this at the null device, which would hide a configured index or certificate.
os.environ.pop("PIP_CONFIG_FILE", None)
arguments = [
    argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")
]
if (
    subprocess.run([sys.executable, "-m", "pip", "install", *arguments], check=False).returncode
    != 0
):
    print("keeping the pip of this Python")
