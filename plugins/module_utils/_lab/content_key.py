# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The digest of what the guests of a lab boot from: whether a checkpoint of them is still right."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Iterable, Iterator

from ansible_collections.vlab.qemu.plugins.module_utils._common.files import size_and_time

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._lab.node_run import NodeRun
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.data_types import Params

_LENGTH = 16  # hexadecimal digits
# Options that are the path of an image, and the lists of drives whose items have such a key.
_IMAGES = ("kernel", "initrd", "bios_image")
_DRIVES = {"disks": "backing_file", "cdroms": "path", "floppies": "path"}


def content_key(nodes: Iterable[NodeRun]) -> str:
    """Return the digest of the options of nodes, their images, and the versions of QEMU."""
    contents = [_content(node) for node in nodes if node.vm.desired]
    text = json.dumps(sorted(contents, key=lambda content: content["name"]), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:_LENGTH]


def _content(node: NodeRun) -> dict[str, Any]:
    options = node.masked_options()
    commands = node.node.get("exec")
    return {
        **({"exec": commands["shown"]} if commands else {}),
        "name": node.name,
        "options": options,
        "bootstrap": _without_secrets(node.node.get("bootstrap")),
        "images": [(path, size_and_time(path)) for path in _images(options)],
        "qemu": node.vm.host.capabilities.version_text,
    }


def _without_secrets(script: Any) -> Any:
    """Return a script for a console without what it types where nothing is shown."""
    if isinstance(script, dict):
        return {
            key: _without_secrets(value)
            for key, value in script.items()
            if key not in ("secret", "password")
        }
    if isinstance(script, list):
        return [_without_secrets(value) for value in script]
    return script


def _images(options: Params) -> Iterator[str]:
    for option in _IMAGES:
        if options.get(option):
            yield options[option]
    for option, key in _DRIVES.items():
        for drive in options.get(option) or ():
            if drive.get(key):
                yield drive[key]
