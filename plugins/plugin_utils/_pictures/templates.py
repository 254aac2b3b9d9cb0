# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Fill in the templates of this folder. Text of a topology or a guest never becomes markup."""

from __future__ import annotations

import functools
import os
import re
from typing import Any

import jinja2
import markupsafe

# Follow the browser or the system, or always the same.
AUTO, LIGHT, DARK = SCHEMES = ("auto", "light", "dark")
_DARK_RULES = re.compile(r"^@media \(prefers-color-scheme: dark\) \{\n(.*?)^\}\n", re.M | re.S)


def printable(value: Any) -> str:
    """Return value as text, with ? for characters that no document can show.

    That includes those that change the direction of text.
    """
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))


def escaped(value: Any) -> markupsafe.Markup:
    """Return markup that shows value, in HTML and XML, and that is no template for Ansible."""
    if isinstance(value, markupsafe.Markup):
        return value
    return markupsafe.Markup(str(markupsafe.escape(printable(value))).replace("{", "&#123;"))


def read(name: str) -> str:
    """Return the content of a file in this folder."""
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as stream:
        return stream.read()


def style(name: str, scheme: str) -> str:
    """Return a style sheet of this folder for a scheme.

    Its rules for dark pages are in blocks of their own, each of which ends with a brace at the
    beginning of a line.
    """
    text = read(name)
    if scheme == AUTO:
        return text
    text = _DARK_RULES.sub(lambda block: block[1] if scheme == DARK else "", text)
    return text.replace("color-scheme: light dark", "color-scheme: %s" % scheme)


@functools.lru_cache(maxsize=None)
def _environment() -> jinja2.Environment:
    # finalize applies to everything that a template prints, so that nothing stays unescaped.
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(read),
        autoescape=True,
        finalize=escaped,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(name: str, **values: Any) -> str:
    """Return a template of this folder, filled in with values."""
    return _environment().get_template(name).render(**values)
