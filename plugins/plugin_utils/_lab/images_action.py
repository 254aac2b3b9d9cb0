# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The action of qemu_lab_images: it copies images to the hypervisors that need them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible_collections.vlab.qemu.plugins.module_utils._lab.images_arguments import ARGUMENTS
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.controller_action import (
    ControllerAction,
    LabHost,
    Params,
    Result,
    hosts_of,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.image_copies import (
    Copier,
    Image,
    Target,
    in_parallel,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.image_plan import (
    CONTROLLER,
    Copy,
    Found,
    check_space,
    needed_images,
    plan_copies,
    same_images,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.used_record import queried_facts
from ansible_collections.vlab.qemu.plugins.plugin_utils._remote.hypervisor import Hypervisor
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import images, placement
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology.problems import Problems

_SERVICE = "_lab.image_service"


class ImageHost(NamedTuple):
    """A hypervisor and the requests to it."""

    lab_host: LabHost
    requests: Hypervisor


class ImagesAction(ControllerAction):
    """One run of qemu_lab_images."""

    arguments = ARGUMENTS

    def work(self, params: Params, task_vars: Mapping[str, Any]) -> Result:
        """Copy the images; return the result of the task."""
        with contextlib.ExitStack() as stack:
            hosts = {}
            for name, lab_host in hosts_of(params, task_vars).items():
                hypervisor = Hypervisor(name, lab_host.variables, _SERVICE)
                stack.callback(hypervisor.close)
                hosts[name] = ImageHost(lab_host, hypervisor)
            return self._run(params, hosts, task_vars)

    def _run(
        self, params: Params, hosts: Mapping[str, ImageHost], task_vars: Mapping[str, Any]
    ) -> Result:
        needed = self._needed(params, hosts, task_vars)
        found = _find(params, hosts, sorted(needed))
        copies = plan_copies(needed, found)
        checksums = _checksums(hosts, found, same_images(needed, found), copies)
        listed = [
            Image(copy, {host: found[host][copy.image].path for host in found}, checksum)
            for copy, checksum in ((copy, checksums[copy.image]) for copy in copies)
        ]
        targets = {image.copy.image: self._targets(hosts, image) for image in listed}
        partial = {
            (target.name, image): target.copied
            for image, hosts_of_image in targets.items()
            for target in hosts_of_image
        }
        check_space(copies, found, partial)
        transfers: dict[tuple[str, str], str] = {}
        if not self._task.check_mode:
            requests = {name: host.requests for name, host in hosts.items()}
            variables = {name: host.lab_host.variables for name, host in hosts.items()}
            for image in listed:
                self.changed = True
                copier = Copier(
                    image, targets[image.copy.image], requests, variables, params["transfer"]
                )
                copier.run()
                for host, transfer in copier.transfers.items():
                    transfers[host, image.copy.image] = transfer
        return _result(listed, partial, transfers)

    def _needed(
        self, params: Params, hosts: Mapping[str, ImageHost], task_vars: Mapping[str, Any]
    ) -> dict[str, list[str]]:
        topology = self.topology(params)
        problems = Problems()
        images.apply_images(topology, params["images"], problems)
        problems.check()
        facts = queried_facts(task_vars.get("hostvars", {}), list(hosts), "lab_info", topology.name)
        placed = placement.place(topology, list(hosts), facts)
        return needed_images(topology, placed)

    def _targets(self, hosts: Mapping[str, ImageHost], image: Image) -> list[Target]:
        """Return the hosts that get an image, with what earlier runs have copied."""

        def target(name: str) -> Target:
            one = Target(name, image, hosts[name].requests, 0, _show)
            copied = one.ask("partial_size")["size"]
            return Target(name, image, hosts[name].requests, copied, _show)

        return in_parallel(target, image.copy.targets)


def _show(line: str) -> None:
    Display().display("  " + line)


def _find(
    params: Params, hosts: Mapping[str, ImageHost], names: Sequence[str]
) -> dict[str, dict[str, Found]]:
    """Return what the hypervisors and the folder on the controller have of the images."""

    def find(host: ImageHost) -> dict[str, Found]:
        result, _pieces = host.requests.request(
            "find",
            root=host.lab_host.root,
            image_dir=host.lab_host.image_dir,
            images=list(names),
        )
        return {name: Found(**entry) for name, entry in result["images"].items()}

    found = dict(zip(hosts, in_parallel(find, hosts.values())))
    found[CONTROLLER] = {}
    if params["source"]:
        folder = os.path.expanduser(params["source"])
        if not os.path.isdir(folder):
            raise AnsibleActionFail("source: %s is no folder on the controller" % folder)
        for name in names:
            path = os.path.join(folder, os.path.basename(name))
            size = os.path.getsize(path) if os.path.isfile(path) else None
            found[CONTROLLER][name] = Found(path, size)
    else:
        found[CONTROLLER] = {name: Found("", None) for name in names}
    return found


def _checksums(
    hosts: Mapping[str, ImageHost],
    found: Mapping[str, Mapping[str, Found]],
    same: Mapping[str, Sequence[str]],
    copies: Sequence[Copy],
) -> dict[str, str]:
    """Return the checksums of images. Raises AnsibleActionFail if hosts have different ones.

    same: the images that several hosts have.
    """
    owners = {image: set(names) for image, names in same.items()}
    for copy in copies:
        owners.setdefault(copy.image, set()).add(copy.source)
    pairs = [(image, host) for image, names in owners.items() for host in sorted(names)]

    def checksum(pair: tuple[str, str]) -> str:
        image, host = pair
        path = found[host][image].path
        if host == CONTROLLER:
            with open(path, "rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        result, _pieces = hosts[host].requests.request("checksum", path=path)
        return str(result["checksum"])

    sums: dict[str, dict[str, str]] = {}
    for (image, host), text in zip(pairs, in_parallel(checksum, pairs)):
        sums.setdefault(image, {})[host] = text
    for image, contents in sums.items():
        _check_same(image, contents, found)
    return {copy.image: sums[copy.image][copy.source] for copy in copies}


def _check_same(
    image: str, contents: Mapping[str, str], found: Mapping[str, Mapping[str, Found]]
) -> None:
    """Check that an image is the same on all hosts: another one is never replaced."""
    if len(set(contents.values())) > 1:
        raise AnsibleActionFail(
            "images: %s is not the same everywhere, and an image that VMs may use is never "
            "replaced: remove or rename those that are wrong: %s"
            % (
                image,
                ", ".join(
                    "%s on %s (%d bytes, %s)"
                    % (
                        found[host][image].path,
                        host or "the controller",
                        found[host][image].size or 0,
                        text[:12],
                    )
                    for host, text in contents.items()
                ),
            )
        )


def _result(
    listed: Sequence[Image],
    partial: Mapping[tuple[str, str], int],
    transfers: Mapping[tuple[str, str], str],
) -> Result:
    copies: list[dict[str, Any]] = [
        {
            "image": image.copy.image,
            "host": host,
            "path": image.paths[host],
            "source": image.copy.source or None,
            "size": image.copy.size,
            "bytes": image.copy.size - partial[host, image.copy.image],
            "checksum": "sha256:" + image.checksum,
            "transfer": transfers.get((host, image.copy.image)),
        }
        for image in listed
        for host in image.copy.targets
    ]
    return {
        "changed": bool(copies),
        "copies": copies,
        "bytes": sum(copy["bytes"] for copy in copies),
    }
