# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: serial
version_added: 1.0.0
short_description: Run tasks in a VM on its serial console
author:
  - vlab.qemu contributors (@vlab)
description:
  - Logs in on the serial console of a VM, runs commands, and copies small files. The guest needs
    neither a network nor an agent.
  - With O(shell=posix), messages that the kernel and other programs print on the console do not
    disturb the commands. Output is encoded, numbered and has a checksum; damaged parts are
    requested again. Exit code, output and error output are returned separately. All modules work
    if the guest has Python; M(ansible.builtin.raw) also works without it.
  - With O(shell=cli), commands are typed unchanged, and the text up to the next O(prompt) is the
    output. This is for M(ansible.builtin.raw) on network operating systems.
  - The log of the console continues during a task. Other clients of the console wait.
  - The VM can be on another host than the controller. Ansible's connection to that host is then
    used.
  - While the guest boots, and if it ends or restarts during a task, the host is unreachable;
    M(ansible.builtin.wait_for_connection) and C(until) wait for it, and M(ansible.builtin.reboot)
    works. If the VM does not run or the guest refuses the login, the task fails.
  - An end or a restart is recognised by what the console shows, such as the banner of a kernel or
    of a firmware, a kernel panic, or a prompt for a login.
requirements:
  - For O(shell=posix), C(sh), C(base64), C(grep), C(sed), C(mktemp), C(stty), and one of
    C(sha256sum), C(sha256) and C(cksum) in the guest.
extends_documentation_fragment:
  - vlab.qemu.guest_connection
options:
  console:
    description: Name of the console; the first one by default.
    type: str
    vars:
      - name: vlab_console
  shell:
    description: The program that runs after the login.
    type: str
    choices:
      posix: A POSIX shell.
      cli: Another command line, such as that of a network operating system.
    default: posix
    vars:
      - name: vlab_serial_shell
  remote_user:
    description: User to log in as, if the console requires a login.
    type: str
    default: root
    vars:
      - name: ansible_user
      - name: vlab_serial_user
  password:
    description:
      - Password of that user. The guest does not echo it, so the log of the console does not
        contain it.
    type: str
    vars:
      - name: ansible_password
      - name: vlab_serial_password
  login_prompt:
    description: Regular expression for the prompt for the user name.
    type: str
    default: '(?<!Last )\blogin: *'
    vars:
      - name: vlab_login_prompt
  password_prompt:
    description: Regular expression for the prompt for the password.
    type: str
    default: '[Pp]assword: *'
    vars:
      - name: vlab_password_prompt
  prompt:
    description:
      - Regular expression for the prompt of the shell or command line.
      - With O(shell=posix), it only makes the login faster. With O(shell=cli), it must match.
    type: str
    default: '[$#%>] *$'
    vars:
      - name: vlab_prompt
notes:
  - An incomplete line on the console is discarded. With O(shell=posix), a command that still runs
    there is interrupted.
  - Files are copied at about 10 kilobytes per second if the guest is emulated.
    P(vlab.qemu.guest_agent#connection) is much faster.
seealso:
  - plugin: vlab.qemu.guest_agent
    plugin_type: connection
  - plugin: vlab.qemu.lab
    plugin_type: inventory
  - module: vlab.qemu.qemu_console
"""

EXAMPLES = r"""
# In an inventory without the plugin vlab.qemu.lab:
all:
  hosts:
    r1:
      ansible_connection: vlab.qemu.serial
      vlab_lab: triangle
      ansible_user: admin
      ansible_password: "{{ vault_admin_password }}"
    iosv:
      ansible_connection: vlab.qemu.serial
      vlab_lab: triangle
      vlab_serial_shell: cli
      vlab_prompt: '^[\w.-]+(\([\w-]+\))?[>#] *$'
"""

from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.guest_connection import (
    GuestConnection,
)


class Connection(GuestConnection):
    """The serial console of a VM."""

    transport = "vlab.qemu.serial"
    channel = "serial"

    def _channel_parameters(self) -> dict[str, Any]:
        login = {
            name: self.get_option(name)
            for name in ("password", "login_prompt", "password_prompt", "prompt")
        }
        return {
            "console": self.get_option("console"),
            "cli": self.get_option("shell") == "cli",
            "login": dict(login, user=self.get_option("remote_user")),
        }
