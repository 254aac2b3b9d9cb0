# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documentation of the modules, as ansible-doc sees it, and their argument specs."""

from __future__ import annotations

import functools
import importlib
import pathlib

import yaml

from ansible_collections.vlab.qemu.plugins.module_utils import _module

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULES = sorted(
    path.stem for path in (ROOT / "plugins/modules").glob("*.py") if path.stem != "__init__"
)
COLLECTION = "ansible_collections.vlab.qemu.plugins."


def load(name):
    """Import a module."""
    return importlib.import_module(COLLECTION + "modules." + name)


def part(name, which):
    """Return DOCUMENTATION, EXAMPLES or RETURN of a module as data."""
    return yaml.safe_load(getattr(load(name), which))


def fragment(name):
    """Return a documentation fragment, such as vlab.qemu.storage.image, as data."""
    words = name.split(".")[2:]
    found = importlib.import_module(COLLECTION + "doc_fragments." + words[0]).ModuleDocFragment
    return yaml.safe_load(getattr(found, words[1].upper() if len(words) > 1 else "DOCUMENTATION"))


@functools.lru_cache(maxsize=None)
def options(name):
    """Return the documented options of a module, with those of its fragments."""
    document = part(name, "DOCUMENTATION")
    merged = dict(document.get("options") or {})
    for one in document["extends_documentation_fragment"]:
        for option, text in (fragment(one).get("options") or {}).items():
            assert option not in merged, "%s: %s is documented twice" % (name, option)
            merged[option] = text
    return merged


class _Asked(Exception):
    """Carry the arguments that a module passed to AnsibleModule."""


def argument_spec(name):
    """Return the keyword arguments that a module passes to AnsibleModule."""
    module = load(name)

    def ask(*_args, **arguments):
        raise _Asked(arguments)

    before, _module.Module = _module.Module, ask
    try:
        module.main()
    except _Asked as asked:
        return asked.args[0]
    finally:
        _module.Module = before
    raise AssertionError("%s made no AnsibleModule" % name)


def examples():
    """Return the tasks of all EXAMPLES that run a vlab.qemu module: (id, module, task options)."""
    found = []
    for name in MODULES:
        for task in part(name, "EXAMPLES") or ():
            for key, given in task.items():
                if key.startswith("vlab.qemu."):
                    found.append(
                        ("%s: %s" % (name, task.get("name")), key[len("vlab.qemu.") :], given or {})
                    )
    return found
