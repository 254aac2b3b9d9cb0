#!/usr/bin/python
# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_input
version_added: 1.0.0
short_description: Use the keyboard, mouse and screen of a virtual machine
description:
  - Types text, presses keys, moves the mouse, and saves a screenshot of a running VM.
  - Use it for what only a screen shows, such as a firmware setup, a boot menu, or an installer. To
    run commands in a guest, use P(vlab.qemu.guest_agent#connection) or
    P(vlab.qemu.serial#connection).
  - The order of the actions is O(text), O(keys), O(mouse), O(screenshot).
author:
  - vlab.qemu contributors (@vlab)
extends_documentation_fragment:
  - vlab.qemu.attributes
  - vlab.qemu.attributes.platform
  - vlab.qemu.attributes.actiongroup_qemu
  - vlab.qemu.vm
attributes:
  check_mode:
    support: partial
    details:
      - Nothing is typed in check mode. A screenshot is compared with the file, which is not
        written.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - Input is a change each time. A screenshot alone is a change if the file differs.
options:
  vm:
    description: The name of the VM.
    type: str
    required: true
  text:
    description:
      - The text to type, on a keyboard with the layout C(us). A line feed presses return.
      - If it is secret, give the task C(no_log=true).
    type: str
    aliases: [string_send]
  keys:
    description:
      - The keys to press, one after the other.
      - An entry is the name of a key, such as V(enter), V(esc), V(f2), V(up) or V(a), or several
        keys that are pressed together, joined by hyphens, such as V(ctrl-alt-delete). The hyphen
        itself is V(minus). Upper case and underscores are accepted, as in V(CTRL_ALT_DEL).
    type: list
    elements: str
    aliases: [keys_send]
  mouse:
    description: The movements and clicks of the mouse, in order. An entry moves first.
    type: list
    elements: dict
    suboptions:
      x:
        description:
          - The position to move to, in pixels from the left, as in a screenshot.
          - The guest must use a pointer with absolute positions, such as C(usb-tablet).
        type: int
      y:
        description: The position to move to, in pixels from the top.
        type: int
      dx:
        description: The distance to move to the right. This needs a mouse.
        type: int
      dy:
        description: The distance to move down.
        type: int
      click:
        description: The button to click.
        type: str
        choices: [left, middle, right, wheel-up, wheel-down]
      clicks:
        description: How often to click.
        type: int
        default: 1
  screenshot:
    description:
      - A file on the hypervisor for a picture of the screen, in the format PNG.
      - The VM needs a graphics card, O(vlab.qemu.qemu_vm#module:vga).
    type: path
  pause:
    description: Seconds to wait before the screenshot, for the guest to draw.
    type: float
    default: 0
  press_time:
    description: Milliseconds to hold each key and button.
    type: int
    default: 40
  delay:
    description: Milliseconds to wait after each key, click and movement. Emulated guests are slow.
    type: int
    default: 40
  lock_timeout:
    description: Seconds to wait for another run that works on the VM.
    type: int
    default: 300
seealso:
  - module: vlab.qemu.qemu_console
  - module: vlab.qemu.qemu_qmp
"""

EXAMPLES = r"""
- name: Log in at the screen
  vlab.qemu.qemu_input:
    vm: desktop
    text: "root\n{{ vault_root_password }}\n"
  no_log: true

- name: Press Ctrl, Alt and Delete, and see what happens
  vlab.qemu.qemu_input:
    vm: desktop
    keys: [ctrl-alt-delete]
    pause: 2
    screenshot: /tmp/desktop.png

- name: Choose the third entry of a boot menu
  vlab.qemu.qemu_input:
    vm: desktop
    keys: [down, down, enter]

- name: Double-click, and take a screenshot
  vlab.qemu.qemu_input:
    vm: desktop
    mouse:
      - x: 512
        y: 384
        click: left
        clicks: 2
    pause: 1
    screenshot: /tmp/desktop.png
  register: result

- name: Fetch the picture
  ansible.builtin.fetch:
    src: "{{ result.screenshot.path }}"
    dest: pictures/
"""

RETURN = r"""
strokes:
  description: The number of keys, or keys together, that were pressed.
  returned: success
  type: int
  sample: 12
screenshot:
  description: The picture.
  returned: with O(screenshot)
  type: dict
  contains:
    path:
      description: The file.
      returned: always
      type: str
      sample: /tmp/desktop.png
    width:
      description: The width in pixels.
      returned: always
      type: int
      sample: 1024
    height:
      description: The height in pixels.
      returned: always
      type: int
      sample: 768
    checksum:
      description: The SHA-256 checksum of the pixels; equal pictures have equal checksums.
      returned: always
      type: str
      sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._module import run_module
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import check_number
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import existing
from ansible_collections.vlab.qemu.plugins.module_utils._vm.input_session import (
    InputSession,
    save_screenshot,
    screen,
)

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def work(module: AnsibleModule) -> dict[str, Any]:
    """Send the input, take the screenshot; return the module's result."""
    params, check_mode = module.params, module.check_mode
    session = InputSession(params)
    check_number("pause", params["pause"], 0, 3600, "a time in seconds")
    if not session.has_input and not params["screenshot"]:
        raise OptionError("text", "there is nothing to do: give text, keys, mouse or screenshot")
    folder = existing(params["root"], params["lab"], params["vm"])
    changed = session.has_input
    result: dict[str, Any] = {"strokes": len(session.chords)}
    with folder.locked(False, params["lock_timeout"]), Monitor(folder.qmp) as monitor:
        if session.has_input and not check_mode:
            session.send(monitor, folder)
        if params["screenshot"]:
            session.wait(params["pause"])
            picture = screen(monitor, folder)
            result["screenshot"], differs = save_screenshot(
                picture, params["screenshot"], check_mode
            )
            changed = changed or differs
    return dict(result, changed=changed)


def main() -> None:
    run_module(
        work,
        argument_spec={
            "vm": {"type": "str", "required": True},
            "lab": {"type": "str", "default": "default"},
            "root": {"type": "path"},
            "text": {"type": "str", "aliases": ["string_send"]},
            "keys": {
                "type": "list",
                "elements": "str",
                "aliases": ["keys_send"],
                "no_log": False,
            },
            "mouse": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "x": {"type": "int"},
                    "y": {"type": "int"},
                    "dx": {"type": "int"},
                    "dy": {"type": "int"},
                    "click": {
                        "type": "str",
                        "choices": ["left", "middle", "right", "wheel-up", "wheel-down"],
                    },
                    "clicks": {"type": "int", "default": 1},
                },
            },
            "screenshot": {"type": "path"},
            "pause": {"type": "float", "default": 0},
            "press_time": {"type": "int", "default": 40},
            "delay": {"type": "int", "default": 40},
            "lock_timeout": {"type": "int", "default": 300},
        },
    )


if __name__ == "__main__":
    main()
