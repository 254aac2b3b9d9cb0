# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
import threading

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_json
from ansible_collections.vlab.qemu.plugins.module_utils._vm import ports
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

HERE = "127.0.0.1"


@pytest.fixture(name="vm")
def fixture_vm(tmp_path):
    return lambda name, lab="l": Folder(str(tmp_path), lab, name)


def request(key, port="auto", protocol="tcp", option="o"):
    return ports.PortRequest(key, protocol, HERE, port, option)


@pytest.mark.parametrize(
    "value, expected",
    [
        ("auto", "auto"),
        ("1", 1),
        (65535, 65535),
        ("08080", 8080),
        ("0", None),
        ("65536", None),
        ("-1", None),
        ("", None),
        ("1,x", None),
        ("²", None),
        ("٣", None),
        ("9" * 5000, None),
        (1 << 70, None),
        (" 1", None),
        ("1\n", None),
        (None, None),
        (True, None),
    ],
)
def test_port_numbers(value, expected):
    if expected is None:
        with pytest.raises(OptionError, match="^o: "):
            ports.port_number("o", value)
    else:
        assert ports.port_number("o", value) == expected


def test_a_port_stays_with_its_vm(vm):
    one = ports.claim(vm("a"), [request("x"), request("y", protocol="udp")])
    assert 20000 <= one["x"] < 26000 <= one["y"] < 32000
    other = ports.claim(vm("b"), [request("x"), request("y", protocol="udp")])
    assert not set(one.values()) & set(other.values())
    assert ports.claim(vm("a"), [request("y", protocol="udp"), request("x")]) == one, (
        "whatever the order"
    )
    more = ports.claim(vm("a"), [request("z"), request("x"), request("y", protocol="udp")])
    assert {key: more[key] for key in one} == one and more["z"] not in set(one.values()) | set(
        other.values()
    )


def test_a_port_that_is_not_requested_any_more_is_released(vm):
    first = ports.claim(vm("a"), [request("x")])
    assert ports.claim(vm("a"), []) == {}
    assert ports.claim(vm("b"), [request("x")]) == first
    ports.release(vm("b"))
    assert ports.claim(vm("c"), [request("other")]) == {"other": first["x"]}


def test_the_holder_is_named(vm):
    ports.claim(vm("a"), [request("console/x", 20999)])
    with pytest.raises(
        OptionError, match=r"^b's: port tcp/20999 is taken by the VM l/a \(console/x\)"
    ):
        ports.claim(vm("b"), [request("x", 20999, option="b's")])
    assert ports.claim(vm("b"), [request("x", 20999, protocol="udp")]) == {"x": 20999}, (
        "UDP has ports of its own"
    )
    with pytest.raises(OptionError, match="l/a"):
        ports.claim(vm("a"), [request("console/x", 20999), request("display", 20999)])
    assert ports.claim(vm("a"), [request("display", 20999)]) == {"display": 20999}, (
        "within a VM a port changes hands"
    )


def test_a_refusal_changes_nothing(vm, tmp_path):
    ports.claim(vm("a"), [request("x", 20999)])
    before = read_json(str(tmp_path / ".host" / "ports.json"))
    with pytest.raises(OptionError):
        ports.claim(vm("b"), [request("x"), request("y", 20999)])
    assert read_json(str(tmp_path / ".host" / "ports.json")) == before


def test_a_process_that_listens_is_named(vm):
    with socket.socket() as taken:
        taken.bind((HERE, 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(OptionError, match=r"taken by process %d \(" % os.getpid()):
            ports.claim(vm("a"), [request("x", port)])
        with pytest.raises(
            HostError,
            match=r"^o: port tcp/%d on 127.0.0.1 is taken by process %d" % (port, os.getpid()),
        ):
            ports.check_free(
                {"lab": "default", "name": "a", "ports": {"x": port}}, [request("x", port)]
            )
    assert ports.claim(vm("a"), [request("x", port)]) == {"x": port}
    ports.check_free({"lab": "default", "name": "a", "ports": {"x": port}}, [request("x", port)])


def test_auto_steps_over_what_is_taken(vm, monkeypatch):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HERE, 0))
        port = taken.getsockname()[1]
        monkeypatch.setitem(ports._RANGES, "udp", range(port, port + 100))
        assert port < ports.claim(vm("b"), [request("x", protocol="udp")])["x"] < port + 100


def test_a_display_has_a_vnc_port(vm):
    assert ports.claim(vm("a"), [request("display")])["display"] in range(5900, 6900)


def test_both_ends_of_a_cable(vm):
    """Both VMs know both ports in any order; the ports outlive one end; another lab has its own."""
    ends = [request("/l/a/e", protocol="udp"), request("/l/b/e", protocol="udp")]
    one = ports.claim(vm("a"), ends)
    assert len(set(one.values())) == 2
    assert ports.claim(vm("b"), ends[::-1]) == one
    ports.claim(vm("b"), [])
    assert ports.claim(vm("a"), ends) == one
    others = ports.claim(
        vm("a", "m"), [request("/m/a/e", protocol="udp"), request("/m/b/e", protocol="udp")]
    )
    assert not set(others.values()) & set(one.values())


def test_two_at_once(vm):
    """Threads of one process and runs of two: no port is given twice."""
    made, begin = {}, threading.Barrier(4)

    def work(name):
        begin.wait()
        for count in range(1, 6):
            made[name] = ports.claim(vm(name), [request("w%d" % n) for n in range(count)])

    threads = [threading.Thread(target=work, args=("vm%d" % n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given = [port for claimed in made.values() for port in claimed.values()]
    assert len(given) == len(set(given)) == 20


def test_none_is_left(vm, monkeypatch):
    monkeypatch.setitem(ports._RANGES, "tcp", range(20000, 20002))
    with pytest.raises(HostError, match="no free tcp port"):
        ports.claim(vm("a"), [request("x"), request("y"), request("z")])


def test_nothing_to_release(vm, tmp_path):
    ports.release(vm("a"))
    assert os.listdir(tmp_path) == []
    assert ports.who_has("tcp", 1) == "another process"
