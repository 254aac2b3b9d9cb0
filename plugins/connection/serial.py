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
  - Logs in on a VM's serial console, runs commands and copies small files. The guest needs neither a network nor an agent.
  - In a guest with a POSIX shell (O(shell=posix)), what the kernel and others print on the console does no harm - outputs come
    encoded, numbered and with a sum, and what is damaged is asked for again. Exit codes are true, and output and error output are apart.
    Ordinary modules work where the guest has Python, M(ansible.builtin.raw) where it has none.
  - With O(shell=cli) a command is typed as it is, and what comes until the next O(prompt) is its output - for M(ansible.builtin.raw)
    on network systems.
  - The log of the console goes on meanwhile. Other clients of the console wait.
  - The VM may be on another host than the controller; Ansible's own connection to that host leads there.
  - While the guest is still booting the host counts as unreachable, which M(ansible.builtin.wait_for_connection) and C(until) get over.
    A VM that does not run and a login that is refused are errors that say so.
requirements:
  - for O(shell=posix), in the guest - C(sh), C(base64), C(grep), C(sed), C(mktemp), C(stty), and C(sha256sum), C(sha256) or C(cksum)
extends_documentation_fragment:
  - vlab.qemu.guest_connection
options:
  console:
    description: Name of the console; the first one by default.
    type: str
    vars:
      - name: vlab_console
  shell:
    description: What answers after the login.
    type: str
    choices:
      posix: A POSIX shell.
      cli: A command line of another kind, such as that of a network system.
    default: posix
    vars:
      - name: vlab_serial_shell
  remote_user:
    description: User to log in as, where the console asks for one.
    type: str
    default: root
    vars:
      - name: ansible_user
      - name: vlab_serial_user
  password:
    description: Password of that user. It is neither echoed nor logged.
    type: str
    vars:
      - name: ansible_password
      - name: vlab_serial_password
  login_prompt:
    description: Regular expression for the prompt that wants a user's name.
    type: str
    default: '(?<!Last )\blogin: *'
    vars:
      - name: vlab_login_prompt
  password_prompt:
    description: Regular expression for the prompt that wants a password.
    type: str
    default: '[Pp]assword: *'
    vars:
      - name: vlab_password_prompt
  prompt:
    description:
      - Regular expression for the prompt of the shell or command line.
      - With O(shell=posix) it only makes the login faster; with O(shell=cli) it must be right.
    type: str
    default: '[$#%>] *$'
    vars:
      - name: vlab_prompt
notes:
  - A line that is half typed on the console, and with O(shell=posix) a command that is left running there, is abandoned.
  - Files cross at some ten kilobytes per second where the guest is emulated. P(vlab.qemu.guest_agent#connection) is much faster.
seealso:
  - plugin: vlab.qemu.guest_agent
    plugin_type: connection
  - plugin: vlab.qemu.lab
    plugin_type: inventory
  - module: vlab.qemu.qemu_console
"""

EXAMPLES = r"""
# In an inventory that the plugin vlab.qemu.lab did not write:
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

from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.guest_connection import (
    GuestConnection,
)


class Connection(GuestConnection):
    """The serial console of a VM."""

    transport = "vlab.qemu.serial"
    channel = "serial"

    def _channel_parameters(self):
        login = {
            name: self.get_option(name)
            for name in ("password", "login_prompt", "password_prompt", "prompt")
        }
        return {
            "console": self.get_option("console"),
            "cli": self.get_option("shell") == "cli",
            "login": dict(login, user=self.get_option("remote_user")),
        }
