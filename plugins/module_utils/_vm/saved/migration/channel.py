# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""How the QEMU of a VM reaches the one that continues it.

On one host through UNIX sockets in the folder of the VM, which only its owner reaches. Between
hosts through TCP, encrypted with a key that is used once (TLS with a pre-shared key).
Source: QEMU, qapi/migration.json, qapi/block-export.json and qapi/crypto.json.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import MonitorError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import (
    make_private_folder,
    write_atomically,
)
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import (
    endpoint,
    object_add,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._qemu.monitor import Monitor
    from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

# The ID of the credentials in QEMU, and their folder in that of the VM.
TLS = "migrate-tls"
_USER = "vlab"


class Channel(NamedTuple):
    """Where the target listens.

    host: its address, None for UNIX sockets. memory, disks: paths of sockets, or ports.
    key: of the encryption, in hexadecimal digits, or None.
    """

    host: Optional[str]
    memory: Union[str, int]
    disks: Union[str, int]
    key: Optional[str] = None

    @property
    def uri(self) -> str:
        """The address for the memory, for migrate and migrate-incoming."""
        if self.host is None:
            return "unix:%s" % self.memory
        return "tcp:" + endpoint(self.host, int(self.memory))

    @property
    def disk_server(self) -> dict[str, Any]:
        """The address for the disks, for blockdev-add."""
        if self.host is None:
            return {"type": "unix", "path": self.disks}
        return {"type": "inet", "host": self.host, "port": str(self.disks)}

    @property
    def disk_listener(self) -> dict[str, Any]:
        """The address for the disks, for nbd-server-start."""
        data = {name: value for name, value in self.disk_server.items() if name != "type"}
        return {"type": self.disk_server["type"], "data": data}

    @property
    def tls(self) -> dict[str, str]:
        """The credentials, for the commands that take them."""
        return {"tls-creds": TLS} if self.key else {}


def add_key(monitor: Monitor, folder: Folder, key: str, is_target: bool, flat: bool) -> None:
    """Give QEMU the key. flat: how object-add takes properties. Raises MonitorError."""
    path = folder.file(TLS)
    make_private_folder(path)
    write_atomically(os.path.join(path, "keys.psk"), "%s:%s\n" % (_USER, key))
    credentials = {
        "qom-type": "tls-creds-psk",
        "id": TLS,
        "endpoint": "server" if is_target else "client",
        "dir": path,
        "username": _USER,
    }
    if is_target:
        del credentials["username"]  # it is for clients
    monitor.batch([("object-del", {"id": TLS})])  # of a killed run
    try:
        monitor.execute("object-add", object_add(credentials, flat))
    except MonitorError as error:
        error.message += (
            ". This QEMU may be built without TLS: set encrypt: false if the network between the"
            " hypervisors is trusted"
        )
        raise
    finally:
        if not is_target:  # which reads it again for each connection
            shutil.rmtree(path, ignore_errors=True)


def remove_key(monitor: Monitor, folder: Folder) -> None:
    """Remove the key from QEMU and from the disk, and its use from QEMU's parameters."""
    shutil.rmtree(folder.file(TLS), ignore_errors=True)
    monitor.batch(
        [("migrate-set-parameters", {"tls-creds": ""}), ("object-del", {"id": TLS})],
    )
