# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._lab import converge as labs
from ansible_collections.vlab.qemu.plugins.module_utils._vm import container, converge
from ansible_collections.vlab.qemu.plugins.module_utils._vm import definition as definitions
from ansible_collections.vlab.qemu.tests.unit.vm_world import FakeHost, compose

MACHINE, OWN = 0xEFFFFFFC, 4026532300
SYSTEMD = "/run/systemd/system"
IN_KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.mark.parametrize(
    "inode, files, environ, mark",
    [
        (MACHINE, [], {}, None),
        # A machine whose disk was made from a container's image; the node of a cluster.
        (MACHINE, ["/.dockerenv"], {}, None),
        (MACHINE, ["/run/.containerenv", SYSTEMD], {}, None),
        (MACHINE, [], IN_KUBERNETES, None),
        (OWN, ["/run/.containerenv"], {}, "Podman or CRI-O (/run/.containerenv)"),
        (OWN, ["/.dockerenv"], {}, "Docker (/.dockerenv)"),
        (
            OWN,
            ["/var/run/secrets/kubernetes.io/serviceaccount"],
            {},
            "Kubernetes (/var/run/secrets/kubernetes.io/serviceaccount)",
        ),
        (OWN, [], IN_KUBERNETES, "Kubernetes (KUBERNETES_SERVICE_HOST)"),
        (OWN, [], {"KUBERNETES_SERVICE_HOST": ""}, None),
        # Where /proc shows nothing, as in gVisor.
        (None, ["/.dockerenv"], {}, "Docker (/.dockerenv)"),
        (None, [], {}, None),
        # LXC and nspawn, and a container that boots as a machine does; a sandbox that only has
        # its own processes.
        (OWN, [SYSTEMD], {}, None),
        (OWN, ["/run/.containerenv", SYSTEMD], {}, None),
        (OWN, [], {"container": "lxc"}, None),
        (OWN, [], {}, None),
    ],
)
def test_what_is_an_application_container(inode, files, environ, mark):
    assert (
        container.application_container(lambda path: inode, files.__contains__, environ.get) == mark
    )


def test_a_machine_is_known_at_the_first_look():
    looked = []
    container.application_container(lambda path: looked.append(path) or MACHINE, looked.append)
    assert looked == ["/proc/self/ns/pid"]


@pytest.fixture(name="in_a_container")
def _in_a_container(monkeypatch):
    monkeypatch.setattr(container, "_current_container", lambda: "Docker (/.dockerenv)")


def vm(root, **options):
    given = dict(
        {
            "name": "r1",
            "lab": "lab1",
            "root": str(root),
            "state": "started",
            "allow_restart": False,
            "arch": "nonsense",
        },
        **options,
    )
    return converge.converge_vm(given, True)


@pytest.mark.parametrize("state", ["started", "paused", "restarted"])
def test_a_vm_is_not_started_in_a_container(in_a_container, tmp_path, state):
    host = FakeHost(root=tmp_path)
    host.folder.make()
    definitions.save(host.folder, compose({"disks": []}, host=host))
    with pytest.raises(HostError) as caught:
        vm(tmp_path, state=state, allow_container=False)
    assert "Docker (/.dockerenv)" in caught.value.message
    assert "over SSH" in caught.value.message and "allow_container: true" in caught.value.message
    assert caught.value.facts == {"container": "Docker (/.dockerenv)"}


@pytest.mark.parametrize(
    "options",
    [
        {"state": "started", "allow_container": True},
        {"state": "present", "allow_container": False},
        {"state": "stopped", "allow_container": False},
    ],
)
def test_what_is_asked_for_or_starts_nothing_goes_on(in_a_container, tmp_path, options):
    """As far as the wrong architecture, which is looked at next."""
    with pytest.raises(OptionError, match="nonsense"):
        vm(tmp_path, **options)


def test_a_vm_that_is_not_there_can_go(in_a_container, tmp_path):
    assert vm(tmp_path, state="absent", allow_container=False)["changed"] is False


def lab(root, state, allowed, lab_state="started"):
    node = {"name": "r1", "state": state, "options": {"arch": "nonsense", "nics": []}}
    return labs.converge_lab(
        {
            "lab": "lab1",
            "root": str(root),
            "vms": [node],
            "segments": [],
            "state": lab_state,
            "purge": False,
            "allow_restart": False,
            "allow_container": allowed,
            "wait_ready": False,
        },
        True,
    )


def test_a_lab_is_not_started_in_a_container(in_a_container, tmp_path):
    with pytest.raises(HostError, match="allow_container: true"):
        lab(tmp_path, "started", False)


@pytest.mark.parametrize("state, allowed", [("started", True), ("present", False)])
def test_a_lab_that_is_asked_for_or_starts_nothing_goes_on(
    in_a_container, tmp_path, state, allowed
):
    with pytest.raises(labs.VlabError, match="nonsense"):
        lab(tmp_path, state, allowed)


def test_a_lab_that_is_not_there_can_go(in_a_container, tmp_path):
    assert lab(tmp_path, "absent", False, "absent")["changed"] is False
