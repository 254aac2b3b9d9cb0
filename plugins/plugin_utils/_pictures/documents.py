# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Texts of a topology or a guest inside of a document: whatever they hold, they stay texts."""

from __future__ import annotations

import functools
import os

import jinja2
import markupsafe


def plain(value):
    """A text without what no document may hold, or what turns its direction around."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))


def escaped(value):
    """Markup that shows the value, in HTML and XML; not even Ansible finds a template in it."""
    if isinstance(value, markupsafe.Markup):
        return value
    return markupsafe.Markup(str(markupsafe.escape(plain(value))).replace("{", "&#123;"))


def read(name):
    """A file of this folder, as it is."""
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as stream:
        return stream.read()


@functools.lru_cache(maxsize=None)
def _templates():
    # finalize sees everything that a template prints, so that nothing can be forgotten.
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(read),
        autoescape=True,
        finalize=escaped,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def fill(name, **values):
    """A template of this folder, filled in."""
    return _templates().get_template(name).render(**values)
