# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the marked examples of a documentation page in order, as a reader would.

    unshare --mount --net --pid --fork --mount-proc --kill-child python run_examples.py PAGE SCRATCH

A mark is a comment on the line before a block of code:

    file: NAME         the block is written to NAME
    run: shell         shell commands, until one fails; with ", shows: TEXT" the output must
                       contain TEXT
    run: playbook      a playbook
    run: tasks         tasks of a play on the hypervisors
    run: topology      a lab: brought up, brought up again without a change, taken down
    run: topology, check    the same lab, but only in check mode, for lack of its images or programs

A page of which no example can be run on one machine says so: "not run: REASON".

The namespaces turn this host into a separate hypervisor: of /var/lib/vlab only the guest images are
visible, no port is in use, and all processes end with the page.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap
import time

import yaml

BLOCK = re.compile(
    r"^<!-- (?P<what>file|run): (?P<how>.+?)(?:, shows: (?P<shows>.+?))? -->\n+"
    r"```\w*\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
WAYS = ("shell", "playbook", "tasks", "topology", "topology, check")
IMAGES = ("debian-12", "alpine", "iosv", "vsrx")  # blank, for examples that have an image
DEADLINE = 400  # s for one example

INVENTORY = {
    "hypervisors": {
        "hosts": {
            "hv1": {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
        }
    }
}
GUESTS = {
    "name": "Have the guests",
    "ansible.builtin.include_role": {"name": "vlab.qemu.guest_image"},
}
LAB = """
- name: Bring the lab up
  vlab.qemu.qemu_lab: {topology: topology.yml, images: "{{ guest_images | combine(more_images) }}"}
  register: up
- ansible.builtin.assert: {that: up is changed}
"""
AGAIN = """
- name: Bring the lab up again
  vlab.qemu.qemu_lab: {topology: topology.yml, images: "{{ guest_images | combine(more_images) }}"}
  register: again
- ansible.builtin.assert: {that: again is not changed}
- name: Take the lab down
  vlab.qemu.qemu_lab: {topology: topology.yml, state: absent}
"""


def blocks(text):
    """The marked blocks of a page: (number of the line, match)."""
    for match in BLOCK.finditer(text):
        if match["what"] == "run" and match["how"] not in WAYS:
            raise ValueError("%s: an example can be run as %s" % (match["how"], "; ".join(WAYS)))
        yield text.count("\n", 0, match.start("text")) + 1, match


def make_host(scratch):
    """Provide the folders of a hypervisor, empty except for the images."""
    lib = scratch / "lib"
    (lib / "images").mkdir(parents=True)
    home = pathlib.Path("/var/lib/vlab")
    (home / "images").mkdir(parents=True, exist_ok=True)
    for command in (
        ["mount", "--bind", home / "images", lib / "images"],
        ["mount", "--rbind", lib, home],
        ["mount", "-t", "tmpfs", "tmpfs", "/srv"],
        ["mount", "-t", "sysfs", "sysfs", "/sys"],  # of this network namespace, for bridges
        # A machine: what the host's disk has of a container's image must not make it one.
        ["mkdir", "-p", "/run/systemd"],
        ["mount", "-t", "tmpfs", "tmpfs", "/run/systemd"],
        ["mkdir", "/run/systemd/system"],
        ["ip", "link", "set", "lo", "up"],
        ["mkdir", "/srv/images"],
        *(
            ["qemu-img", "create", "-q", "-f", "qcow2", "/srv/images/%s.qcow2" % name, "2G"]
            for name in IMAGES
        ),
    ):
        subprocess.run(command, check=True)


def play(tasks, **variables):
    return yaml.safe_dump(
        [{"hosts": "hypervisors", "gather_facts": False, "vars": variables, "tasks": tasks}],
        sort_keys=False,
    )


def command_for(way, text, folder, line):
    """What runs an example: the words of a command."""
    if way == "shell":
        return ["bash", "-euo", "pipefail", "-c", text]
    file = folder / ("line-%d.yml" % line)
    if way == "tasks":
        tasks = yaml.safe_load(text)
        text = play(([GUESTS] if "guest_images" in text else []) + tasks)
    elif way.startswith("topology"):
        (folder / "topology.yml").write_text(text, encoding="utf-8")
        named = {
            shape.get("image") or shape.get("kind")
            for shape in yaml.safe_load(text)["nodes"].values()
            if shape
        } - {None, "frr", "linux", "tiny"}
        more = {
            name: {"disk": "/srv/images/debian-12.qcow2"}
            for name in {*named, "cloud", "appliance", "debian"}
        }
        text = play(
            [GUESTS, *yaml.safe_load(LAB + (AGAIN if way == "topology" else ""))], more_images=more
        )
    file.write_text(text, encoding="utf-8")
    check = ["--check"] if way.endswith("check") else []
    return ["ansible-playbook", *check, str(file)]


def main(page, scratch):
    name = page.stem.lower()
    shutil.rmtree(scratch / name, ignore_errors=True)  # of a first try
    folder = scratch / name / "work"
    folder.mkdir(parents=True)
    for archive in scratch.glob("vlab-qemu-*.tar.gz"):
        (folder / archive.name).symlink_to(archive)
    make_host(scratch / name)
    inventory = scratch / name / "inventory.yml"
    inventory.write_text(yaml.safe_dump(INVENTORY), encoding="utf-8")
    env = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("ANSIBLE_", "XDG_", "SSH_"))
    }
    env.update(
        HOME=str(scratch / "home"),
        ANSIBLE_INVENTORY=str(inventory),
        ANSIBLE_NOCOLOR="1",
        ANSIBLE_LOCALHOST_WARNING="0",
    )
    for line, match in blocks(page.read_text(encoding="utf-8")):
        if match["what"] == "file":
            (folder / match["how"]).write_text(match["text"], encoding="utf-8")
            continue
        command = command_for(match["how"], match["text"], folder, line)
        started = time.monotonic()
        done = subprocess.run(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=DEADLINE,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
        missed = match["shows"] and match["shows"] not in done.stdout
        if done.returncode != 0 or missed:
            print(textwrap.indent(match["text"], "    "))
            print(done.stdout)
            print(
                "%s:%d: %s"
                % (
                    page,
                    line,
                    "does not show %r" % match["shows"]
                    if missed and not done.returncode
                    else "ended with %d" % done.returncode,
                )
            )
            return 1
        print("%s:%d: ok, %.1f s" % (page, line, time.monotonic() - started), flush=True)
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))
