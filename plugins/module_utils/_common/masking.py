# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Options without the content of files, which may be secret, for results and logs."""

from __future__ import annotations

from typing import Any, Dict

_MASK = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"  # what Ansible shows for no_log

# Suboptions with the content of files; all others are shown.
_CONTENTS = {
    "cloud_init": ("user_data", "meta_data", "network_config", "vendor_data"),
    "config_drive": ("files",),
    "tftp_files": ("files",),
}


def without_contents(params: Any) -> Any:
    """Return the options of a module as they may be shown.

    share: of qemu_lab, which its action plugin sets; it has the files of all nodes.
    """
    if not isinstance(params, dict):
        return params
    shown: Dict[str, Any] = dict(params)
    for option, suboptions in _CONTENTS.items():
        value = shown.get(option)
        if isinstance(value, dict):
            shown[option] = {
                key: _masked(data) if key in suboptions else data for key, data in value.items()
            }
        elif value is not None:
            shown[option] = _MASK  # a text that Ansible has not parsed
    if shown.get("share"):
        shown["share"] = _MASK
    return shown


def _masked(value: Any) -> Any:
    """Return a mask; for a dictionary of files, one for each name."""
    if value is None:
        return None
    if isinstance(value, dict):
        return dict.fromkeys(value, _MASK)
    return _MASK
