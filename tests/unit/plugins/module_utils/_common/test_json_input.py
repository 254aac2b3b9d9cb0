# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.json_input import parse_json


@pytest.mark.parametrize(
    "text",
    [b"null", b"18446744073709551615", b"-9223372036854775808", b'{"a": [1.5, "\xc3\xa9"]}', "[]"],
)
def test_json(text):
    assert parse_json(text) == json.loads(text)


@pytest.mark.parametrize("text", [b"", b"{", b"{}x", b"nul"])
def test_incomplete_json(text):
    with pytest.raises(json.JSONDecodeError):
        parse_json(text)


@pytest.mark.parametrize(
    "text",
    [b"9" * 21, b"[" + b"9" * 5_000_000 + b"]", b"[" * 100_000, b'{"a":' * 100_000, b"\xff"],
)
def test_json_that_is_refused(text):
    with pytest.raises(ValueError):
        parse_json(text)


def test_text_that_is_not_utf_8_is_named_so():
    with pytest.raises(ValueError, match="^its text is not UTF-8$"):
        parse_json(b'{"a": "\xff"}')
