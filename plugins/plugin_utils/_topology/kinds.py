# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Kinds: the collection's data files, and what a topology adds to them."""

from __future__ import annotations

import functools
import os

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.yaml_file import load_yaml

_FOLDER = os.path.join(os.path.dirname(__file__), "kind_files")
EMPTY = {
    "description": "",
    "image": None,
    "vm": {},
    "vars": {},
    "disk": {},
    "nic": {},
    "files": {},
    "config": {},
    "ready": {},
    "facts": {},
}


def shipped():
    """The kinds of the collection, by name, as their files have them."""
    return {name: _read(name) for name in _names()}


@functools.lru_cache(maxsize=None)
def _names():
    return sorted(
        name for name, ending in map(os.path.splitext, os.listdir(_FOLDER)) if ending == ".yml"
    )


@functools.lru_cache(maxsize=None)
def _read(name):
    with open(os.path.join(_FOLDER, name + ".yml"), encoding="utf-8") as stream:
        return load_yaml(stream)


def resolve(name, own, problems, place, seen=()):
    """A kind, complete: what it extends laid under it. own: the topology's kinds. None when it is unknown, which is noted."""
    if name not in own and name not in _names():
        problems.add(
            place,
            "there is no kind %r; known are %s",
            name,
            ", ".join(sorted({*_names(), *own}, key=str)),
        )
        return None
    if name in seen:
        problems.add(place, "the kind %r extends itself", name)
        return None
    given = own[name] if name in own else _read(name)
    base = EMPTY
    if given.get("extends"):
        base = (
            resolve(given["extends"], own, problems, "kinds.%s.extends" % name, seen + (name,))
            or EMPTY
        )
    made = merge(base, {key: value for key, value in given.items() if key != "extends"})
    made["image"] = given.get("image") or (base["image"] if given.get("extends") else name)
    return made


def merge(under, over):
    """over laid upon under: dicts are merged at every depth, all else is replaced."""
    merged = dict(under)
    for key, value in over.items():
        merged[key] = (
            merge(merged[key], value)
            if isinstance(value, dict) and isinstance(merged.get(key), dict)
            else value
        )
    return merged
