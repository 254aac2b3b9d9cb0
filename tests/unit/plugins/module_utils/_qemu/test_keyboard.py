# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import string

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.keyboard import (
    KEYS,
    chord_of,
    chords_of_text,
)


def test_all_of_ascii_has_keys():
    text = string.ascii_letters + string.digits + string.punctuation + " \t\n"
    chords = chords_of_text("text", text)
    assert len(chords) == len(text)
    assert len({tuple(chord) for chord in chords}) == len(text), "each has its own"
    assert {key for chord in chords for key in chord} <= KEYS


@pytest.mark.parametrize(
    "text, chords",
    [
        ("aB", [["a"], ["shift", "b"]]),
        ("-_", [["minus"], ["shift", "minus"]]),
        ("'\"", [["apostrophe"], ["shift", "apostrophe"]]),
        ("a\r\nb\r", [["a"], ["ret"], ["b"], ["ret"]]),
    ],
)
def test_text(text, chords):
    assert chords_of_text("text", text) == chords


@pytest.mark.parametrize("text", ["ß", "é", "\x1b", "\0", "\U0001f600"])
def test_text_without_keys(text):
    with pytest.raises(OptionError, match="text: a keyboard with the layout us has no key for"):
        chords_of_text("text", "a" + text)


@pytest.mark.parametrize(
    "name, chord",
    [
        ("enter", ["ret"]),
        ("F2", ["f2"]),
        ("ctrl-alt-delete", ["ctrl", "alt", "delete"]),
        ("CTRL_ALT_DEL", ["ctrl", "alt", "delete"]),
        ("Ctrl+C", ["ctrl", "c"]),
        ("shift-page_up", ["shift", "pgup"]),
        ("kp_enter", ["kp_enter"]),
        ("UPARROW", ["up"]),
        ("alt-sysrq-b", ["alt", "sysrq", "b"]),
        ("minus", ["minus"]),
        (" esc ", ["esc"]),
    ],
)
def test_names(name, chord):
    assert chord_of("keys[0]", name) == chord


@pytest.mark.parametrize(
    "name, hint",
    [
        ("entre", "did you mean enter"),
        ("ctrl-dlete", "did you mean delete"),
        ("", "''"),
        ("-", "'-'"),
    ],
)
def test_no_names(name, hint):
    with pytest.raises(OptionError) as caught:
        chord_of("keys[0]", name)
    assert caught.value.option == "keys[0]" and hint in caught.value.reason
