# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Copy images between hypervisors: directly from host to host, else through the controller."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.image_plan import CONTROLLER, Copy

CHUNK = 8 << 20  # bytes in one request
_FETCHED_PART = 128 << 20  # bytes that a host fetches in one request
_LOCAL = ("local", "ansible.builtin.local")
_SSH = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
_SHOWN_STEP = 10  # percent between two lines of progress
AUTO, DIRECT, THROUGH_CONTROLLER = "auto", "direct", "controller"
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Requests(Protocol):
    """Requests to a hypervisor, as Hypervisor sends them."""

    def request(
        self, name: str, data: bytes = b"", **parameters: Any
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Have the service handle a request."""


class Image(NamedTuple):
    """An image and where it is. paths: {host: path}. checksum: of its content."""

    copy: Copy
    paths: Mapping[str, str]
    checksum: str


class Target:
    """A host that gets an image. copied: the bytes that it has. show: displays a line."""

    def __init__(
        self, name: str, image: Image, requests: Requests, copied: int, show: Callable[[str], None]
    ) -> None:
        self.name, self.image, self.copied = name, image, copied
        self._requests, self._show = requests, show
        self._shown = copied * 100 // max(image.copy.size, 1)

    @property
    def is_complete(self) -> bool:
        """Whether it has all bytes."""
        return self.copied >= self.image.copy.size

    def ask(self, name: str, data: bytes = b"", **parameters: Any) -> dict[str, Any]:
        """Send a request about the image; return its result."""
        path = self.image.paths[self.name]
        checksum = self.image.checksum
        result, _pieces = self._requests.request(
            name, data, path=path, checksum=checksum, **parameters
        )
        return result

    def grow(self, name: str, data: bytes = b"", **parameters: Any) -> None:
        """Append to the copy with a request. Raises AnsibleError if nothing is appended."""
        before = self.copied
        self.copied = self.ask(name, data, offset=before, **parameters)["size"]
        if self.copied <= before:
            raise AnsibleError(
                "%s: the copy of %s does not grow" % (self.name, self.image[0].image)
            )
        percent = self.copied * 100 // self.image.copy.size
        if percent - self._shown >= _SHOWN_STEP and not self.is_complete:
            self._shown = percent
            sizes = self.copied >> 20, self.image.copy.size >> 20
            self._show(
                "%s: %s: %d %% (%d of %d MiB)" % (self.name, self.image.copy.image, percent, *sizes)
            )

    def finish(self, source: str) -> None:
        """Check the content, and give the copy its name."""
        self.ask("finish")
        self._show(
            "%s: %s: %d MiB from %s"
            % (self.name, self.image.copy.image, self.image.copy.size >> 20, source)
        )


class Copier:
    """Copies an image to its targets. transfer: AUTO, DIRECT or THROUGH_CONTROLLER.

    requests, variables: {host: its requests, its connection variables}. transfers: how each target
    got the image: {host: DIRECT or THROUGH_CONTROLLER}.
    """

    def __init__(
        self,
        image: Image,
        targets: Iterable[Target],
        requests: Mapping[str, Requests],
        variables: Mapping[str, Mapping[str, Any]],
        transfer: str,
    ) -> None:
        self.image, self.targets = image, list(targets)
        self._requests, self._variables, self._transfer = requests, variables, transfer
        self.transfers: dict[str, str] = {}

    def run(self) -> None:
        """Copy the image. Raises AnsibleError."""
        source = self.image.copy.source
        waiting = self.targets
        if source != CONTROLLER and self._transfer != THROUGH_CONTROLLER:
            waiting = self._copy_directly(source)
        self._copy_through_controller(waiting)

    def _copy_directly(self, source: str) -> list[Target]:
        """Copy from host to host: each that has the image serves one other at a time.

        Return the targets that could not fetch it.
        """
        owners, waiting, failed = [source], list(self.targets), []
        while waiting:
            pairs = list(zip(owners, waiting))
            del waiting[: len(pairs)]
            for (_owner, target), is_done in zip(pairs, in_parallel(self._fetch, pairs)):
                if is_done:
                    owners.append(target.name)
                else:
                    failed.append(target)
        return failed

    def _fetch(self, pair: tuple[str, Target]) -> bool:
        """Have a host fetch the image from another one; return whether that was possible."""
        owner, target = pair
        try:
            while not target.is_complete:
                argv = self._command(owner, target)
                if argv is None:
                    return False
                target.grow("fetch", argv=argv)
        except AnsibleError as error:
            if self._transfer == DIRECT:
                raise AnsibleError(
                    "%s cannot fetch %s from %s, transfer=direct: %s"
                    % (target.name, self.image.copy.image, owner, error)
                )
            target.copied = target.ask("partial_size")["size"]
            return False
        target.finish(owner)
        self.transfers[target.name] = DIRECT
        return True

    def _command(self, owner: str, target: Target) -> list[str] | None:
        """Return the command with which the target fetches the next part; None without SSH."""
        argv = ssh_command(self._variables[owner])
        if argv is None or self._variables[target.name].get("ansible_connection") in _LOCAL:
            return None
        path = shlex.quote(self.image.paths[owner])
        script = "tail -c +%d -- %s | head -c %d" % (target.copied + 1, path, _FETCHED_PART)
        sudo = (
            "sudo -n "
            if boolean(self._variables[owner].get("ansible_become") or False, strict=False)
            else ""
        )
        return [*argv, "%ssh -c %s" % (sudo, shlex.quote(script))]

    def _copy_through_controller(self, targets: list[Target]) -> None:
        """Read each part once, and write it to all targets at the same time."""
        while True:
            growing = [target for target in targets if not target.is_complete]
            if not growing:
                break
            offset = min(target.copied for target in growing)
            data = self._read(offset)
            behind = [target for target in growing if target.copied < offset + len(data)]
            in_parallel(lambda target: target.grow("write", data[target.copied - offset :]), behind)
        names = in_parallel(self._finish, targets)
        self.transfers.update(dict.fromkeys(names, THROUGH_CONTROLLER))

    def _finish(self, target: Target) -> str:
        target.finish(self.image.copy.source or "the controller")
        return target.name

    def _read(self, offset: int) -> bytes:
        source = self.image.copy.source
        path = self.image.paths[source]
        if source == CONTROLLER:
            with open(path, "rb") as stream:
                stream.seek(offset)
                data = stream.read(CHUNK)
        else:
            _result, (data,) = self._requests[source].request(
                "read", path=path, offset=offset, size=CHUNK
            )
        if not data:
            raise AnsibleError("%s became shorter while it was copied" % path)
        return data


def ssh_command(variables: Mapping[str, Any]) -> list[str] | None:
    """Return the command for SSH from another host to this one; None if it is not for SSH."""
    if (variables.get("ansible_connection") or "ssh") not in (
        "ssh",
        "smart",
        "ansible.builtin.ssh",
    ):
        return None
    words = list(_SSH)
    for option, names in (("-p", ("ansible_port",)), ("-l", ("ansible_user", "ansible_ssh_user"))):
        value = next((variables[name] for name in names if variables.get(name)), None)
        if value is not None:
            words += [option, str(value)]
    name = variables.get("vlab_address") or variables.get("ansible_host")
    return [*words, str(name or variables["inventory_hostname"])]


def in_parallel(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Return the results of a function for all items, which wait for hosts.

    It is called for all of them before the first error is raised.
    """
    items = list(items)
    with ThreadPoolExecutor(max(1, len(items))) as pool:
        calls = [pool.submit(function, item) for item in items]
    return [call.result() for call in calls]
