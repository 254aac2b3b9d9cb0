# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the recipe of the guest images does with kernel modules."""

from __future__ import annotations

import importlib.util
import pathlib

PATH = pathlib.Path(__file__).resolve().parents[3] / "roles/guest_image/files/build_guest_image.py"
spec = importlib.util.spec_from_file_location("build_guest_image", PATH)
assert spec is not None and spec.loader is not None
build_guest_image = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build_guest_image)

MAGIC = b"~Module signature appended~\n"


def test_the_signature_of_a_module_is_left_out() -> None:
    module = b"\x7fELF" + bytes(1000)
    signature = b"s" * 0x1A7
    # As PKCS#7 signatures are: a type of 2, no name and no key.
    information = bytes([0, 0, 2, 0, 0, 0, 0, 0]) + len(signature).to_bytes(4, "big")
    assert build_guest_image.without_signature(module + signature + information + MAGIC) == module


def test_a_module_without_a_signature_stays_as_it_is() -> None:
    module = b"\x7fELF" + MAGIC + bytes(10)
    assert build_guest_image.without_signature(module) == module
