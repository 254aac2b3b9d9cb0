# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
import threading

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_json
from ansible_collections.vlab.qemu.plugins.module_utils._vm import ports as room
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

HERE = "127.0.0.1"


@pytest.fixture(name="vm")
def fixture_vm(tmp_path):
    return lambda name, lab="l": Folder(str(tmp_path), lab, name)


def wish(key, port="auto", protocol="tcp", option="o"):
    return room.PortRequest(key, protocol, HERE, port, option)


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
            room.port_number("o", value)
    else:
        assert room.port_number("o", value) == expected


def test_a_port_stays_with_its_vm(vm):
    one = room.claim(vm("a"), [wish("x"), wish("y", protocol="udp")])
    assert 20000 <= one["x"] < 26000 <= one["y"] < 32000
    other = room.claim(vm("b"), [wish("x"), wish("y", protocol="udp")])
    assert not set(one.values()) & set(other.values())
    assert room.claim(vm("a"), [wish("y", protocol="udp"), wish("x")]) == one, "whatever the order"
    more = room.claim(vm("a"), [wish("z"), wish("x"), wish("y", protocol="udp")])
    assert {key: more[key] for key in one} == one and more["z"] not in set(one.values()) | set(
        other.values()
    )


def test_what_is_not_wished_any_more_is_given_back(vm):
    first = room.claim(vm("a"), [wish("x")])
    assert room.claim(vm("a"), []) == {}
    assert room.claim(vm("b"), [wish("x")]) == first
    room.release(vm("b"))
    assert room.claim(vm("c"), [wish("other")]) == {"other": first["x"]}


def test_the_holder_is_named(vm):
    room.claim(vm("a"), [wish("console/x", 20999)])
    with pytest.raises(
        OptionError, match=r"^b's: port tcp/20999 is taken by the VM l/a \(console/x\)"
    ):
        room.claim(vm("b"), [wish("x", 20999, option="b's")])
    assert room.claim(vm("b"), [wish("x", 20999, protocol="udp")]) == {"x": 20999}, (
        "UDP has ports of its own"
    )
    with pytest.raises(OptionError, match="l/a"):
        room.claim(vm("a"), [wish("console/x", 20999), wish("display", 20999)])
    assert room.claim(vm("a"), [wish("display", 20999)]) == {"display": 20999}, (
        "within a VM a port changes hands"
    )


def test_a_refusal_changes_nothing(vm, tmp_path):
    room.claim(vm("a"), [wish("x", 20999)])
    before = read_json(str(tmp_path / ".host" / "ports.json"))
    with pytest.raises(OptionError):
        room.claim(vm("b"), [wish("x"), wish("y", 20999)])
    assert read_json(str(tmp_path / ".host" / "ports.json")) == before


def test_a_process_that_listens_is_named(vm):
    with socket.socket() as taken:
        taken.bind((HERE, 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(OptionError, match=r"taken by process %d \(" % os.getpid()):
            room.claim(vm("a"), [wish("x", port)])
        with pytest.raises(
            HostError,
            match=r"^o: port tcp/%d on 127.0.0.1 is taken by process %d" % (port, os.getpid()),
        ):
            room.check_free(
                {"lab": "default", "name": "a", "ports": {"x": port}}, [wish("x", port)]
            )
    assert room.claim(vm("a"), [wish("x", port)]) == {"x": port}
    room.check_free({"lab": "default", "name": "a", "ports": {"x": port}}, [wish("x", port)])


def test_auto_steps_over_what_is_taken(vm, monkeypatch):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HERE, 0))
        port = taken.getsockname()[1]
        monkeypatch.setitem(room._RANGES, "udp", range(port, port + 100))
        assert port < room.claim(vm("b"), [wish("x", protocol="udp")])["x"] < port + 100


def test_a_display_has_a_vnc_port(vm):
    assert room.claim(vm("a"), [wish("display")])["display"] in range(5900, 6900)


def test_both_ends_of_a_cable(vm):
    """Both VMs know both ports in any order; the ports outlive one end; another lab has its own."""
    ends = [wish("/l/a/e", protocol="udp"), wish("/l/b/e", protocol="udp")]
    one = room.claim(vm("a"), ends)
    assert len(set(one.values())) == 2
    assert room.claim(vm("b"), ends[::-1]) == one
    room.claim(vm("b"), [])
    assert room.claim(vm("a"), ends) == one
    others = room.claim(
        vm("a", "m"), [wish("/m/a/e", protocol="udp"), wish("/m/b/e", protocol="udp")]
    )
    assert not set(others.values()) & set(one.values())


def test_two_at_once(vm):
    """Threads of one process and runs of two: no port is given twice."""
    made, begin = {}, threading.Barrier(4)

    def work(name):
        begin.wait()
        for count in range(1, 6):
            made[name] = room.claim(vm(name), [wish("w%d" % n) for n in range(count)])

    threads = [threading.Thread(target=work, args=("vm%d" % n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given = [port for ports in made.values() for port in ports.values()]
    assert len(given) == len(set(given)) == 20


def test_none_is_left(vm, monkeypatch):
    monkeypatch.setitem(room._RANGES, "tcp", range(20000, 20002))
    with pytest.raises(HostError, match="no free tcp port"):
        room.claim(vm("a"), [wish("x"), wish("y"), wish("z")])


def test_nothing_to_release(vm, tmp_path):
    room.release(vm("a"))
    assert os.listdir(tmp_path) == []
    assert room.who_has("tcp", 1) == "another process"
