# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import path_mtu


def nic(address, mtu=0, kind="udp"):
    link = {"type": kind, "remote_address": address} if address else {"type": kind}
    return {"name": "eth1", "mtu": mtu, "link": link}


@pytest.mark.parametrize(
    "address, mtu, path, fits",
    [
        ("192.0.2.2", 0, 1500, None),  # usual
        ("192.0.2.2", 1458, 1500, None),
        ("192.0.2.2", 0, 1420, 1378),
        ("192.0.2.2", 1378, 1420, None),
        ("192.0.2.2", 1379, 1420, 1378),
        ("192.0.2.2", 9000, 1500, 1458),
        ("192.0.2.2", 9000, 9041, 8999),
        ("192.0.2.2", 9000, 9042, None),
        ("2001:db8::2", 9000, 9042, 8980),
        ("2001:db8::2", 9000, 9062, None),
        ("192.0.2.2", 9000, None, None),
        ("127.0.0.1", 9000, 1500, None),
        (None, 9000, 1500, None),
    ],
)
def test_warnings(monkeypatch, address, mtu, path, fits):
    monkeypatch.setattr(path_mtu, "path_mtu", lambda _address: path)
    text = path_mtu.shortage(nic(address, mtu))
    if fits is None:
        assert text == ""
    else:
        assert text.startswith("nics[eth1].mtu: frames of %d bytes" % (mtu or 1500))
        assert " of %d bytes on the way to %s" % (path, address) in text
        assert "set mtu: %d," % fits in text


def test_other_links_have_no_path(monkeypatch):
    monkeypatch.setattr(path_mtu, "path_mtu", lambda _address: 576)
    assert path_mtu.shortage(nic("192.0.2.2", 9000, "stream")) == ""


def test_what_the_kernel_knows():
    assert path_mtu.path_mtu("127.0.0.1") >= 16384
    assert path_mtu.path_mtu("255.255.255.255") is None  # no permission to broadcast
