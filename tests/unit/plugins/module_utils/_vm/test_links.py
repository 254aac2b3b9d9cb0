# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._qemu import netdev_options
from ansible_collections.vlab.qemu.plugins.module_utils._qemu.option_strings import netdev
from ansible_collections.vlab.qemu.plugins.module_utils._vm.parts.network import (
    backends,
    dhcp_options,
    links,
    taps,
)
from ansible_collections.vlab.qemu.tests.unit.vm_world import (
    VERSIONS,
    capabilities,
    compose,
    parsed,
)

ALL = VERSIONS
PORTS = {
    "/lab1/r1/e": 26001,
    "/lab1/r2/x": 26002,
    "nics/e/local": 20005,
    "nics/e/wire": 26009,
    "nics/e/tcp/22": 20022,
    "nics/e/udp/10.0.2.9:53": 26053,
}
FORWARDS = [
    {
        "protocol": "tcp",
        "host_address": "127.0.0.1",
        "host_port": "auto",
        "guest_address": None,
        "guest_port": 22,
    },
    {
        "protocol": "udp",
        "host_address": "*",
        "host_port": "53",
        "guest_address": "10.0.2.9",
        "guest_port": 53,
    },
]
HOSTFWD = [{"str": "tcp:127.0.0.1:20022-:22"}, {"str": "udp:0.0.0.0:26053-10.0.2.9:53"}]

# Versions, the link of the user, the arguments of netdev_add (without the id), the words of
# -netdev.
TABLE = [
    (ALL, {"type": "user"}, {"type": "user"}, "user,id=l"),
    (
        ALL,
        {
            "type": "user",
            "network": "10.9.0.0/24",
            "host_address": "10.9.0.1",
            "dhcp_start": "10.9.0.9",
            "dns": "10.9.0.3",
            "hostname": "a,b",
            "domain": "x=y",
            "dns_search": ["a.example", "b,c"],
            "restrict": True,
            "tftp": "/t,f",
            "bootfile": "/b,x",
            "ipv6": False,
            "forwards": FORWARDS,
        },
        {
            "type": "user",
            "net": "10.9.0.0/24",
            "host": "10.9.0.1",
            "dhcpstart": "10.9.0.9",
            "dns": "10.9.0.3",
            "hostname": "a,b",
            "domainname": "x=y",
            "dnssearch": [{"str": "a.example"}, {"str": "b,c"}],
            "restrict": True,
            "tftp": "/t,f",
            "bootfile": "/b,x",
            "ipv6": False,
            "hostfwd": HOSTFWD,
        },
        "user,net=10.9.0.0/24,host=10.9.0.1,dhcpstart=10.9.0.9,dns=10.9.0.3,hostname=a,,b,"
        "domainname=x=y,dnssearch=a.example,dnssearch=b,,c,"
        "restrict=on,tftp=/t,,f,bootfile=/b,,x,ipv6=off,"
        "hostfwd=tcp:127.0.0.1:20022-:22,hostfwd=udp:0.0.0.0:26053-10.0.2.9:53,id=l",
    ),
    (
        ALL,
        {"peer": "r2:x"},
        {"type": "socket", "udp": "127.0.0.1:26002", "localaddr": "127.0.0.1:26001"},
        "socket,udp=127.0.0.1:26002,localaddr=127.0.0.1:26001,id=l",
    ),
    (
        ALL,
        {
            "type": "udp",
            "local_port": "7001",
            "remote_port": "7002",
            "remote_address": "192.0.2.1",
            "local_address": "0.0.0.0",
        },
        {"type": "socket", "udp": "192.0.2.1:7002", "localaddr": "0.0.0.0:7001"},
        "socket,udp=192.0.2.1:7002,localaddr=0.0.0.0:7001,id=l",
    ),
    (
        ALL,
        {
            "type": "udp",
            "local_port": "7001",
            "remote_port": "7002",
            "remote_address": "2001:db8::1",
            "local_address": "::",
        },
        {"type": "socket", "udp": "[2001:db8::1]:7002", "localaddr": "[::]:7001"},
        "socket,udp=[2001:db8::1]:7002,localaddr=[::]:7001,id=l",
    ),
    # QEMU sends to the wire, and still receives at the port of its end.
    (
        ALL,
        {"peer": "r2:x", "impair": {"delay": "20ms"}},
        {"type": "socket", "udp": "127.0.0.1:26009", "localaddr": "127.0.0.1:26001"},
        "socket,udp=127.0.0.1:26009,localaddr=127.0.0.1:26001,id=l",
    ),
    (
        ALL,
        {
            "type": "udp",
            "local_port": "7001",
            "remote_port": "7002",
            "remote_address": "2001:db8::1",
            "local_address": "::",
            "impair": {"loss": 1},
        },
        {"type": "socket", "udp": "[::1]:26009", "localaddr": "[::]:7001"},
        "socket,udp=[::1]:26009,localaddr=[::]:7001,id=l",
    ),
    (("5.2",), {"type": "unix", "path": "/a", "remote_path": "/b"}, "type", None),
    (
        ("7.2", "10.0"),
        {"type": "unix", "path": "/a,b", "remote_path": "/x/../b"},
        {
            "type": "dgram",
            "local": {"type": "unix", "path": "/a,b"},
            "remote": {"type": "unix", "path": "/b"},
        },
        "dgram,local.type=unix,local.path=/a,,b,remote.type=unix,remote.path=/b,id=l",
    ),
    (
        ("5.2",),
        {"type": "stream", "local_port": "auto"},
        {"type": "socket", "listen": "127.0.0.1:20005"},
        "socket,listen=127.0.0.1:20005,id=l",
    ),
    (
        ("5.2",),
        {"type": "stream", "remote_port": "9", "remote_address": "::1"},
        {"type": "socket", "connect": "[::1]:9"},
        "socket,connect=[::1]:9,id=l",
    ),
    (("5.2",), {"type": "stream", "path": "/s"}, "type", None),
    (("5.2", "7.2"), {"type": "stream", "remote_port": "9", "reconnect": 1}, "reconnect", None),
    (
        ("7.2", "10.0"),
        {"type": "stream", "local_port": "20005", "local_address": "0.0.0.0"},
        {
            "type": "stream",
            "server": True,
            "addr": {"type": "inet", "host": "0.0.0.0", "port": "20005"},
        },
        "stream,server=on,addr.type=inet,addr.host=0.0.0.0,addr.port=20005,id=l",
    ),
    (
        ("7.2", "10.0"),
        {"type": "stream", "path": "/s"},
        {"type": "stream", "server": True, "addr": {"type": "unix", "path": "/s"}},
        "stream,server=on,addr.type=unix,addr.path=/s,id=l",
    ),
    (("7.2",), {"type": "stream", "path": "/s", "reconnect": 5}, "reconnect", None),
    (
        ("10.0",),
        {"type": "stream", "path": "/s", "reconnect": 5},
        {
            "type": "stream",
            "server": False,
            "addr": {"type": "unix", "path": "/s"},
            "reconnect-ms": 5000,
        },
        "stream,server=off,addr.type=unix,addr.path=/s,reconnect-ms=5000,id=l",
    ),
    (
        ALL,
        {"type": "mcast", "group": "239.1.2.3", "port": 5000},
        {"type": "socket", "mcast": "239.1.2.3:5000", "localaddr": "127.0.0.1"},
        "socket,mcast=239.1.2.3:5000,localaddr=127.0.0.1,id=l",
    ),
    (
        ALL,
        {"type": "tap"},
        {"type": "tap", "script": "no", "downscript": "no"},
        "tap,script=no,downscript=no,id=l",
    ),
    (
        ALL,
        {
            "type": "tap",
            "interface": "tap,0",
            "script": "/s",
            "down_script": "/d",
            "vhost": True,
            "queues": 4,
        },
        {
            "type": "tap",
            "ifname": "tap,0",
            "script": "/s",
            "downscript": "/d",
            "vhost": True,
            "queues": 4,
        },
        "tap,ifname=tap,,0,script=/s,downscript=/d,vhost=on,queues=4,id=l",
    ),
    (
        ALL,
        {"type": "bridge", "bridge": "br,0", "helper": "/h"},
        {"type": "bridge", "br": "br,0", "helper": "/h"},
        "bridge,br=br,,0,helper=/h,id=l",
    ),
    (
        ALL,
        {"type": "vde", "path": "/v", "port": 3, "vde_group": "g", "mode": "0700"},
        {"type": "vde", "sock": "/v", "port": 3, "group": "g", "mode": 448},
        "vde,sock=/v,port=3,group=g,mode=448,id=l",
    ),
    (ALL, {"type": "vde"}, {"type": "vde"}, "vde,id=l"),
    (("5.2",), {"type": "passt", "path": "/p"}, "type", None),
    (ALL, {"type": "passt"}, "type", None),
    (
        ("7.2",),
        {"type": "passt", "path": "/p"},
        {"type": "stream", "server": False, "addr": {"type": "unix", "path": "/p"}},
        "stream,server=off,addr.type=unix,addr.path=/p,id=l",
    ),
    (
        ("10.0",),
        {"type": "passt", "path": "/p"},
        {
            "type": "stream",
            "server": False,
            "addr": {"type": "unix", "path": "/p"},
            "reconnect-ms": 1000,
        },
        "stream,server=off,addr.type=unix,addr.path=/p,reconnect-ms=1000,id=l",
    ),
]
ROWS = [(version,) + row[1:] for row in TABLE for version in row[0]]


def backend(identifier, lab, vm, nic, link, ports, known, option):
    context = backends.LinkContext(lab, vm, nic, ports, known, option)
    return backends.backend(identifier, link, context)


@pytest.mark.parametrize(
    "version, given, expected, words",
    ROWS,
    ids=["%s-%s-%d" % (row[0], row[1].get("type"), n) for n, row in enumerate(ROWS)],
)
def test_backends(version, given, expected, words):
    known = capabilities(version)
    link = links.normalise("link", given)
    if words is None:
        with pytest.raises(OptionError) as caught:
            backends.check(link, known, "nics[e].link")
        assert caught.value.facts["option"] == "nics[e].link." + expected
        return
    backends.check(link, known, "nics[e].link")
    made = backend("l", "lab1", "r1", "e", link, PORTS, known, "nics[e].link")
    assert made == dict(expected, id="l")
    assert netdev(made) == ["-netdev", words]
    assert parsed(words, "type")[0] == ("type", made["type"])


def test_options_of_the_backend():
    known = capabilities("10.0")
    given = {"type": "tap", "interface": "t0", "options": {"sndbuf": 0, "poll-us": 5, "fd": None}}
    link = links.normalise("link", given)
    made = backend("l", "lab1", "r1", "e", link, PORTS, known, "o")
    assert (made["sndbuf"], made["poll-us"]) == (0, 5) and "fd" not in made
    assert netdev(made)[1].endswith(",downscript=no,sndbuf=0,poll-us=5,id=l")
    for key in ("ifname", "script", "vhost"):
        with pytest.raises(OptionError, match="^o.options.%s: the module sets it" % key):
            backend("l", "lab1", "r1", "e", dict(link, options={key: "x"}), PORTS, known, "o")
    assert links.normalise("link", {"type": "tap", "options": {}}) == {"type": "tap"}
    for wrong, option in (
        ({"type": "none", "options": {"a": 1}}, "link.options"),
        ({"type": "tap", "options": {"id": 1}}, "link.options.id"),
        ({"type": "tap", "options": {"a,b": 1}}, "link.options"),
    ):
        with pytest.raises(OptionError) as caught:
            links.normalise("link", wrong)
        assert caught.value.option == option


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"sndbuf": "1000"}, {"sndbuf": 1000}),
        ({"sndbuf": 1000}, {"sndbuf": 1000}),
        ({"sndbuf": "1k"}, "nics[e].link.options.sndbuf: '1k' is not a whole number"),
        ({"sndbuf": True}, "nics[e].link.options.sndbuf: true is not a whole number"),
        ({"vhostforce": "on"}, {"vhostforce": True}),
        ({"vhostforce": False}, {"vhostforce": False}),
        ({"vhostforce": "x"}, "nics[e].link.options.vhostforce: 'x' is neither true nor false"),
        (
            {"sndbuff": 1},
            "nics[e].link.options.sndbuff: the backend tap of this QEMU has no such option;"
            " did you mean sndbuf?",
        ),
        (
            {"zzz": 1},
            "nics[e].link.options.zzz: the backend tap of this QEMU has no such option; it",
        ),
    ],
)
def test_options_are_compared_as_any_other(given, expected):
    """They are checked by what the binary reports, and typed as QMP needs them."""

    def made(options):
        nic = {"name": "e", "link": {"type": "tap", "options": options}}
        return compose({"memory": "16", "disks": [], "nics": [nic]})["nics"][0]["link"]

    if isinstance(expected, str):
        with pytest.raises(OptionError) as caught:
            made(given)
        assert caught.value.message.startswith(expected)
    else:
        assert made(given)["options"] == expected
        assert made(expected) == made(given)


def test_texts_and_lists_of_options():
    known = {"smb": "string", "guestfwd": "array", "addr": "object"}
    given = {"smb": 5, "guestfwd": ["tcp:10.0.2.5:1-cmd:x"], "addr": {"type": "unix"}}
    typed = netdev_options.typed("o", given, known, "user")
    assert typed == {
        "smb": "5",
        "guestfwd": [{"str": "tcp:10.0.2.5:1-cmd:x"}],
        "addr": {"type": "unix"},
    }
    assert netdev_options.typed("o", typed, known, "user") == typed
    with pytest.raises(OptionError, match="^o.smb: .* is not a text"):
        netdev_options.typed("o", {"smb": []}, known, "user")


def test_options_of_a_schema():
    schema = [
        {"name": "netdev_add", "meta-type": "command", "arg-type": "1"},
        {"name": "1", "meta-type": "object", "variants": [{"case": "tap", "type": "2"}]},
        {
            "name": "2",
            "meta-type": "object",
            "members": [{"name": "a", "type": "int"}, {"name": "b", "type": "[3]"}],
        },
        {"name": "int", "meta-type": "builtin", "json-type": "int"},
        {"name": "[3]", "meta-type": "array", "element-type": "str"},
    ]
    assert netdev_options.of_schema(schema) == {"tap": {"a": "int", "b": "array"}}


NETWORK = r"""hub 0
  \ hub0port1: plug0: index=0,type=hubport,
  \ hub0port0: port0: index=0,type=hubport,
nic0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:00:00:01
 \ port3: index=0,type=tap,ifname=tap7,script=no,downscript=no
link0: index=0,type=tap,ifname=tap5,script=no,downscript=no
"""


def test_the_interfaces_of_taps():
    """Those that QEMU has chosen are read back, through a hub and without."""
    nics = [
        {"name": "e0", "link": {"type": "tap"}},
        {"name": "e1", "link": {"type": "tap", "interface": "mine"}},
        {"name": "e2", "link": {"type": "user"}},
        {"name": "e3", "link": {"type": "tap", "vhost": True}},
        {"name": "e4", "link": {"type": "tap"}},
    ]
    made = compose({"memory": "16", "disks": [], "nics": nics})
    asked = []

    def execute(command, arguments):
        asked.append(arguments["command-line"])
        return NETWORK

    seen = SimpleNamespace(alive=True, monitor=SimpleNamespace(execute=execute))
    assert taps.interfaces(made, seen) == {"e0": "tap5", "e1": "mine", "e3": "tap7", "e4": None}
    assert asked == ["info network"]
    assert taps.interfaces(dict(made, nics=made["nics"][1:3]), seen) == {"e1": "mine"}
    assert len(asked) == 1, "it is asked only if there is a name to find"
    assert taps.interfaces(made, SimpleNamespace(alive=False)) == {}


def test_passt_of_a_newer_qemu():
    known = capabilities("10.0", netdev_types=frozenset(["passt"]))
    second = {"guest_port": 53, "protocol": "udp", "host_address": "::1", "host_port": "53"}
    link = links.normalise("link", {"type": "passt", "forwards": [FORWARDS[0], second]})
    ports = dict(PORTS, **{"nics/e/udp/53@::1": 26053})
    assert backend("l", "lab1", "r1", "e", link, ports, known, "x") == {
        "type": "passt",
        "id": "l",
        "tcp-ports": [{"str": "127.0.0.1/20022:22"}],
        "udp-ports": [{"str": "::1/26053:53"}],
    }


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, {"type": "none"}),
        ({"peer": "a:b:c"}, {"type": "udp", "peer": "a:b:c"}),
        ({"type": "none", "path": None, "hostname": ""}, {"type": "none"}),
        ({"type": "user", "hostname": "", "forwards": []}, {"type": "user"}),
        ({"type": "vde", "path": ""}, {"type": "vde"}),
        (
            {
                "type": "user",
                "forwards": [
                    {
                        "protocol": "tcp",
                        "host_address": "",
                        "host_port": 80,
                        "guest_port": 80,
                        "guest_address": "",
                    }
                ],
            },
            {
                "type": "user",
                "forwards": [
                    {
                        "protocol": "tcp",
                        "host_address": "0.0.0.0",
                        "host_port": 80,
                        "guest_port": 80,
                    }
                ],
            },
        ),
        (
            {"peer": "r2:x", "impair": {"delay": "20ms", "loss": "1.5%", "rate": None}},
            {"type": "udp", "peer": "r2:x", "impair": {"delay": 20, "loss": 1.5}},
        ),
        ({"peer": "r2:x", "impair": {}}, {"type": "udp", "peer": "r2:x"}),
        ({"peer": "r2:x", "impair": {"seed": 5}}, {"type": "udp", "peer": "r2:x"}),
        ({"type": "user", "impair": {"delay": None}}, {"type": "user"}),
        (
            {"type": "user", "dhcp_options": {239: "u", "67": 5, 150: "0x0a000202", 8: None}},
            {"type": "user", "dhcp_options": {"67": "5", "150": "0x0a000202", "239": "u"}},
        ),
        ({"type": "user", "dhcp_options": {}}, {"type": "user"}),
        ({"type": "user", "dhcp_options": {67: None}}, {"type": "user"}),
    ],
)
def test_what_is_kept(given, expected):
    assert links.normalise("link", given) == expected
    assert links.normalise("link", expected) == expected


def dhcp(options):
    return {"type": "user", "dhcp_options": options}


def test_dhcp_options_as_they_are_sent():
    given = {"67": "é", "150": "10.0.2.2, 10.0.2.3", "43": "0x01ff", "66": "0xyz"}
    assert dhcp_options.encoded(given) == {
        "67": "c3a9",
        "150": "0a0002020a000203",
        "43": "01ff",
        "66": "3078797a",
    }


def forward(**more):
    return {"type": "user", "forwards": [dict(FORWARDS[0], **more)]}


@pytest.mark.parametrize(
    "given, option",
    [
        ({"type": "user", "peer": "a:b"}, "peer"),
        ({"type": "none", "path": "/x"}, "path"),
        ({"type": "udp"}, "local_port"),
        ({"type": "bridge"}, "bridge"),
        ({"type": "udp", "local_port": "auto", "remote_port": "1"}, "local_port"),
        ({"type": "udp", "local_port": "1", "remote_port": "0"}, "remote_port"),
        ({"type": "udp", "local_port": "1", "remote_port": "65536"}, "remote_port"),
        ({"type": "udp", "local_port": "1", "remote_port": "1,x=y"}, "remote_port"),
        (
            {"type": "udp", "local_port": "1", "remote_port": "2", "remote_address": "1.2.3.4,x"},
            "remote_address",
        ),
        ({"peer": "a"}, "peer"),
        ({"peer": ":b"}, "peer"),
        ({"peer": "a:"}, "peer"),
        ({"peer": "../a:b"}, "peer"),
        ({"peer": "a:../b"}, "peer"),
        ({"peer": "a:b", "local_port": "5"}, "peer"),
        ({"type": "unix", "path": "/a"}, "remote_path"),
        ({"type": "unix", "path": "/" + "a" * 107, "remote_path": "/b"}, "path"),
        ({"type": "stream"}, ""),
        ({"type": "stream", "path": "/a", "local_port": "1"}, ""),
        ({"type": "stream", "path": "/a", "reconnect": 0}, "reconnect"),
        ({"type": "stream", "path": "/a", "reconnect": 1 << 40}, "reconnect"),
        ({"type": "stream", "remote_port": "auto"}, "remote_port"),
        ({"peer": "r2:x", "impair": {"delay": "20 h"}}, "impair.delay"),
        ({"type": "user", "impair": {"delay": "20ms"}}, "impair"),
        ({"type": "none", "impair": {"loss": 1}}, "impair"),
        ({"type": "mcast", "group": "239.1.1.1", "port": 70000}, "port"),
        ({"type": "mcast", "group": "ff02::1", "port": 5}, "group"),
        ({"type": "mcast", "port": 5}, "group"),
        ({"type": "user", "network": "10.0.0.0/33"}, "network"),
        ({"type": "user", "network": "fd00::/64"}, "network"),
        ({"type": "user", "dns": "fd00::3"}, "dns"),
        ({"type": "user", "host_address": "x"}, "host_address"),
        ({"type": "tap", "interface": "a" * 16}, "interface"),
        ({"type": "tap", "interface": "a/b"}, "interface"),
        ({"type": "tap", "queues": 0}, "queues"),
        ({"type": "tap", "queues": 257}, "queues"),
        ({"type": "vde", "mode": "rwx"}, "mode"),
        ({"type": "vde", "mode": "0o700"}, "mode"),
        (forward(host_address="::1"), "forwards[0].host_address"),
        (forward(host_address="1.2.3.4:80-1.1.1.1"), "forwards[0].host_address"),
        (forward(guest_address="fd00::1"), "forwards[0].guest_address"),
        (forward(guest_port=0), "forwards[0].guest_port"),
        (forward(guest_port=1 << 70), "forwards[0].guest_port"),
        (forward(host_port="x"), "forwards[0].host_port"),
        (forward(host_port="8000-8010"), "forwards[0].host_port"),
        ({"type": "passt", "forwards": FORWARDS}, "forwards[1].guest_address"),
        (
            {"type": "user", "forwards": [FORWARDS[0], dict(FORWARDS[0], host_port="5")]},
            "forwards[1].guest_port",
        ),
        ({"type": "passt", "dhcp_options": {67: "x"}}, "dhcp_options"),
        (dhcp({"name": "x"}), "dhcp_options"),
        (dhcp({"0": "x"}), "dhcp_options"),
        (dhcp({"255": "x"}), "dhcp_options"),
        (dhcp({"-1": "x"}), "dhcp_options"),
        (dhcp({"9" * 5000: "x"}), "dhcp_options"),
        (dhcp({"12": "x"}), "dhcp_options[12]"),
        (dhcp({53: "x"}), "dhcp_options[53]"),
        (dhcp({67: ""}), "dhcp_options[67]"),
        (dhcp({67: "x" * 256}), "dhcp_options[67]"),
        (dhcp({67: ["x"]}), "dhcp_options[67]"),
        (dhcp({67: True}), "dhcp_options[67]"),
        (dhcp({67: "\ud800"}), "dhcp_options[67]"),
        (dhcp({150: "server"}), "dhcp_options[150]"),
        (dhcp({150: "10.0.2.2,"}), "dhcp_options[150]"),
        (dhcp({code: "x" * 200 for code in range(200, 205)}), "dhcp_options"),
    ],
)
def test_what_is_refused(given, option):
    with pytest.raises(OptionError) as caught:
        links.normalise("link", given)
    assert caught.value.facts["option"] == ("link." + option if option else "link")


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"type": "none"}, []),
        (
            {"peer": "r2:x"},
            [
                ("/lab1/r1/e", "udp", "127.0.0.1", "auto"),
                ("/lab1/r2/x", "udp", "127.0.0.1", "auto"),
            ],
        ),
        (
            {"type": "udp", "local_port": "5", "remote_port": "6", "local_address": "::"},
            [("nics/e/local", "udp", "::", 5)],
        ),
        (
            {"type": "udp", "local_port": "5", "remote_port": "6", "impair": {"loss": 1}},
            [
                ("nics/e/local", "udp", "127.0.0.1", 5),
                ("nics/e/wire", "udp", "127.0.0.1", "auto"),
            ],
        ),
        ({"type": "stream", "local_port": "auto"}, [("nics/e/local", "tcp", "127.0.0.1", "auto")]),
        ({"type": "stream", "remote_port": "5"}, []),
        (
            {"type": "user", "forwards": FORWARDS},
            [
                ("nics/e/tcp/22", "tcp", "127.0.0.1", "auto"),
                ("nics/e/udp/10.0.2.9:53", "udp", "0.0.0.0", 53),
            ],
        ),
        (
            {
                "type": "user",
                "forwards": [
                    {"host_address": "127.0.0.2", "host_port": "80", "guest_port": 80},
                    {"host_address": "127.0.0.3", "host_port": "80", "guest_port": 80},
                ],
            },
            [
                ("nics/e/tcp/80@127.0.0.2", "tcp", "127.0.0.2", 80),
                ("nics/e/tcp/80@127.0.0.3", "tcp", "127.0.0.3", 80),
            ],
        ),
        ({"type": "mcast", "group": "239.1.1.1", "port": 5}, []),
    ],
)
def test_ports(given, expected):
    port_requests = links.port_requests("lab1", "r1", "e", links.normalise("link", given), "o")
    assert [tuple(request[:4]) for request in port_requests] == expected


def test_both_ends_of_a_cable_know_its_ports():
    known = capabilities("7.2")
    one = backend(
        "l", "lab1", "r1", "e", links.normalise("link", {"peer": "r2:x"}), PORTS, known, "o"
    )
    other = backend(
        "l", "lab1", "r2", "x", links.normalise("link", {"peer": "r1:e"}), PORTS, known, "o"
    )
    assert (one["udp"], one["localaddr"]) == (other["localaddr"], other["udp"])


@pytest.mark.parametrize(
    "link, direct, programs",
    [
        ({"type": "tap"}, False, False),
        ({"type": "tap", "vhost": True}, True, False),
        ({"type": "tap", "vhost": False, "queues": 1}, False, False),
        ({"type": "tap", "queues": 2, "script": "/s"}, True, True),
        ({"type": "bridge"}, False, True),
        ({"type": "passt"}, False, True),
        ({"type": "user"}, False, False),
    ],
)
def test_kinds(link, direct, programs):
    assert (links.is_direct(link), links.runs_programs(link)) == (direct, programs)
