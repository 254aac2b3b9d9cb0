# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: lab_picture
version_added: 1.0.0
short_description: Draw a lab as a picture
description:
  - Draws the nodes, links and segments of a topology of M(vlab.qemu.qemu_lab), with their
    addresses, the links to networks of the host, forwarded ports, and captures.
  - With the result of M(vlab.qemu.qemu_vm_info), the picture also shows the state of each node and
    how to open its console.
  - The same input always gives the same picture.
author:
  - vlab.qemu contributors (@vlab)
positional: format
options:
  _input:
    description: The topology as a dictionary, or the path of a YAML file on the controller.
    type: raw
    required: true
  format:
    description:
      - V(svg) is an image. V(html) is a complete page with all facts of each node, which loads no
        other files. Both require the program C(dot) of graphviz on the controller.
      - V(mermaid) is the text of a diagram, which GitHub, GitLab and others display. It requires no
        other program.
    type: str
    choices: [svg, mermaid, html]
    default: svg
  scheme:
    description:
      - V(light) and V(dark) have these colours everywhere. V(auto) follows the browser or the
        system, and for V(mermaid) the viewer.
    type: str
    choices: [auto, light, dark]
    default: auto
  vms:
    description:
      - The VMs of all hypervisors, as M(vlab.qemu.qemu_vm_info) returns them. Each can have the key
        C(hypervisor), the name of its host.
      - A node without a VM in this list is shown as absent. Without this option, no states are
        shown.
    type: list
    elements: dict
  placement:
    description: The hypervisor of each node, by name, for nodes whose hypervisor is not in O(vms).
    type: dict
  consoles:
    description:
      - The command that opens the console of each node, by name, as the filter
        P(vlab.qemu.console_command#filter) returns it. By default, those in O(vms), for a terminal
        on the hypervisor.
    type: dict
notes:
  - This filter runs on the controller, and requires the Python libraries jsonschema and netaddr
    there.
seealso:
  - plugin: vlab.qemu.lab
    plugin_type: role
"""

EXAMPLES = r"""
- name: Draw a lab
  ansible.builtin.copy:
    content: "{{ 'fabric.yml' | vlab.qemu.lab_picture }}"
    dest: fabric.svg
    mode: "0644"
  delegate_to: localhost

- name: Query its VMs
  vlab.qemu.qemu_vm_info:
    lab: fabric
  register: vm_info

- name: Write a page with their states
  ansible.builtin.copy:
    content: "{{ 'fabric.yml' | vlab.qemu.lab_picture('html', vms=vm_info.vms) }}"
    dest: fabric.html
    mode: "0644"
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description: The picture.
  type: str
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.basic import missing_required_lib

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.mermaid import mermaid
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.page import page
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.svg import svg
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.templates import AUTO, SCHEMES
from ansible_collections.vlab.qemu.plugins.plugin_utils._pictures.view import view_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder, libraries
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import TopologyError
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.yaml_file import (
    load_yaml,
    mapping_in,
)

_FORMATS: dict[str, Callable[..., str]] = {"svg": svg, "mermaid": mermaid, "html": page}


def lab_picture(
    topology: Any,
    format: str = "svg",  # pylint: disable=redefined-builtin
    vms: Any = None,
    placement: Any = None,
    consoles: Any = None,
    scheme: str = AUTO,
) -> str:
    """Return the picture of a lab."""
    if scheme not in SCHEMES:
        raise AnsibleFilterError(
            "lab_picture: there is no scheme %r; the schemes are %s" % (scheme, ", ".join(SCHEMES))
        )
    if format not in _FORMATS:
        raise AnsibleFilterError(
            "lab_picture: there is no format %r; the formats are %s" % (format, ", ".join(_FORMATS))
        )
    if vms is not None and not (
        isinstance(vms, Sequence) and all(isinstance(vm, Mapping) for vm in vms)
    ):
        raise AnsibleFilterError(
            "lab_picture: vms must be a list of VMs, as qemu_vm_info returns them in vms"
        )
    for name, value, content in (
        ("placement", placement, "hypervisor"),
        ("consoles", consoles, "command"),
    ):
        if value is not None and not isinstance(value, Mapping):
            raise AnsibleFilterError(
                "lab_picture: %s must be a dictionary with the %s of each node" % (name, content)
            )
    missing = libraries.missing()
    if missing:
        raise AnsibleFilterError("lab_picture: %s" % missing_required_lib(missing))
    try:
        return _FORMATS[format](
            view_of(
                builder.build(_read(topology) if isinstance(topology, str) else topology),
                vms,
                placement,
                consoles,
            ),
            scheme,
        )
    except (VlabError, TopologyError) as error:
        # Ansible would add the message of the cause, which is the same.
        raise AnsibleFilterError("lab_picture: %s" % error) from None


def _read(text: str) -> Any:
    path = os.path.expanduser(text)
    try:
        data = mapping_in(text)
        if data is not None:
            return data
        with open(path, encoding="utf-8") as stream:
            return load_yaml(stream)
    except OSError as error:
        raise AnsibleFilterError(
            "lab_picture: cannot read the topology %s: %s" % (path, error.strerror)
        ) from None
    except yaml.YAMLError as error:
        raise AnsibleFilterError("lab_picture: %s is not YAML: %s" % (path, error)) from None


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"lab_picture": lab_picture}
