# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The topology as it is given to qemu_lab: as a dictionary, as YAML, or as a file."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Callable, NamedTuple

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError

from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.yaml_file import (
    load_yaml,
    mapping_in,
)


# Returns the value for a key, which another worker of the run may have computed: see RunCache.
Once = Callable[[str, Callable[[], Any]], Any]


class Source(NamedTuple):
    """The data of a topology, and the path of its file, None without one."""

    data: Any
    path: str | None = None


def read_topology(
    topology: Any, find: Callable[[str, str], str], once: Once | None = None
) -> Source:
    """Return the data of a topology: as given, from YAML, or from a file of the controller.

    find: returns the path of a file in the folders of the play. once: for a file that the other
    workers of the run read as well. Raises AnsibleActionFail.
    """
    if isinstance(topology, dict):
        return Source(topology)
    if not isinstance(topology, str):
        raise AnsibleActionFail("topology: give a dictionary, or the path of a YAML file")
    try:
        data = mapping_in(topology)
    except yaml.YAMLError as error:
        raise AnsibleActionFail("topology: it is not YAML: %s" % error)
    if data is not None:
        return Source(data)
    try:
        path = find("files", topology)
    except AnsibleError:
        path = os.path.expanduser(topology)
    try:
        return Source(_load(path, once), path)
    except OSError as error:
        raise AnsibleActionFail("topology: cannot read %s: %s" % (path, error.strerror))
    except yaml.YAMLError as error:
        raise AnsibleActionFail("topology: %s is not YAML: %s" % (path, error))


def _load(path: str, once: Once | None) -> Any:
    """Return the data of a file. Raises OSError or yaml.YAMLError."""

    def load() -> Any:
        with open(path, encoding="utf-8") as stream:
            return load_yaml(stream)

    if once is None:
        return load()
    with open(path, "rb") as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    return once(digest, load)


def named(data: Any, lab_name: str | None, lab: str | None) -> Any:
    """Return the data of a topology with the name of the lab.

    lab_name: instead of its own. lab: for a topology without a name, as module_defaults of the
    action group set it for all modules.
    """
    if not isinstance(data, dict):
        return data
    name = lab_name or data.get("name") or lab
    return dict(data, name=name) if name else data
