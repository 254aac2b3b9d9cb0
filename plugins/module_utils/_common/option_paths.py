# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Options of the type path when the controller validates them: the hypervisor expands them."""

from __future__ import annotations

import os
from typing import Any, Dict

Spec = Dict[str, Dict[str, Any]]


def unexpanded(spec: Spec) -> Spec:
    """Return an argument spec whose validation leaves paths as they are."""
    return {name: _unexpanded_option(option) for name, option in spec.items()}


def _unexpanded_option(option: Dict[str, Any]) -> Dict[str, Any]:
    changed = dict(option)
    for key in ("type", "elements"):
        if option.get(key) == "path":
            changed[key] = "str"
    if option.get("options"):
        changed["options"] = unexpanded(option["options"])
    return changed


def expand(params: Dict[str, Any], spec: Spec) -> None:
    """Expand ~ and variables in the paths of validated options, as AnsibleModule does."""
    for name, option in spec.items():
        value = params.get(name)
        values = value if isinstance(value, list) else [value]
        if "path" in (option.get("type"), option.get("elements")):
            expanded = [os.path.expanduser(os.path.expandvars(path)) for path in values if path]
            if isinstance(value, list):
                params[name] = expanded
            elif value:
                params[name] = expanded[0]
        elif option.get("options"):
            for one in values:
                if isinstance(one, dict):
                    expand(one, option["options"])
