# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The folder of a VM: the paths of its files, and the lock that serialises runs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from typing import TYPE_CHECKING

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_folder,
    make_private_folder,
    remove_file,
    temporary_name,
    write_atomically,
)
from ansible_collections.vlab.qemu.plugins.module_utils._common.locks import file_lock
from ansible_collections.vlab.qemu.plugins.module_utils._common.paths import absolute_path
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import names_hint

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_MAX_ATTEMPTS = 100  # to make a folder that other runs remove
_MAX_LISTED_NAMES = 10  # VMs that an error message lists
# sun_path holds 108 bytes with its end (unix(7)): subtract the longest name of a socket.
_MAX_SOCKET_FOLDER = 107 - len("/console-255.sock")

# In a VM's folder: the path of the folder of its sockets, if that is another one.
_SOCKETS_RECORD = "socket_folder"

# In a lab's folder: what its topology says of its nodes, see node_facts.
NODE_FACTS = ".nodes.json"
# In a lab's folder: what it keeps for all of its runs, see _lab/lab_record.
LAB_RECORD = "lab.json"
# In a lab's folder: how it is started after a reboot, see _lab/autostart.
LAB_AUTOSTART = ".autostart.json"
# These files are of a lab and not of its VMs; a killed run leaves the second of each.
_FILES_OF_LAB = {
    name
    for file in (NODE_FACTS, LAB_RECORD, LAB_AUTOSTART)
    for name in (file, temporary_name(file))
}


def default_root() -> str:
    """Return /var/lib/vlab for root, $XDG_STATE_HOME/vlab for other users."""
    if os.geteuid() == 0:
        return "/var/lib/vlab"
    return os.path.join(
        os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "vlab"
    )


def root_folder(given: str | None) -> str:
    """Return the folder of all labs. given: the option root. Raises OptionError."""
    return absolute_path("root", given) if given else os.path.abspath(default_root())


def host_folder(root: str) -> str:
    """Return the folder of what all labs under a root share."""
    return os.path.join(root, ".host")


def _is_own_folder(path: str) -> bool:
    try:
        return os.lstat(path).st_uid == os.geteuid() and os.path.isdir(path)
    except OSError:
        return False


def check_name(option: str, name: str) -> str:
    """Return a name that can be a file name. Raises OptionError for any other."""
    if not name or not name.strip():
        raise OptionError(option, "a name must not be empty")
    if name.startswith(".") or "/" in name:
        raise OptionError(
            option,
            "%r cannot be a name: it must not contain a slash or begin with a dot" % name,
        )
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise OptionError(option, "%r cannot be a name: it has control characters" % name)
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise OptionError(option, "%r cannot be a name: it is not valid UTF-8" % name)
    if length > 200:
        raise OptionError(
            option, "a name of %d bytes is too long for a file name: the maximum is 200" % length
        )
    return name


def existing(root: str | None, lab: str, name: str) -> Folder:
    """Return the Folder of a VM that is defined. Raises OptionError for any other."""
    folder = Folder(root, lab, name)
    if not folder.exists():
        raise OptionError("vm", no_such_vm(folder))
    return folder


def no_such_vm(folder: Folder) -> str:
    """Return the message for a missing VM, with a similar name or the VMs of the lab."""
    lab = os.path.dirname(folder.path)
    try:
        names = sorted(
            name
            for name in os.listdir(lab)
            if os.path.exists(os.path.join(lab, name, os.path.basename(folder.definition)))
        )
    except OSError:
        names = []
    hint = names_hint(folder.name, names, _MAX_LISTED_NAMES)
    return "the lab %s has no VM %s under %s: %s" % (folder.lab, folder.name, folder.root, hint)


class Folder:
    """The files of one VM. root: the folder of all labs.

    lacks_lock: whether a run has found no lock, because there is no VM.
    """

    lacks_lock = False

    def __init__(self, root: str | None, lab: str, name: str) -> None:
        self.root = root_folder(root)
        self.lab = check_name("lab", lab)
        self.name = check_name("name", name)
        if name == LAB_RECORD:
            raise OptionError("name", "%s is the name of a file of the lab" % name)
        self._set_paths(os.path.join(self.root, lab, name))

    def _set_paths(self, path: str) -> None:
        self.path = path
        self.definition = self.file("vm.json")
        self.run = self.file("run.json")
        self.pidfile = self.file("qemu.pid")
        self.log = self.file("qemu.log")
        self.exit_code = self.file("exit_code")
        self.captures = self.file("captures")
        self.lock = self.file("lock")
        # Exists while the saved state of the guest is complete: see saved/record.py.
        self.suspended = self.file(os.path.join("suspended", "snapshot.json"))
        # Exists while a run returns the VM to the snapshot that it names.
        self.reverting = self.file("reverting")
        # Exists while the guest arrives from another host, and when it has left for one: see
        # saved/migration.
        self.receiving = self.file("receiving.json")

    def file(self, name: str) -> str:
        """Return the path of a file in the folder."""
        return os.path.join(self.path, name)

    @property
    def host(self) -> str:
        """The folder of what all labs under this root share."""
        return host_folder(self.root)

    @property
    def sockets(self) -> str:
        """The folder of the sockets: the VM's own, or a short one if its path is too long.

        A short one is recorded in the VM's folder: another run may have another environment.
        """
        if len(os.fsencode(self.path)) <= _MAX_SOCKET_FOLDER:
            return self.path
        candidates = self._socket_folders()
        return self._recorded_sockets() or next(filter(_is_own_folder, candidates), candidates[0])

    def _socket_folders(self) -> list[str]:
        """Return where the sockets of a VM with a long path can be, the best folder first.

        XDG_RUNTIME_DIR is removed when the user logs out, but the VM still runs.
        """
        if os.geteuid() == 0:
            bases = ["/run/vlab"]
        else:
            bases = ["/tmp/vlab-%d" % os.geteuid()]
            runtime = os.environ.get("XDG_RUNTIME_DIR")
            if runtime:
                bases.append(os.path.join(runtime, "vlab"))
        return [os.path.join(base, self._path_digest()) for base in bases]

    def _path_digest(self) -> str:
        return hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]

    def _recorded_sockets(self) -> str | None:
        try:
            with open(self.file(_SOCKETS_RECORD), "rb") as stream:
                path = os.fsdecode(stream.read(4096)).rstrip("\n")
        except OSError:
            return None
        # It is removed with the VM: accept only what a run can have written.
        base, name = os.path.split(path)
        is_valid = (
            os.path.isabs(path)
            and name == self._path_digest()
            and re.fullmatch(r"vlab(-[0-9]+)?", os.path.basename(base))
        )
        return path if is_valid else None

    def _make_sockets(self) -> None:
        """Create the short folder of the sockets, and record it."""
        recorded = self._recorded_sockets()
        error = None
        for path in ([recorded] if recorded else []) + self._socket_folders():
            try:
                make_private_folder(os.path.dirname(path))
                make_private_folder(path)
            except HostError as failure:
                error = error or failure
                continue
            if path != recorded:
                write_atomically(self.file(_SOCKETS_RECORD), os.fsencode(path) + b"\n")
            return
        if error:
            raise error

    @property
    def qmp(self) -> str:
        """The path of the socket of the collection's monitor."""
        return self.socket("qmp.sock")

    def socket(self, name: str) -> str:
        """Return the path of a socket of the VM."""
        return os.path.join(self.sockets, name)

    def exists(self) -> bool:
        """Whether the VM is defined."""
        return os.path.exists(self.definition)

    def is_debris(self) -> bool:
        """Whether a killed run left the folder without a definition.

        Such a folder is empty or has a lock; one that only keeps disks has no lock.
        """
        try:
            names = os.listdir(self.path)
        except OSError:
            return False
        return not names or "lock" in names

    def make(self) -> None:
        """Create the folder, mode 0700, and the one of the sockets.

        Another run may remove the lab's folder in between, together with its last VM.
        """
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                self._make()
                return
            except HostError as error:
                # os.makedirs reports a folder that goes just after it was found as FileExistsError.
                is_removed = isinstance(error.__context__, (FileNotFoundError, FileExistsError))
                if not is_removed or attempt == _MAX_ATTEMPTS:
                    raise

    def _make(self) -> None:
        make_folder(self.root)
        make_folder(os.path.dirname(self.path))
        make_private_folder(self.path)
        if self.sockets != self.path:
            self._make_sockets()

    def tidy(self) -> None:
        """Remove the folder if a run that failed or was killed has left at most the lock in it."""
        try:
            names = set(os.listdir(self.path))
            if not names or "lock" in names and names <= {"lock", _SOCKETS_RECORD}:
                if self.sockets != self.path:
                    shutil.rmtree(self.sockets, ignore_errors=True)
                for name in names:
                    os.unlink(self.file(name))
                os.rmdir(self.path)
                self.remove_empty_lab()
        except OSError:
            pass  # it does not exist, or the lab has other VMs

    def remove_empty_lab(self) -> None:
        """Remove the folder of the lab. Raises OSError if the lab has VMs."""
        remove_empty_lab(os.path.dirname(self.path))

    @contextlib.contextmanager
    def locked(self, create: bool, timeout: float = 300, is_check: bool = False) -> Iterator[None]:
        """Hold the VM's lock during the block.

        Without create, a missing folder is not created, and a folder of kept disks gets no lock.
        is_check: check mode, which also works on a read-only file system.
        """
        is_vm = self.exists() or os.path.exists(self.run)
        with file_lock(
            self.lock,
            timeout,
            remake=self.make if create else None,
            create=create or is_vm,
            is_check=is_check,
        ) as is_held:
            self.lacks_lock = not is_held
            yield


def remove_folder(folder: Folder, keep: Collection[str]) -> None:
    """Remove a VM's folder except the files in keep; then the folder of the lab if it is empty.

    The definition and the lock go last: until then the next run sees that there is something to
    remove. Without the lock, there is no VM, and only an empty folder is removed.
    """
    if folder.lacks_lock:
        with contextlib.suppress(OSError):
            os.rmdir(folder.path)
            folder.remove_empty_lab()
        return
    try:
        if folder.sockets != folder.path:
            shutil.rmtree(folder.sockets, ignore_errors=True)
        last = (folder.definition, folder.receiving, folder.lock)
        for entry in os.scandir(folder.path) if os.path.isdir(folder.path) else ():
            if entry.path in keep or entry.path in last:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        for path in last:
            remove_file(path)
        with contextlib.suppress(OSError):
            os.rmdir(folder.path)
            folder.remove_empty_lab()
    except OSError as error:
        raise HostError(
            "cannot remove %s: %s" % (error.filename, error.strerror), path=error.filename
        )


def remove_empty_lab(path: str) -> None:
    """Remove the folder of a lab. Raises OSError if the lab has VMs."""
    names = os.listdir(path)
    if set(names) <= _FILES_OF_LAB:
        for name in names:
            os.unlink(os.path.join(path, name))
    os.rmdir(path)
