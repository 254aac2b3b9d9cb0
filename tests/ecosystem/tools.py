# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests with other tools share: their virtual environments, processes, expectations."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Callable

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv/bin"
CACHE = pathlib.Path(os.environ.get("VLAB_CACHE") or pathlib.Path.home() / ".cache/vlab-qemu")
POLL_INTERVAL = 0.2  # s


def need_program(name: str, package: str) -> str:
    """Return the path of a program, which root installs from a package if it is missing."""
    if not shutil.which(name):
        apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
        for command in ([*apt, "update"], [*apt, "install", "--no-install-recommends", package]):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = shutil.which(name)
    if not found:
        raise FileNotFoundError(f"{name} is not installed: apt-get install {package}")
    return found


def virtual_environment(*requirements: str) -> pathlib.Path:
    """Return the folder of the programs of packages; they are installed once."""
    digest = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    folder = CACHE / f"tools-{digest}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *requirements], check=True)
        (folder / "complete").touch()
    return folder / "bin"


def environment(*programs: pathlib.Path, **more: str) -> dict[str, str]:
    """Return an environment with the collection, ansible-core of the checkout, and programs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    path = os.pathsep.join([*map(str, programs), str(BIN), kept.get("PATH", os.defpath)])
    return {
        **kept,
        "PATH": path,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_NOCOLOR": "1",
        "NO_COLOR": "1",
        **more,
    }


def until(condition: Callable[[], object], what: str, timeout: float) -> None:
    """Wait for a condition. Raises TimeoutError, which says what was expected."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(POLL_INTERVAL)


@contextlib.contextmanager
def background(
    command: list[str], log: pathlib.Path, env: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that writes to a log in its own session; end it with its children."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
