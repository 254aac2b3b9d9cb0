# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the event source and the rulebook heal_lab with the real ansible-rulebook and QEMU.

    python tests/ecosystem/eda.py

It requires Java 17, and installs ansible-rulebook into the folder of reusable files. Three VMs run:
the QEMU of the first is killed, the console of the second shows a panic, and the third is stopped
by a user.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import Any

import yaml

from tools import BIN, ROOT, background, environment, need_program, until, virtual_environment

REQUIREMENTS = ("ansible-rulebook>=1.1,<3",)
READY_TIMEOUT = 120  # s until ansible-rulebook runs
HEAL_TIMEOUT = 90  # s for one playbook
VMS = ("killed", "panicked", "stopped")


class Lab:
    """The VMs of this test."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.root = folder, folder / "root"
        self.env = environment()

    def module(self, module: str, /, **options: Any) -> None:
        """Run a module on this host."""
        options.update(root=str(self.root), lab="heal")
        command = [str(BIN / "ansible"), "localhost", "-m", "vlab.qemu." + module]
        command += ["-a", json.dumps(options)]
        done = subprocess.run(
            command, env=self.env, check=False, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise RuntimeError(f"{module} {options}: {done.stdout}{done.stderr}")

    def start(self) -> None:
        """Start the VMs, with a monitor for the event source."""
        for name in VMS:
            monitors = [{"name": "events", "type": "qmp"}]
            options = {"memory": 32, "accel": "tcg", "monitors": monitors}
            self.module("qemu_vm", name=name, allow_container=True, **options)

    def remove(self) -> None:
        """Remove the VMs."""
        for name in VMS:
            if (self.root / "heal" / name).is_dir():
                self.module("qemu_vm", name=name, state="absent")

    def pid(self, name: str) -> int:
        """Return the process of a VM, 0 if it does not run."""
        try:
            run = json.loads((self.root / "heal" / name / "run.json").read_text())
            os.kill(run["pid"], 0)
        except (OSError, ValueError, KeyError):
            return 0
        return int(run["pid"])


def write_settings(lab: Lab) -> list[str]:
    """Write the inventory and the variables; return the options that name them."""
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {"all": {"hosts": {"localhost": {**host, "heal_allow_container": True}}}}
    variables = {"heal_roots": [str(lab.root)], "heal_labs": ["heal"]}
    for name, content in (("inventory.yml", inventory), ("vars.yml", variables)):
        (lab.folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    return [
        "--inventory",
        str(lab.folder / "inventory.yml"),
        "--vars",
        str(lab.folder / "vars.yml"),
    ]


def check(lab: Lab, log: pathlib.Path, process: subprocess.Popen[bytes]) -> None:
    """Let VMs fail, and check what the rulebook does. Raises TimeoutError or RuntimeError."""

    def shows(text: str, times: int = 1) -> bool:
        if process.poll() is not None:
            raise RuntimeError("ansible-rulebook ended")
        return log.read_text(encoding="utf-8", errors="replace").count(text) >= times

    until(lambda: shows("CONNECTED", 3), "the source connects to all VMs", READY_TIMEOUT)
    before = {name: lab.pid(name) for name in VMS}

    os.kill(before["killed"], signal.SIGKILL)
    until(
        lambda: lab.pid("killed") not in (0, before["killed"]),
        "the killed VM runs again",
        HEAL_TIMEOUT,
    )
    print("ok: a killed VM runs again", flush=True)

    with (lab.root / "heal/panicked/console.log").open("a", encoding="utf-8") as console:
        console.write("Kernel panic - not syncing: test\r\n")
    until(lambda: shows("TASK [Reset a guest that has failed]", 2), "a reset", HEAL_TIMEOUT)
    until(lambda: shows("changed=1", 2), "the guest with a panic is reset", HEAL_TIMEOUT)
    if lab.pid("panicked") != before["panicked"]:
        raise RuntimeError("the VM with a panic was started instead of being reset")
    print("ok: a guest with a panic on its console is reset", flush=True)

    lab.module("qemu_vm", name="stopped", state="stopped", shutdown={"acpi": False})
    until(lambda: shows("host-qmp-quit"), "the end of the stopped VM is seen", HEAL_TIMEOUT)

    process.send_signal(signal.SIGINT)
    process.wait(30)
    if lab.pid("stopped"):
        raise RuntimeError("a VM that a user stopped runs again")
    print("ok: a stopped VM stays stopped, and ansible-rulebook ends", flush=True)


def main() -> int:
    """Run the test; return the exit code."""
    need_program("java", "default-jre-headless")
    programs = virtual_environment(*REQUIREMENTS)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vlab-eda-"))
    lab, log = Lab(folder), folder / "rulebook.log"
    command = [str(programs / "ansible-rulebook"), "--rulebook", "vlab.qemu.heal_lab"]
    command += ["--print-events", *write_settings(lab)]
    try:
        lab.start()
        with background(command, log, environment(programs, ANSIBLE_HOME=str(folder))) as process:
            check(lab, log, process)
    except (TimeoutError, RuntimeError, subprocess.TimeoutExpired) as error:
        if log.exists():
            print("\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-80:]))
        print(f"failed: {error}")
        print("0 passed, 1 failed")
        return 1
    finally:
        lab.remove()
        shutil.rmtree(folder, ignore_errors=True)
    print("3 passed, 0 failed")
    return 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
