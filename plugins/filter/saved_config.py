# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: saved_config
version_added: 1.0.0
short_description: Return the text of a configuration to save
description:
  - Returns the configuration in the output of a command, without terminal codes, carriage returns,
    and the empty lines around it.
  - If it differs from the saved configuration only in volatile lines, such as the time of the last
    change, the saved one is returned. A file with it is then not changed.
author:
  - vlab.qemu contributors (@vlab)
options:
  _input:
    description: The output of the command that shows the configuration.
    type: str
    required: true
  saved:
    description: The configuration that was saved before; empty for the first time.
    type: str
    default: ""
  omit:
    description: Regular expressions of lines that are not part of the configuration.
    type: list
    elements: str
    default: []
  volatile:
    description: Regular expressions of lines that can differ in the same configuration.
    type: list
    elements: str
    default: []
notes:
  - An output that is empty, or with which the system has refused the command, is an error.
seealso:
  - plugin: vlab.qemu.running_configs
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Save the configuration of a router
  ansible.builtin.copy:
    content: "{{ shown.stdout | vlab.qemu.saved_config(saved, volatile=['^! Last']) }}"
    dest: "{{ file }}"
    mode: "0600"
  delegate_to: localhost
  vars:
    file: "{{ playbook_dir }}/edge1.cfg"
    saved: "{{ lookup('ansible.builtin.file', file, rstrip=false) if file is exists else '' }}"
"""

RETURN = r"""
_value:
  description: The text to save. It ends with a line feed.
  type: str
"""

from collections.abc import Sequence
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.running_configs import (
    config_text,
    refusal,
    without_volatile,
)


def saved_config(
    output: Any, saved: str = "", omit: Sequence[str] = (), volatile: Sequence[str] = ()
) -> str:
    """Return the configuration in an output, or the saved one if it is the same."""
    if not isinstance(output, str) or not isinstance(saved, str):
        raise AnsibleFilterError("saved_config: the input and saved must be texts")
    text = config_text(output, omit)
    reason = refusal(text)
    if reason:
        raise AnsibleFilterError("the command has shown no configuration: %s" % reason)
    is_same = without_volatile(text, volatile) == without_volatile(saved, volatile)
    return saved if is_same else text


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"saved_config": saved_config}
