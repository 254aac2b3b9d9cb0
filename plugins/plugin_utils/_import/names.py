# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Texts and names of a file as a topology accepts them."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.schema import is_nic_name

_MAX_NAME = 63
_MAX_FILE_NAME = 100
# What begins a template, a statement or a comment of Jinja.
_TEMPLATE = re.compile(r"\{(?=[{%#])")


def valid_name(text: str, default: str) -> str:
    """Return a text as the name of a lab, a node, a group or a segment."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")
    return name[:_MAX_NAME].rstrip("-_") or default


def unique_name(text: str, default: str, *used: Container[str]) -> str:
    """Return a valid name that is not in use: with a number if necessary."""
    name = valid_name(text, default)
    number = 2
    unique = name
    while any(unique in names for names in used):
        ending = "-%d" % number
        unique = name[: _MAX_NAME - len(ending)] + ending
        number += 1
    return unique


def valid_nic_name(text: str, default: str) -> str:
    """Return a text as the name of a NIC."""
    name = re.sub(r"[\s:,\x00-\x1f\x7f]+", "-", text.strip())[:60].strip("-./")
    name = re.sub(r"/+", "/", name)
    return name if is_nic_name(name) else default


def file_name(text: str, default: str) -> str:
    """Return the last part of a path as a safe name of a file."""
    name = re.split(r"[/\\]", text)[-1]
    name = re.sub(r"[^A-Za-z0-9._+@-]+", "-", name).lstrip(".-")
    return name[-_MAX_FILE_NAME:].lstrip(".-") or default


def harmless(value: Any, path: str, changed: Callable[[str], None]) -> Any:
    """Return data in which no text is a template of Ansible.

    A topology is read as plain data. If someone loads it as variables all the same, a text of the
    file must not run as code. changed: called with the place of each text that changes.
    """
    if isinstance(value, dict):
        return {
            harmless(key, path, changed): harmless(item, "%s.%s" % (path, key), changed)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [
            harmless(item, "%s[%d]" % (path, number), changed) for number, item in enumerate(value)
        ]
    if isinstance(value, str) and "{" in value:
        text = _TEMPLATE.sub("{ ", value)
        if text != value:
            changed(path.lstrip("."))
        return text
    return value
