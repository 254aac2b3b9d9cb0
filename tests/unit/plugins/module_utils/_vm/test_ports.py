# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.files import read_json, write_json
from ansible_collections.vlab.qemu.plugins.module_utils._vm import port_sockets, ports
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder

HERE = "127.0.0.1"


@pytest.fixture(name="vm")
def fixture_vm(tmp_path):
    def make(name, lab="l"):
        folder = Folder(str(tmp_path), lab, name)
        folder.make()
        with open(folder.lock, "w", encoding="ascii"):
            return folder

    return make


def request(key, port="auto", protocol="tcp", option="o", address=HERE):
    return ports.PortRequest(key, protocol, address, port, option)


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
        OptionError, match=r"^b's: port tcp/20999 on 127.0.0.1 is taken by the VM l/a \(console/x\)"
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


needs_ipv6 = pytest.mark.skipif(
    not port_sockets.is_free("tcp", "::1", 0), reason="this host has no IPv6"
)


@needs_ipv6
@pytest.mark.parametrize(
    "first, second, excludes",
    [
        ("127.0.0.2", "127.0.0.3", False),
        ("127.0.0.2", "127.0.0.2", True),
        ("0.0.0.0", "127.0.0.3", True),
        ("127.0.0.2", "0.0.0.0", True),
        ("127.0.0.2", "::", True),
        ("::1", "::", True),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("::1", "127.0.0.1", False),
        ("::1", "0.0.0.0", False),
        ("localhost", "127.0.0.1", True),
        ("localhost", "127.0.0.2", False),
        ("::ffff:127.0.0.2", "127.0.0.2", True),
    ],
)
def test_a_port_is_that_of_its_address(vm, first, second, excludes):
    one = request("x", 20998, address=first)
    other = request("y", 20998, address=second, option="of y")
    assert ports.claim(vm("a"), [one]) == {"x": 20998}
    if not excludes:
        assert ports.claim(vm("b"), [other]) == {"y": 20998}, "of another VM"
        ports.release(vm("b"))
        ports.check_distinct([one, other])
        assert ports.claim(vm("a"), [one, other]) == {"x": 20998, "y": 20998}, "of the same VM"
        return
    with pytest.raises(OptionError, match="^of y: port tcp/20998 on .* is taken by the VM l/a"):
        ports.claim(vm("b"), [other])
    with pytest.raises(OptionError, match="^of y: port tcp/20998 on .* is also that of o"):
        ports.check_distinct([one, other])
    with pytest.raises(OptionError, match="l/a"):
        ports.claim(vm("a"), [one, other])


def test_auto_ports_are_those_of_their_address(vm, monkeypatch):
    monkeypatch.setitem(ports._RANGES, "tcp", range(20990, 20992))
    requests = [request(address, address=address) for address in ("127.0.0.2", "127.0.0.3")]
    for name in ("a", "b"):
        found = ports.claim(vm(name), requests)
        assert len(set(found.values())) == 1, "one port at two addresses"
    with pytest.raises(HostError, match="no free tcp port"):
        ports.claim(vm("c"), [request("x", address="0.0.0.0")])
    assert ports.claim(vm("c"), [request("x", address="127.0.0.4")])["x"] in (20990, 20991)


@needs_ipv6
def test_an_auto_port_keeps_its_number_at_another_address(vm):
    held = ports.claim(vm("a"), [request("x")])
    moved = [request("x", address="127.0.0.2")]
    assert not ports.are_registered(vm("a"), moved, held), "a change of the address claims it"
    assert ports.claim(vm("a"), moved) == held
    assert list(registry_of(vm("a"))) == ["tcp/127.0.0.2/%d" % held["x"]]
    with socket.socket() as own:
        own.bind(("127.0.0.2", held["x"]))
        own.listen(1)
        assert ports.claim(vm("a"), [request("x", address="0.0.0.0")]) == held, (
            "the VM itself listens there"
        )
    ports.claim(vm("b"), [request("y", held["x"], address="::1")])
    assert ports.claim(vm("a"), [request("x", address="::1")]) != held, "another VM has it there"


def test_an_earlier_registry_is_understood(vm, tmp_path):
    ports.claim(vm("a"), [request("x", 20997)])
    entry = {"vms": ["l/a"], "key": "x", "address": "127.0.0.2"}
    write_json(str(tmp_path / ".host" / "ports.json"), {"tcp/20997": entry})
    assert ports.claim(vm("b"), [request("y", 20997)]) == {"y": 20997}
    assert sorted(registry_of(vm("a"))) == ["tcp/127.0.0.1/20997", "tcp/127.0.0.2/20997"]


def test_why_a_port_cannot_be_bound(vm, monkeypatch):
    away = "192.0.2.77"
    with pytest.raises(OptionError, match="port tcp/81 on %s is not possible: this host" % away):
        ports.claim(vm("a"), [request("x", 81, address=away)])
    with pytest.raises(HostError, match="cannot listen on %s: it is not possible" % away):
        ports.claim(vm("a"), [request("x", address=away)])
    with pytest.raises(HostError, match="^o: port tcp/81 on %s is not possible: this host" % away):
        with ports.ports_for_start(vm("a"), [], {}, [request("x", 81, address=away)]):
            pass
    denied = OSError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(ports, "bind_error", lambda *_where: denied)
    with pytest.raises(OptionError, match=r"is privileged: only root .*: choose another, or auto"):
        ports.claim(vm("a"), [request("x", 81)])


@needs_ipv6
def test_the_process_at_the_address_is_named():
    with socket.socket() as here, socket.socket() as there:
        here.bind(("127.0.0.2", 0))
        port = here.getsockname()[1]
        there.bind(("127.0.0.3", port))
        there.listen(1)
        who = "process %d (" % os.getpid()
        assert port_sockets.who_has("tcp", port, "127.0.0.3").startswith(who)
        assert port_sockets.who_has("tcp", port, "0.0.0.0").startswith(who)
        assert port_sockets.who_has("tcp", port, "127.0.0.2") == "another process"
    with socket.socket(socket.AF_INET6) as here:
        here.bind(("::1", 0))
        here.listen(1)
        port = here.getsockname()[1]
        assert port_sockets.who_has("tcp", port, "::1").startswith(who)
        assert port_sockets.who_has("tcp", port, "127.0.0.1") == "another process"


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
            with ports.ports_for_start(vm("a"), [request("x", port)], {"x": port}):
                pass
    assert ports.claim(vm("a"), [request("x", port)]) == {"x": port}
    with ports.ports_for_start(vm("a"), [request("x", port)], {"x": port}) as allocated:
        assert allocated == {"x": port}


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


def registry_of(folder):
    return read_json(os.path.join(folder.host, "ports.json"))


def test_ports_that_the_registry_has_lost_are_registered_again(vm):
    """With auto ports as with given ones, whether they are free or the VM has them in use."""
    requests = [request("x"), request("y", 20999), *cable("a", "b")]
    held = ports.claim(vm("a"), requests)
    before = registry_of(vm("a"))
    os.unlink(os.path.join(vm("a").host, "ports.json"))
    with socket.socket() as own:
        own.bind((HERE, held["x"]))
        ports.restore(vm("a"), requests, held)
    assert registry_of(vm("a")) == before
    ports.restore(vm("a"), requests, held)
    assert registry_of(vm("a")) == before
    ports.restore(vm("b"), cable("b", "a"), {key: held[key] for key in held if key[0] == "/"})
    assert ports.claim(vm("b"), cable("b", "a")) == {
        key: held[key] for key in held if key[0] == "/"
    }
    with pytest.raises(OptionError, match="taken by the VM l/a"):
        ports.claim(vm("c"), [request("z", 20999)])


def test_two_vms_with_one_port_do_not_block_each_other(vm):
    """The registry was lost, and another VM has got the port meanwhile."""
    held = ports.claim(vm("a"), [request("x")])
    os.unlink(os.path.join(vm("a").host, "ports.json"))
    assert ports.claim(vm("b"), [request("x")]) == held
    ports.restore(vm("a"), [request("x")], held)
    assert registry_of(vm("b"))["tcp/127.0.0.1/%d" % held["x"]]["vms"] == ["l/b"]
    with ports.ports_for_start(vm("a"), [request("x")], held) as allocated:
        assert allocated["x"] != held["x"]
    with ports.ports_for_start(vm("b"), [request("x")], held) as others:
        assert others == held


def test_a_vm_that_does_not_exist_holds_no_port(vm):
    """Ports are released last: a killed removal leaves them."""
    gone = vm("a")
    ports.claim(gone, [request("x", 20999)])
    os.unlink(gone.lock)
    assert ports.claim(vm("b"), [request("x", 20999)]) == {"x": 20999}


def cable(vm, other):
    keys = ["/l/%s/e" % vm, "/l/%s/e" % other]
    return [ports.PortRequest(key, "udp", HERE, "auto", "o", True) for key in keys]


def as_qemu(address, port):
    """Bind a UDP port as QEMU does."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    return made


def test_an_auto_port_that_was_taken_is_allocated_again(vm):
    requests = [request("x"), *cable("a", "b")]
    held = ports.claim(vm("a"), requests)
    own, far = "/l/a/e", "/l/b/e"
    address = ports.cable_address(vm("a").root)
    with socket.socket() as listener, as_qemu(address, held[own]):
        listener.bind((HERE, held["x"]))
        listener.listen(1)
        with ports.ports_for_start(vm("a"), requests, held) as allocated:
            assert allocated["x"] != held["x"] and allocated[own] != held[own]
            assert allocated[far] == held[far]
            as_qemu(address, allocated[own]).close()
    assert ports.claim(vm("b"), cable("b", "a")) == {key: allocated[key] for key in (own, far)}


def test_the_end_of_a_cable_does_not_move_while_the_other_vm_runs(vm):
    held = ports.claim(vm("a"), cable("a", "b"))
    assert ports.claim(vm("b"), cable("b", "a")) == held
    with open(vm("b").exit_code, "w", encoding="ascii") as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        with as_qemu(ports.cable_address(vm("a").root), held["/l/a/e"]):
            with pytest.raises(HostError, match="stop the VM l/b at the other end"):
                with ports.ports_for_start(vm("a"), cable("a", "b"), held):
                    pass


def test_a_start_sees_that_the_other_end_has_moved(vm):
    held = ports.claim(vm("a"), cable("a", "b"))
    assert ports.claim(vm("b"), cable("b", "a")) == held
    with pytest.raises(HostError, match="allocated again meanwhile"):
        with ports.ports_for_start(vm("b"), cable("b", "a"), held):
            with as_qemu(ports.cable_address(vm("a").root), held["/l/a/e"]):
                with ports.ports_for_start(vm("a"), cable("a", "b"), held) as moved:
                    assert moved != held


def test_a_given_udp_port_of_another_root_is_an_error(tmp_path, vm):
    """The registry of another root does not have it, and QEMU would bind it all the same."""
    request = ports.PortRequest("nics/e/local", "udp", "127.70.0.1", 10001, "o", True)
    with ports.ports_for_start(vm("a"), [], {}, [request]):
        other = Folder(str(tmp_path / "other"), "l", "a")
        with pytest.raises(HostError, match="^o: port udp/10001 on 127.70.0.1 is taken by process"):
            with ports.ports_for_start(other, [], {}, [request]):
                pass


_RACER = """
import sys, time
from ansible_collections.vlab.qemu.plugins.module_utils._vm import ports
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import Folder
from ansible_collections.vlab.qemu.tests.unit.plugins.module_utils._vm.test_ports import as_qemu
root = sys.argv[1]
folder = Folder(root, "l", "a")
request = ports.PortRequest("nics/e/local", "udp", "127.0.0.1", "auto", "o", True)
for line in sys.stdin:
    held = ports.claim(folder, [request])
    with ports.ports_for_start(folder, [request], held) as allocated:
        time.sleep(0.005)  # QEMU needs longer
        qemu = as_qemu("127.0.0.1", allocated["nics/e/local"])
    print(allocated["nics/e/local"], flush=True)
    sys.stdin.readline()
    qemu.close()
    ports.release(folder)
"""


@pytest.mark.parametrize("races", [int(os.environ.get("VLAB_PORT_RACES", "20"))])
def test_races_of_two_roots(tmp_path, races):
    """Two runs start a VM at the same moment, each with the registry of its own root."""
    words = [sys.executable, "-c", _RACER]
    racers = [
        subprocess.Popen(
            [*words, str(tmp_path / name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        )
        for name in ("one", "two")
    ]
    try:
        for _race in range(races):
            for _step in range(2):
                for racer in racers:
                    racer.stdin.write("\n")
                    racer.stdin.flush()
                if not _step:
                    ports = [racer.stdout.readline() for racer in racers]
                    assert "" not in ports and ports[0] != ports[1]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


def test_addresses_differ_between_roots():
    roots = [ports.SYSTEM_ROOT] + ["/home/u%d/.local/state/vlab" % n for n in range(50)]
    for address in ("127.64.0.1", "127.100.7.9", "127.191.255.254"):
        made = [ports.address_of_root(root, address) for root in roots]
        assert made[0] == address and len(set(made)) == len(roots)
        assert all(ports.is_derived(other) for other in made)
    for address in ("127.0.0.1", "127.63.0.1", "127.192.0.1", "10.64.0.1", "::1"):
        assert ports.address_of_root(roots[1], address) == address
    pairs = {ports.address_of_root(roots[1], "127.%d.3.1" % n) for n in range(64, 192)}
    assert len(pairs) == 128, "within a root no two addresses become one"
    assert ports.cable_address(ports.SYSTEM_ROOT) == HERE


def test_nothing_to_release(tmp_path):
    ports.release(Folder(str(tmp_path), "l", "a"))
    assert os.listdir(tmp_path) == []
    assert port_sockets.who_has("tcp", 1) == "another process"


@pytest.mark.parametrize("key, begins", [("x", 4), ("display", 1)])
def test_auto_ports_of_roots_begin_at_different_numbers(key, begins):
    """Otherwise two runs at the same moment find the same port free, and one QEMU fails."""
    roots = (ports.SYSTEM_ROOT, "/ann", "/bob", "/cy")
    found = [list(ports._candidates(request(key), root)) for root in roots]
    assert len({numbers[0] for numbers in found}) == begins
    assert all(sorted(numbers) == sorted(found[0]) for numbers in found)
