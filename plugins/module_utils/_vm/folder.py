# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A VM's folder: where its files are, and the lock that lets one run at a time work on it."""

from __future__ import annotations

import hashlib
import os

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    make_private_folder,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.locks import file_lock

_NAMES = 10  # of VMs that a message lists
# sun_path holds 108 bytes with its end (unix(7)); this leaves room for the longest socket name of ours.
_LONGEST_FOLDER = 107 - len("/console-255.sock")

# In a lab's folder: what its topology says of its nodes, see about.
ABOUT = ".nodes.json"


def default_root():
    """/var/lib/vlab for root, $XDG_STATE_HOME/vlab for others."""
    if os.geteuid() == 0:
        return "/var/lib/vlab"
    return os.path.join(
        os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "vlab"
    )


def check_name(option, name):
    """A name that becomes a file name: anything but what would leave its folder or hide in it. Raises OptionError."""
    if not name or not name.strip():
        raise OptionError(option, "a name must not be empty")
    if name.startswith(".") or "/" in name:
        raise OptionError(
            option,
            "%r cannot be a name: it would leave or hide in its folder (no / and no leading dot)"
            % name,
        )
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise OptionError(option, "%r cannot be a name: it has control characters" % name)
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise OptionError(option, "%r cannot be a name: it is not valid UTF-8" % name)
    if length > 200:
        raise OptionError(
            option, "a name of %d bytes is too long for a file name: 200 at most" % length
        )
    return name


def remove_lab(path):
    """Remove the folder of a lab that has no VM any more. Raises OSError when it has."""
    if os.listdir(path) == [ABOUT]:
        os.unlink(os.path.join(path, ABOUT))
    os.rmdir(path)


def existing(root, lab, name):
    """The Folder of a VM that is defined. Raises OptionError for any other."""
    folder = Folder(root, lab, name)
    if not folder.exists():
        raise OptionError("vm", no_such_vm(folder))
    return folder


def no_such_vm(folder):
    """The message for a VM that is not defined: it names one with a similar name, or those that the lab has."""
    import difflib

    home = os.path.dirname(folder.path)
    try:
        names = sorted(
            name
            for name in os.listdir(home)
            if os.path.exists(os.path.join(home, name, os.path.basename(folder.definition)))
        )
    except OSError:
        names = []
    similar = difflib.get_close_matches(folder.name, names, 1)
    hint = (
        "did you mean %s?" % similar[0]
        if similar
        else "it has %s" % (", ".join(names[:_NAMES] + ["..."] * (len(names) > _NAMES)) or "none")
    )
    return "the lab %s has no VM %s under %s: %s" % (folder.lab, folder.name, folder.root, hint)


class Folder:
    """The files of one VM. root: the folder of all labs."""

    def __init__(self, root, lab, name):
        self.root = os.path.abspath(root or default_root())
        self.lab = check_name("lab", lab)
        self.name = check_name("name", name)
        self.path = os.path.join(self.root, lab, name)
        self._name_files()

    def _name_files(self):
        self.definition = self.file("vm.json")
        self.run = self.file("run.json")
        self.pidfile = self.file("qemu.pid")
        self.log = self.file("qemu.log")
        self.exit_code = self.file("exit_code")
        self.captures = self.file("captures")
        self.qmp = self.socket("qmp.sock")

    def file(self, name):
        """The path of a file in the folder."""
        return os.path.join(self.path, name)

    @property
    def host(self):
        """What all labs under this root share."""
        return os.path.join(self.root, ".host")

    @property
    def sockets(self):
        """The folder of the sockets: the VM's own, or a short one where its path is too long for a socket."""
        if len(os.fsencode(self.path)) <= _LONGEST_FOLDER:
            return self.path
        if os.geteuid() == 0:
            base = "/run/vlab"
        else:
            base = (
                os.path.join(os.environ["XDG_RUNTIME_DIR"], "vlab")
                if os.environ.get("XDG_RUNTIME_DIR")
                else "/tmp/vlab-%d" % os.geteuid()
            )
        return os.path.join(base, hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12])

    def socket(self, name):
        """The path of a socket of the VM."""
        return os.path.join(self.sockets, name)

    def exists(self):
        """Whether the VM is defined."""
        return os.path.exists(self.definition)

    def is_debris(self):
        """Whether a folder without a definition is what a killed run left: it has a lock, or nothing; kept disks have no lock."""
        try:
            names = os.listdir(self.path)
        except OSError:
            return False
        return not names or "lock" in names

    def make(self):
        """Make the folder, 0700, and the one of the sockets."""
        make_folder(self.root)
        make_folder(os.path.dirname(self.path))
        make_private_folder(self.path)
        if self.sockets != self.path:
            make_private_folder(os.path.dirname(self.sockets))
            make_private_folder(self.sockets)

    def tidy(self):
        """Remove the folder again when a run that failed has left nothing in it but its lock."""
        try:
            if os.listdir(self.path) == ["lock"]:
                os.unlink(self.file("lock"))
                os.rmdir(self.path)
                self.leave_lab()
        except OSError:
            pass  # not there, or the lab has other VMs

    def leave_lab(self):
        """Remove the lab's folder when it has no VM any more. Raises OSError when it has."""
        remove_lab(os.path.dirname(self.path))

    def locked(self, create, timeout=300):
        """Hold the VM's lock, as a context. With create False, a VM that has no folder gets none, nor a folder of kept disks a lock."""
        return file_lock(
            self.file("lock"), timeout=timeout, remake=self.make if create else None, create=create
        )
