# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Names of keys, and the keys for a text on a keyboard with the layout us.

Source: QEMU, qapi/ui.json, QKeyCode.
"""

from __future__ import annotations

import re

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import suggestion

MAX_STROKES = 10000

_LETTERS_AND_DIGITS = "abcdefghijklmnopqrstuvwxyz0123456789"
KEYS = frozenset(
    [
        *_LETTERS_AND_DIGITS,
        *("f%d" % number for number in range(1, 25)),
        *("kp_%d" % number for number in range(10)),
        *"shift shift_r alt alt_r ctrl ctrl_r meta_l meta_r menu compose".split(),
        *"esc ret tab spc backspace insert delete home end pgup pgdn up down left right".split(),
        *"minus equal bracket_left bracket_right backslash semicolon apostrophe".split(),
        *"grave_accent comma dot slash less asterisk".split(),
        *"caps_lock num_lock scroll_lock print sysrq pause".split(),
        *"kp_add kp_subtract kp_multiply kp_divide kp_enter kp_decimal kp_comma kp_equals".split(),
        *"power sleep wake volumeup volumedown audiomute".split(),
    ]
)
_ALIASES = {
    "enter": "ret",
    "return": "ret",
    "escape": "esc",
    "space": "spc",
    "del": "delete",
    "ins": "insert",
    "bksp": "backspace",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "page_up": "pgup",
    "page_down": "pgdn",
    "control": "ctrl",
    "win": "meta_l",
    "super": "meta_l",
    "meta": "meta_l",
    "capslock": "caps_lock",
    "numlock": "num_lock",
    "scrolllock": "scroll_lock",
    "printscreen": "print",
    "uparrow": "up",
    "downarrow": "down",
    "leftarrow": "left",
    "rightarrow": "right",
    "leftshift": "shift",
    "rightshift": "shift_r",
    "leftctrl": "ctrl",
    "rightctrl": "ctrl_r",
    "leftalt": "alt",
    "rightalt": "alt_r",
    "altgr": "alt_r",
}
_PLAIN = {
    **{letter: letter for letter in _LETTERS_AND_DIGITS},
    "\n": "ret",
    "\t": "tab",
    " ": "spc",
    "-": "minus",
    "=": "equal",
    "[": "bracket_left",
    "]": "bracket_right",
    "\\": "backslash",
    ";": "semicolon",
    "'": "apostrophe",
    "`": "grave_accent",
    ",": "comma",
    ".": "dot",
    "/": "slash",
}
_SHIFTED = dict(zip('~!@#$%^&*()_+{}|:"<>?', "`1234567890-=[]\\;',./"))

# The keys that are pressed together, in this order.
Chord = list[str]


def chords_of_text(option: str, text: str) -> list[Chord]:
    """Return the keys that type a text. Raises OptionError for what the layout does not have."""
    chords = []
    for letter in text.replace("\r\n", "\n").replace("\r", "\n"):
        if letter in _PLAIN:
            chords.append([_PLAIN[letter]])
        elif letter in _SHIFTED:
            chords.append(["shift", _PLAIN[_SHIFTED[letter]]])
        elif letter.lower() in _PLAIN:
            chords.append(["shift", letter.lower()])
        else:
            raise OptionError(option, "a keyboard with the layout us has no key for %r" % letter)
    return chords


def chord_of(option: str, name: str) -> Chord:
    """Return the keys of a name such as f2, ctrl-alt-delete or CTRL_ALT_DEL. Raises OptionError."""
    lower = name.strip().lower()
    for separator in (None, r"[-+]", r"_"):
        parts = [lower] if separator is None else re.split(separator, lower)
        keys = [_key(part) for part in parts]
        if all(keys):
            return [key for key in keys if key]
    unknown = next(part for part in re.split(r"[-+]", lower) if not _key(part))
    raise OptionError(
        option,
        "%r is not a key%s, nor several joined by hyphens"
        % (name, suggestion(unknown, [*KEYS, *_ALIASES])),
    )


def _key(name: str) -> str | None:
    name = _ALIASES.get(name, name)
    return name if name in KEYS else None
