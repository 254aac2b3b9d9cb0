# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What starts VMs and labs after a reboot of the host: instances of one systemd unit.

An instance is a link, as `systemctl enable` makes it, and its name is the path of a VM or a lab.
The unit runs a copy of this code once; nothing stays resident.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from typing import Iterator, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import report_os_errors
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    make_private_folder,
    read_text,
    remove_file,
    write_atomically,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.locks import file_lock
from ansible_collections.vlab.qemu.plugins.module_utils._remote import kept_code
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import (
    LAB_AUTOSTART,
    default_root,
    host_folder,
)

UNIT = "vlab-autostart@"
_BOOTED = "/run/systemd/system"  # sd_booted(3)
_LINGER = "/var/lib/systemd/linger"  # loginctl(1), enable-linger
_PLAIN = re.compile(r"[A-Za-z0-9:_.]", re.ASCII)

_TEXT = """\
# Made by the collection vlab.qemu for VMs and labs with autostart.
[Unit]
Description=VM or lab %%f
Wants=network-online.target
After=network-online.target local-fs.target remote-fs.target
RequiresMountsFor=%%f

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=infinity
# The QEMUs belong to no service: stopping this one does not end them.
KillMode=process
SendSIGKILL=no
ExecStart=%s -I %s %%f

[Install]
WantedBy=%s
"""

# The code of a lab is more than that of a VM.
_PROGRAM = """\
# Made by the collection vlab.qemu: starts the VM or the lab whose folder is the argument.
import os
import sys

path = sys.argv[1]
is_lab = os.path.exists(os.path.join(path, "%s"))
code = "lab" if is_lab else "vm"
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), code))
if is_lab:
    from %s._lab.autostart import start
else:
    from %s import start
start(path)
"""


class Locations(NamedTuple):
    """Where the files of autostart are. target: the systemd target that wants the instances."""

    units: str
    code: str
    target: str


def locations() -> Locations:
    """Return the locations for this user."""
    code = os.path.join(host_folder(default_root()), "autostart")
    if os.geteuid() == 0:
        return Locations("/etc/systemd/system", code, "multi-user.target")
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Locations(os.path.join(base, "systemd", "user"), code, "default.target")


def escape(path: str) -> str:
    """Return a path as the name of an instance, as systemd-escape --path does."""
    text = path.strip("/").replace("/", "\0")
    return "".join(
        "-"
        if letter == "\0"
        else letter
        if _PLAIN.fullmatch(letter) and not (letter == "." and number == 0)
        else "".join("\\x%02x" % byte for byte in os.fsencode(letter))
        for number, letter in enumerate(text)
    )


def unit_text(where: Locations, python: str) -> str:
    """Return the text of the unit."""
    program = os.path.join(where.code, "start.py")
    return _TEXT % (_quoted(python), _quoted(program), where.target)


def _quoted(word: str) -> str:
    """Return a word of ExecStart (systemd.service(5), "Command lines")."""
    for letter, replacement in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        word = word.replace(letter, replacement)
    return '"%s"' % word


def is_enabled(path: str) -> bool:
    """Whether a VM or a lab is started after a reboot. path: its folder."""
    return os.path.islink(_link(locations(), path))


def _link(where: Locations, path: str) -> str:
    return os.path.join(where.units, where.target + ".wants", "%s%s.service" % (UNIT, escape(path)))


def enable(path: str, code: str) -> None:
    """Start a VM or a lab after a reboot. code: vm or lab. Raises HostError."""
    where = locations()
    unit = os.path.join(where.units, UNIT + ".service")
    link = _link(where, path)
    with report_os_errors("cannot set autostart"), _locked(where):
        make_private_folder(where.code)
        kept_code.keep(os.path.join(where.code, code))
        _write(os.path.join(where.code, "start.py"), _program(), 0o600)
        os.makedirs(os.path.dirname(link), exist_ok=True)
        _write(unit, unit_text(where, sys.executable), 0o644)
        if not os.path.islink(link):
            os.symlink(os.path.join("..", os.path.basename(unit)), link)


@contextlib.contextmanager
def _locked(where: Locations) -> Iterator[str]:
    """Let one run at a time change the unit, its instances and the code; yield the lock file."""
    path = where.code + ".lock"

    def make_its_folder() -> None:
        make_folder(os.path.dirname(os.path.dirname(path)))
        make_folder(os.path.dirname(path))

    with file_lock(path, remake=make_its_folder):
        yield path


def _program() -> str:
    # Imported by name, so that Ansible packs it into the modules that set autostart.
    from ansible_collections.vlab.qemu.plugins.module_utils._vm import autostart_start

    return _PROGRAM % (LAB_AUTOSTART, kept_code.PACKAGE, autostart_start.__name__)


def _write(path: str, text: str, mode: int) -> None:
    if read_text(path) != text:
        write_atomically(path, text, mode)


def disable(path: str) -> None:
    """Start a VM or a lab no more; the last one takes the unit and the code with it."""
    where = locations()
    link = _link(where, path)
    if not os.path.islink(link):
        return
    with report_os_errors("cannot remove autostart"), _locked(where) as lock:
        remove_file(link)
        wants = os.path.dirname(link)
        if os.path.isdir(wants) and any(name.startswith(UNIT) for name in os.listdir(wants)):
            return
        remove_file(os.path.join(where.units, UNIT + ".service"))
        shutil.rmtree(where.code, ignore_errors=True)
        remove_file(lock)
        for folder in (wants, os.path.dirname(where.code)):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def warnings() -> list[str]:
    """Return what keeps the instances of this user from being started."""
    found = []
    if not os.path.isdir(_BOOTED):
        found.append("autostart: this host does not run systemd, which starts it after a reboot")
    user = os.path.basename(os.path.expanduser("~"))
    with contextlib.suppress(KeyError, ImportError):
        import pwd

        user = pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() != 0 and not os.path.exists(os.path.join(_LINGER, user)):
        found.append(
            "autostart: the VMs of %s start only when that user logs in; loginctl enable-linger %s"
            " changes that" % (user, user)
        )
    return found
