# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Kinds of nodes: the data files of the collection and those that a topology adds."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any, TypedDict, cast

from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import suggestion
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.yaml_file import load_yaml

_FOLDER = os.path.join(os.path.dirname(__file__), "kind_files")


class KindSpec(TypedDict):
    """A complete kind, with everything it inherits. schema.py describes the keys.

    needs: what an appliance needs, empty for other kinds: image, as an item of images of qemu_lab;
    files: all files, with what is known of each; arguments: those that it asks for in vain.
    modules: the other VMs of the system, each as a complete kind without modules.
    """

    description: str
    image: str
    vm: dict[str, Any]
    vars: dict[str, Any]
    disk: dict[str, Any]
    nic: dict[str, Any]
    files: dict[str, Any]
    config: dict[str, Any]
    bootstrap: dict[str, Any]
    exec: list[str]
    running_config: dict[str, Any]
    ready: dict[str, Any]
    facts: dict[str, Any]
    warm: bool | str
    needs: dict[str, Any]
    modules: dict[str, KindSpec]
    internal: list[str]


_OF_NAME = ("extends", "aliases", "modules")  # keys that are not inherited like the others
_MAX_DERIVED = 20  # kinds that extend each other in a row
_EMPTY: dict[str, Any] = {
    "description": "",
    "image": None,
    "vm": {},
    "vars": {},
    "disk": {},
    "nic": {},
    "files": {},
    "config": {},
    "bootstrap": {},
    "exec": [],
    "running_config": {},
    "ready": {},
    "facts": {},
    "warm": False,
    "needs": {},
    "modules": {},
    "internal": [],
}


def shipped() -> dict[str, dict[str, Any]]:
    """Return the kinds of the collection by name, as they are in their files."""
    return {name: _read(name) for name in _names()}


@functools.lru_cache(maxsize=None)
def _names() -> list[str]:
    return sorted(
        name for name, ending in map(os.path.splitext, os.listdir(_FOLDER)) if ending == ".yml"
    )


@functools.lru_cache(maxsize=None)
def _read(name: str) -> dict[str, Any]:
    with open(os.path.join(_FOLDER, name + ".yml"), encoding="utf-8") as stream:
        return cast("dict[str, Any]", load_yaml(stream))


@functools.lru_cache(maxsize=None)
def _aliases() -> dict[str, str]:
    """Return the kinds by their other names."""
    return {alias: name for name, kind in shipped().items() for alias in kind.get("aliases", ())}


def canonical(name: str, own_kinds: Mapping[str, Any]) -> str:
    """Return the name of a kind for one of its names; others are returned unchanged.

    Names of containerlab can also begin with vr-. own_kinds: the topology's kinds.
    """
    if name in own_kinds or name in _names():
        return name
    other = name[3:] if name.startswith("vr-") else name
    return other if other in _names() else _aliases().get(other, name)


def resolve(
    name: str,
    own_kinds: Mapping[str, Any],
    problems: Problems,
    path: str,
    derived: tuple[str, ...] = (),
) -> KindSpec | None:
    """Return a complete kind. Record a problem and return None if it does not exist.

    own_kinds: the topology's kinds. derived: the kinds that extend this one, to find cycles.
    """
    name = canonical(name, own_kinds)
    if name not in own_kinds and name not in _names():
        available = sorted({*_names(), *own_kinds}, key=str)
        problems.add(
            path,
            "there is no kind %r; the available kinds are %s%s",
            name,
            ", ".join(available),
            suggestion(name, [*available, *_aliases()]),
        )
        return None
    if name in derived:
        problems.add(path, "the kind %r extends itself", name)
        return None
    if len(derived) >= _MAX_DERIVED:
        problems.add(path, "more than %d kinds extend each other in a row", _MAX_DERIVED)
        return None
    given = own_kinds[name] if name in own_kinds else _read(name)

    def base_of(extending: Mapping[str, Any], option: str) -> Mapping[str, Any] | None:
        if not extending.get("extends"):
            return None
        path = "kinds.%s.%s" % (name, option)
        return resolve(extending["extends"], own_kinds, problems, path, derived + (name,))

    spec = _derived(given, base_of(given, "extends"), name)
    spec["modules"] = dict(spec["modules"])
    for module, settings in (given.get("modules") or {}).items():
        base = base_of(settings, "modules.%s.extends" % module) or spec["modules"].get(module)
        spec["modules"][module] = _derived(settings, base, "%s_%s" % (name, module))
        spec["modules"][module].update({"modules": {}, "internal": []})
    return spec


def _derived(given: Mapping[str, Any], base: Mapping[str, Any] | None, image: str) -> KindSpec:
    """Return a kind or module that changes a base. image: the name of its image without one."""
    inherited = base or _EMPTY
    spec = merge(inherited, {key: value for key, value in given.items() if key not in _OF_NAME})
    spec["files"] = {**inherited["files"], **(given.get("files") or {})}
    spec["image"] = given.get("image") or inherited["image"] or image
    return cast(KindSpec, spec)


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return base updated with override: nested dicts are merged, other values replaced."""
    merged = dict(base)
    for key, value in override.items():
        merged[key] = (
            merge(merged[key], value)
            if isinstance(value, dict) and isinstance(merged.get(key), dict)
            else value
        )
    return merged
