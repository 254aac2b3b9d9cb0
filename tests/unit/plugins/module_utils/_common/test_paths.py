# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.paths import absolute_path


@pytest.fixture(autouse=True)
def fixture_home(monkeypatch, tmp_path):
    """The current folder and the home folder of a user are no matter of luck."""
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "value, expected",
    [
        ("/srv/a.qcow2", "/srv/a.qcow2"),
        ("/srv//x/../a.qcow2", "/srv/a.qcow2"),
        ("a.qcow2", "/images/a.qcow2"),
        ("./sub/a.qcow2", "/images/sub/a.qcow2"),
        ("../a.qcow2", "/a.qcow2"),
        ("~/a.qcow2", "/home/ann/a.qcow2"),
        ("~", "/home/ann"),
        ("sub/~", "/images/sub/~"),
        ("-k", "/images/-k"),
        ("a,b=c d", "/images/a,b=c d"),
        ("a\nb", "/images/a\nb"),
        (" a ", "/images/ a "),
        ("a://b", None),
        ("https://example.com/a.qcow2", None),
        ("file:///srv/a.qcow2", None),
        ("nbd+unix:///x?socket=/s", None),
        ("a:b", "/images/a:b"),
        ("", None),
        (" ", None),
        ("\n", None),
        ("/srv/a.qcow2\n", None),
        ("\r\n/srv/a.qcow2", None),
        ("/srv/a\0", None),
        ("~nobody-of-that-name/a", None),
    ],
)
def test_paths_of_images(value, expected):
    if expected is None:
        with pytest.raises(OptionError, match="^o: "):
            absolute_path("o", value, "/images")
    else:
        assert absolute_path("o", value, "/images") == expected


@pytest.mark.parametrize(
    "value, reason",
    [
        ("a.qcow2", "o: 'a.qcow2' is a relative path: give an absolute one"),
        (".", "o: '.' is a relative path: give an absolute one"),
        ("False", "o: 'False' is a relative path: give an absolute one"),
        ("http://x", "o: 'http://x' is a URL, not a path of the hypervisor"),
        ("", "o: '' is no path: it is empty"),
        ("/a\n", "o: '/a\\\\n' begins or ends with a line break"),
        ("~zz/a", "o: '~zz/a' is the home folder of a user that this host does not have"),
    ],
)
def test_paths_without_a_folder(value, reason):
    with pytest.raises(OptionError) as caught:
        absolute_path("o", value)
    assert caught.value.message.startswith(reason.replace("\\\\", "\\"))
    assert absolute_path("o", os.path.join("/", "x")) == "/x"
