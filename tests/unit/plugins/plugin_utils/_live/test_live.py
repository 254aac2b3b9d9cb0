# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The live picture: who is answered, what a page can do, and that nothing is left behind."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import threading
import time

import pytest
from ansible.errors import AnsibleError
from ansible_collections.vlab.qemu.plugins.plugin_utils._live import access, consoles, watch
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.page import live_page
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.requests import Picture
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.server import LiveServer
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.state import Endpoint, LiveState
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.stream import Stream
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import builder

HOSTILE = '</script><img src=x onerror=alert(1)>{{ 7 * 7 }}\u202e"'
LAB = {
    "name": "lab",
    "defaults": {"kind": "frr"},
    "nodes": {"a": {}, "b": {}},
    "links": ["a:eth1 -- b:eth1"],
}
LOCAL = {"ansible_connection": "local"}
IMPAIRED = {
    "status": "running",
    "asked": {"delay": 20, "loss": 1.5},
    "measured": {"frames_in": 7, "frames_out": 6, "lost": 1, "delay_p50": 20.1},
}


def vm(name, status="running", command="cat", **nic):
    nics = [dict({"name": "eth1", "carrier": True}, **nic)]
    return {"name": name, "lab": "lab", "status": status, "nics": nics} | (
        {"consoles": [{"command": command}]} if command else {}
    )


class Lab:
    """A served lab on hv1 and hv2. carriers: what was set."""

    def __init__(self, writable, vms=None):
        self.carriers = []
        hosts = {"hv1": dict(LOCAL), "hv2": dict(LOCAL)}
        self.state = LiveState(builder.build(LAB), hosts)
        for host, found in (vms or {"hv1": [vm("a")], "hv2": [vm("b")]}).items():
            self.state.report(host, found)
        self.woken = threading.Event()
        self.picture = Picture(
            self.state,
            writable,
            lambda ends, down: self.carriers.append((ends, down)),
            self.woken.set,
            "HINT",
        )
        self.server = LiveServer(self.picture)

    def __enter__(self):
        self.server.__enter__()
        return self

    def __exit__(self, *exception):
        self.server.__exit__(*exception)

    def ask(self, method, route, body=None, token=None, **headers):
        """Return the status, the headers and the body."""
        port = self.server.server_port
        host = headers.pop("Host", "127.0.0.1:%d" % port)
        sent = {"Host": host}
        if method == "POST":
            sent.update({"Origin": "http://" + host, "Content-Type": "application/json"})
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        sent = {name: value for name, value in sent.items() if value is not None}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection):
            data = body if isinstance(body, (str, bytes)) else json.dumps(body or {})
            path = "/%s/%s" % (self.server.token if token is None else token, route)
            connection.request(method, path, data if method == "POST" else None, sent)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    @contextlib.contextmanager
    def events(self):
        """Yield a function that returns the next event of a name."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/%s/events" % self.server.token)
            response = connection.getresponse()
            assert response.status == 200

            def event(name):
                for line in iter(response.readline, b""):
                    if line == b"event: %s\n" % name.encode():
                        return json.loads(response.readline().partition(b":")[2])
                raise EOFError(name)

            yield event


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "method, route, headers, status",
    [
        ("GET", "", {}, 200),
        ("GET", "events/", {}, 404),
        ("GET", "../../etc/passwd", {}, 404),
        ("GET", "", {"Sec_Fetch_Site": "none"}, 200),
        ("GET", "", {"Sec_Fetch_Site": "same-origin"}, 200),
        ("GET", "", {"Sec_Fetch_Site": "cross-site"}, 403),
        ("GET", "", {"Sec_Fetch_Site": "same-site"}, 403),
        ("GET", "", {"Origin": "http://evil.example"}, 403),
        ("GET", "events", {"Origin": "http://evil.example"}, 403),
        ("GET", "", {"Host": "evil.example"}, 421),
        ("GET", "", {"Host": "evil.example:80"}, 421),
        ("GET", "", {"Host": "127.0.0.1"}, 421),
        ("GET", "", {"Host": ""}, 421),
        ("POST", "carrier", {"Origin": None}, 403),
        ("POST", "carrier", {"Origin": "null"}, 403),
        ("POST", "carrier", {"Origin": "http://127.0.0.1:1"}, 403),
        ("POST", "carrier", {"Sec_Fetch_Site": "none"}, 403),
        ("POST", "carrier", {"Content_Type": "text/plain"}, 415),
        ("POST", "carrier", {"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ("PUT", "carrier", {}, 501),
        ("OPTIONS", "carrier", {}, 501),
    ],
)
def test_only_the_own_page_is_answered(method, route, headers, status):
    with Lab(True) as lab:
        found, sent, _body = lab.ask(method, route, {"link": 0, "down": True}, **headers)
        assert found == status and not lab.carriers
        assert "Access-Control-Allow-Origin" not in sent


def test_localhost_is_the_same_host():
    with Lab(True) as lab:
        host = "localhost:%d" % lab.server.server_port
        change = {"link": 0, "down": True}
        assert lab.ask("GET", "", Host=host)[0] == 200
        assert lab.ask("POST", "carrier", change, Host=host)[0] == 200
        # A page of one name cannot ask the other.
        origin = "http://127.0.0.1:%d" % lab.server.server_port
        assert lab.ask("POST", "carrier", change, Host=host, Origin=origin)[0] == 403


@pytest.mark.parametrize("token", ["", "x", "\xe9", "x" * 43, "?", ".."])
@pytest.mark.parametrize(
    "method, route", [("GET", ""), ("GET", "events"), ("GET", "xterm.js"), ("POST", "carrier")]
)
def test_every_request_needs_the_token(token, method, route):
    with Lab(True) as lab:
        quoted = token.replace("\xe9", "%C3%A9")
        status, _headers, body = lab.ask(method, route, {"link": 0, "down": True}, token=quoted)
        assert status == 404 and lab.server.token.encode() not in body and not lab.carriers


def test_a_token_is_long_and_differs_each_time():
    servers = [Lab(False).server for _number in range(2)]
    for server in servers:
        server.server_close()
        assert len(server.token) >= 43 and server.server_address[0] == "127.0.0.1"
    assert servers[0].token != servers[1].token
    assert access.route_of("/%s" % servers[0].token, servers[0].token) is None
    assert access.route_of("/%s/x?y" % servers[0].token, servers[0].token) == "x"


@pytest.mark.parametrize("route", ["carrier", "console", "input", "close"])
def test_a_read_only_page_changes_nothing(route):
    with Lab(False) as lab, lab.events() as event:
        body = {"stream": event("stream"), "link": 0, "down": True, "node": "a"}
        status, _headers, answer = lab.ask("POST", route, body)
        assert status == 403 and b"HINT" in answer
        assert not lab.carriers and not lab.picture._consoles._open


def test_a_read_only_page_has_no_terminal_and_no_buttons():
    with Lab(False) as lab:
        text = lab.ask("GET", "")[2].decode()
        assert "xterm" not in text and "data-carrier" not in text.partition("<script>")[0]
        assert "'unsafe-inline'" not in text
        assert lab.ask("GET", "xterm.js")[0] == 404


def test_a_page_to_write_has_them():
    with Lab(True) as lab:
        text = lab.ask("GET", "")[2].decode()
        assert 'data-carrier="0"' in text and 'data-console="a"' in text
        status, headers, body = lab.ask("GET", "xterm.js")
        assert status == 200 and headers["Content-Type"].startswith("text/javascript")
        assert b"Terminal" in body and lab.ask("GET", "xterm.css")[0] == 200


def test_pages_are_protected_by_headers():
    with Lab(True) as lab:
        _status, headers, body = lab.ask("GET", "")
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "script-src" in policy and "unsafe-inline" not in policy.split("script-src")[1]
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store" and "Server" in headers
        for script in body.decode().split("<script>")[1:]:
            digest = hashlib.sha256(script.partition("</script>")[0].encode()).digest()
            assert base64.b64encode(digest).decode() in policy


@pytest.mark.parametrize(
    "body, status",
    [
        (b"", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b"[" * 60000, 400),
        ({"link": "0", "down": True}, 400),
        ({"link": True, "down": True}, 400),
        ({"link": 0, "down": 1}, 400),
        ({"link": 99, "down": True}, 404),
        ({"link": -1, "down": True}, 404),
    ],
)
def test_a_wrong_request_changes_nothing(body, status):
    with Lab(True) as lab:
        assert lab.ask("POST", "carrier", body)[0] == status and not lab.carriers


def test_a_large_request_is_refused():
    with Lab(True) as lab:
        assert lab.ask("POST", "carrier", b"x" * 100000)[0] == 413
        assert lab.ask("POST", "carrier", Content_Length="-1")[0] == 413
        assert lab.ask("POST", "carrier", Transfer_Encoding="chunked")[0] == 413


def test_a_carrier_is_set_at_both_ends():
    with Lab(True) as lab:
        assert lab.ask("POST", "carrier", {"link": 0, "down": True})[0] == 200
        ends = [Endpoint("hv1", "a", "eth1"), Endpoint("hv2", "b", "eth1")]
        assert lab.carriers == [(ends, True)] and lab.woken.is_set()


def test_an_error_of_a_hypervisor_is_reported():
    with Lab(True) as lab:

        def fail(_ends, _down):
            raise AnsibleError("cannot reach hv1")

        lab.picture._set_carrier = fail
        status, _headers, body = lab.ask("POST", "carrier", {"link": 0, "down": True})
        assert status == 502 and b"cannot reach hv1" in body


def test_a_stream_has_the_state_and_each_change():
    with Lab(False) as lab, lab.events() as event:
        state = event("state")
        assert state["nodes"]["a"]["state"] == "running" and not state["links"]["0"]["down"]
        lab.state.report("hv1", [vm("a", "stopped")])
        lab.picture.publish()
        state = event("state")
        assert state["nodes"]["a"] == {
            "state": "stopped",
            "tone": "off",
            "label": "a, frr, stopped",
            "tooltip": "a: frr, stopped, hv1",
        }
        assert state["links"]["0"]["down"] and "1 stopped" in state["summary"]


def test_the_state_of_a_hypervisor_without_an_answer_is_unknown():
    state = Lab(False)
    state.server.server_close()
    before = json.loads(state.state.json())
    state.state.report_error("hv2", "no route\n" + HOSTILE)
    found = json.loads(state.state.json())
    assert found["nodes"]["a"]["state"] == "running" and found["nodes"]["b"]["state"] == "unknown"
    assert found["errors"][0].startswith("hv2: no route?")
    assert found["facts"] == before["facts"], "the page need not be loaded again"


def test_a_node_that_is_nowhere_is_absent_but_unknown_without_all_answers():
    lab = Lab(False, {"hv1": [vm("a")], "hv2": []})
    lab.server.server_close()
    assert json.loads(lab.state.json())["nodes"]["b"]["state"] == "absent"
    lab.state.report_error("hv2", "no answer")
    assert json.loads(lab.state.json())["nodes"]["b"]["state"] == "unknown"


def test_impairments_are_shown_with_their_counters():
    lab = Lab(False, {"hv1": [vm("a", impairment=IMPAIRED)], "hv2": [vm("b")]})
    lab.server.server_close()
    assert json.loads(lab.state.json())["links"]["0"]["traffic"] == [
        "a:eth1: delay 20 ms, loss 1.5 %; 7 frames in, 6 out, 1 lost, median delay 20.1 ms"
    ]


def test_an_impairment_without_its_process_is_shown():
    ended = dict(IMPAIRED, status="ended", measured=None)
    lab = Lab(False, {"hv1": [vm("a", impairment=ended)], "hv2": []})
    lab.server.server_close()
    assert "has ended" in json.loads(lab.state.json())["links"]["0"]["traffic"][0]


def test_changed_facts_are_noticed():
    lab = Lab(False)
    lab.server.server_close()
    before = json.loads(lab.state.json())["facts"]
    lab.state.report("hv1", [vm("a", "stopped")])
    assert json.loads(lab.state.json())["facts"] == before
    lab.state.report("hv1", [vm("a", command="other")])
    assert json.loads(lab.state.json())["facts"] != before


def test_texts_of_guests_and_hypervisors_never_become_markup():
    hostile = {"hv1": [vm("a", HOSTILE, HOSTILE, addresses=[{"address": HOSTILE}])], "hv2": []}
    lab, harmless = Lab(True, hostile), Lab(True, {"hv1": [vm("a", "odd", "x")], "hv2": []})
    for one in (lab, harmless):
        one.server.server_close()
    text, _policy = live_page(lab.state.view(), True)
    known, _policy = live_page(harmless.state.view(), True)
    assert "<img" not in text and text.count("<script") == known.count("<script")
    assert "{{" not in text and "\u202e" not in text
    assert "\u202e" not in json.loads(lab.state.json())["nodes"]["a"]["tooltip"]


def test_the_script_writes_no_markup():
    folder = pathlib.Path(live_page.__code__.co_filename).parent
    script = (folder / "live.js").read_text(encoding="utf-8")
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in script


def test_the_terminal_is_the_released_one():
    folder = pathlib.Path(live_page.__code__.co_filename).parent / "xterm"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for name in ("xterm.js", "xterm.css", "LICENSE"):
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() in readme, name


def test_a_console_is_a_terminal():
    command = "sh -c 'stty size; stty -echo; read x </dev/tty; echo got $x; exit 3'"
    vms = {"hv1": [vm("a", command=command)], "hv2": []}
    with Lab(True, vms) as lab, lab.events() as event:
        stream = event("stream")
        opened = lab.ask("POST", "console", {"stream": stream, "node": "a"})
        name = json.loads(opened[2])["console"]
        seen = b""
        while b"24 80" not in seen:
            seen += base64.b64decode(event("output")["data"])
        typed = {"stream": stream, "console": name, "text": "h\xe9llo\n"}
        assert lab.ask("POST", "input", typed)[0] == 200
        while b"got h\xc3\xa9llo" not in seen:
            seen += base64.b64decode(event("output")["data"])
        assert event("end") == name
        until(lambda: not lab.picture._consoles._open)
        assert lab.ask("POST", "input", typed)[0] == 400


@pytest.mark.parametrize("end", ["page", "button", "server"])
def test_a_console_ends_with_its_page_and_with_the_server(end):
    lab = Lab(True, {"hv1": [vm("a", command="sh -c 'trap : HUP; echo $$; sleep 100 & wait'")]})
    with contextlib.ExitStack() as stack:
        stack.enter_context(lab)
        page = stack.enter_context(contextlib.ExitStack())
        event = page.enter_context(lab.events())
        stream = event("stream")
        name = json.loads(lab.ask("POST", "console", {"stream": stream, "node": "a"})[2])["console"]
        pid = int(base64.b64decode(event("output")["data"]))
        if end == "page":
            lab.picture.close_stream(lab.picture._streams[stream])
        elif end == "button":
            lab.ask("POST", "close", {"stream": stream, "console": name})
        if end != "server":
            until(lambda: not lab.picture._consoles._open)
            assert not os.path.exists("/proc/%d" % pid)
    assert not os.path.exists("/proc/%d" % pid)
    until(lambda: "_forward" not in str([one.name for one in threading.enumerate()]))


def test_a_console_belongs_to_its_page():
    with Lab(True) as lab, lab.events() as first, lab.events() as second:
        own, other = first("stream"), second("stream")
        body = lab.ask("POST", "console", {"stream": own, "node": "a"})[2]
        name = json.loads(body)["console"]
        for stream in (other, "x", ""):
            body = {"stream": stream, "console": name, "text": "x"}
            assert lab.ask("POST", "input", body)[0] == 400


@pytest.mark.parametrize("node, status", [("b", 404), ("x", 404), (1, 400)])
def test_a_node_without_a_console_has_none(node, status):
    vms = {"hv1": [vm("a")], "hv2": [vm("b", command="")]}
    with Lab(True, vms) as lab, lab.events() as event:
        body = {"stream": event("stream"), "node": node}
        assert lab.ask("POST", "console", body)[0] == status


def test_the_number_of_consoles_is_limited(monkeypatch):
    monkeypatch.setattr(consoles, "MAX_CONSOLES", 1)
    with Lab(True) as lab, lab.events() as event:
        body = {"stream": event("stream"), "node": "a"}
        assert [lab.ask("POST", "console", body)[0] for _number in range(2)] == [200, 409]


def test_output_waits_for_a_slow_page():
    stream = Stream()
    assert stream.put_output("c", b"x" * (1 << 20))
    waiting = threading.Thread(target=stream.put_output, args=("c", b"y"))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    assert stream.next(1).count(b"event: output") == 1
    waiting.join(10)
    assert not waiting.is_alive() and stream.next(1).count(b"event: output") == 1
    stream.close()
    assert not stream.put_output("c", b"z") and stream.next(1) is None


def test_the_server_ends_with_open_pages_and_frees_its_port():
    lab = Lab(False)
    with contextlib.ExitStack() as pages:
        with lab:
            event = pages.enter_context(lab.events())
            event("state")
            port = lab.server.server_port
        with pytest.raises(EOFError):
            event("state")
    assert not lab.picture.has_pages
    with pytest.raises(ConnectionRefusedError):
        lab.ask("GET", "")
    LiveServer(lab.picture, port).server_close()


class FakeHost:
    """Answers requests with one VM, or raises. requests: all of them."""

    def __init__(self, error=None):
        self.requests, self.closed, self.error = [], 0, error

    def request(self, name, data=b"", **parameters):
        self.requests.append((name, parameters))
        if self.error:
            raise AnsibleError(self.error)
        return {"vms": [vm("a")]}, []

    def close(self):
        self.closed += 1


def test_hypervisors_are_queried_once_then_while_a_page_is_open():
    state = LiveState(builder.build(LAB), {"hv1": LOCAL, "hv2": LOCAL})
    hosts = {"hv1": FakeHost(), "hv2": FakeHost("no route")}
    opened = threading.Event()
    live = {name: watch.LiveHost({}, "/r", lambda n=name: hosts[n]) for name in hosts}
    one = watch.Watch(state, live, 0.05)
    one.is_needed = opened.is_set
    one.start()
    state.wait(10)
    assert json.loads(state.json())["errors"] == ["hv2: no route"]
    time.sleep(0.3)
    assert hosts["hv1"].requests == [("vms", {"root": "/r", "lab": "lab"})]
    opened.set()
    one.wake()
    until(lambda: len(hosts["hv1"].requests) >= 4)
    one.end(10)
    count = len(hosts["hv1"].requests)
    assert all(host.closed for host in hosts.values())
    time.sleep(0.2)
    assert len(hosts["hv1"].requests) == count


def test_carriers_are_set_by_requests():
    host = FakeHost()
    live = {"hv1": watch.LiveHost({}, None, lambda: host)}
    watch.set_carriers(live, "lab", [Endpoint("hv1", "a", "eth1")], True)
    name, parameters = host.requests[0]
    assert name == "carrier" and host.closed == 1
    assert (parameters["vm"], parameters["nic"], parameters["down"]) == ("a", "eth1", True)
