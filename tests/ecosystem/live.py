# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the live picture of a lab on two hypervisors in a real browser, headless Chromium.

    python tests/ecosystem/live.py [--screenshot FILE]

The hypervisors are two hosts of an inventory on this host, each with its own folder of labs. The
test brings a lab up, serves its picture with the playbook vlab.qemu.live on a terminal, looks at
it and changes the lab in the browser, and ends it with Ctrl-C.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import http.server
import json
import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import yaml

from browser import Browser, browser
from tools import environment, need_program, until

LAB = {
    "name": "pair",
    "defaults": {"kind": "tiny", "memory": 96},
    "nodes": {
        "a": {"hypervisor": "hv1"},
        "b": {"hypervisor": "hv1"},
        "c": {"hypervisor": "hv2"},
        "d": {"hypervisor": "hv2"},
    },
    "links": [{"endpoints": ["a:eth1", "b:eth1"], "impair": {"delay": 20}}, "c:eth1 -- d:eth1"],
}
UP_TIMEOUT = 240  # s to bring the lab up or down
SERVE_TIMEOUT = 90  # s until the address is shown, and to end
# What another web site tries. The token in it is more than such a site can know.
EVIL = """<!DOCTYPE html><script>
const site = %(address)s;
const change = { method: "POST", body: JSON.stringify({ link: 1, down: true }) };
const tries = [
  fetch(site), fetch(site, { mode: "no-cors" }).then((r) => { if (!r.status) { throw r; } }),
  fetch(site + "carrier", change), fetch(site + "carrier", { ...change, mode: "no-cors" })
    .then((r) => { if (!r.status) { throw r; } }),
  new Promise((done, fail) => {
    const events = new EventSource(site + "events");
    events.onmessage = done; events.addEventListener("state", done); events.onerror = fail;
  }),
];
Promise.allSettled(tries).then((all) => { document.title = all.map((one) => one.status).join(); });
</script>"""


class Lab:
    """The lab, its inventory and its playbooks, in a folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.env = environment(ANSIBLE_HOME=str(folder / "home"), COLUMNS="200")
        hosts = {name: {"lab_root": str(folder / name)} for name in ("hv1", "hv2")}
        variables = {"ansible_connection": "local", "lab_allow_container": True}
        variables["ansible_python_interpreter"] = sys.executable
        inventory = {"all": {"vars": variables, "children": {"hypervisors": {"hosts": hosts}}}}
        self.write("hosts.yml", inventory)
        self.write("pair.yml", LAB)

    def write(self, name: str, data: object) -> None:
        """Write a YAML file."""
        (self.folder / name).write_text(yaml.safe_dump(data), encoding="utf-8")

    def command(self, playbook: str, **variables: object) -> list[str]:
        """Return the command for a playbook of the collection."""
        given = {"lab_hosts": "hypervisors", "lab_topology": str(self.folder / "pair.yml")}
        words = ["ansible-playbook", "-i", str(self.folder / "hosts.yml"), f"vlab.qemu.{playbook}"]
        return [*words, "-e", json.dumps({**given, **variables})]

    def run(self, command: list[str]) -> None:
        """Run a command to its end."""
        done = subprocess.run(
            command,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=UP_TIMEOUT,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stdout.decode(errors="replace")[-4000:])

    def set_state(self, host: str, node: str, state: str) -> None:
        """Set the state of a node."""
        options = {"name": node, "lab": "pair", "root": str(self.folder / host), "state": state}
        options["allow_container"] = "true"
        text = " ".join(f"{name}={value}" for name, value in options.items())
        words = ["ansible", "-i", str(self.folder / "hosts.yml"), host, "-m", "vlab.qemu.qemu_vm"]
        self.run([*words, "-a", text])


class Served:
    """A running playbook vlab.qemu.live on a terminal. address: of its page."""

    def __init__(self, lab: Lab, writable: bool) -> None:
        self._terminal, other_side = pty.openpty()
        self._output = b""
        self.process = subprocess.Popen(
            # The session makes it the terminal that Ctrl-C is typed on.
            ["setsid", "--ctty", "--wait", *lab.command("live", lab_live_write=writable)],
            env=lab.env,
            stdin=other_side,
            stdout=other_side,
            stderr=other_side,
        )
        os.close(other_side)
        found = self._wait_for(rb"(http://127\.0\.0\.1:\d+/[\w-]+/) \(([\w-]+)\)")
        self.address, self.mode = found[1].decode(), found[2].decode()

    def _wait_for(self, pattern: bytes) -> re.Match[bytes]:
        deadline = time.monotonic() + SERVE_TIMEOUT
        while True:
            found = re.search(pattern, self._output)
            if found:
                return found
            left = deadline - time.monotonic()
            if not select.select([self._terminal], [], [], max(0, left))[0]:
                raise TimeoutError(f"{pattern!r} is not in:\n{self._output.decode()[-3000:]}")
            self._output += os.read(self._terminal, 1 << 16)

    def end(self) -> int:
        """Type Ctrl-C; return the exit code."""
        os.write(self._terminal, b"\x03")
        with contextlib.suppress(OSError):  # of a terminal without programs
            self._wait_for(rb"failed=\d+\s+skipped=\d+.*\n.*failed=\d+\s+skipped=\d+[^\n]*\n")
        return self.process.wait(SERVE_TIMEOUT)

    def close(self) -> None:
        """End it, also after a failure."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._terminal)


@contextlib.contextmanager
def served(lab: Lab, writable: bool) -> Iterator[Served]:
    """Serve the picture of a lab."""
    one = Served(lab, writable)
    try:
        yield one
    finally:
        one.close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def other_site(folder: pathlib.Path, page: str) -> Iterator[str]:
    """Serve a page at another port of loopback; yield its address."""
    folder.mkdir()
    (folder / "index.html").write_text(page, encoding="utf-8")
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def card(node: str, style: str) -> str:
    """Return the expression for a node with a style."""
    return f"!!document.querySelector(\".vl-node.vl-{style}[data-node='{node}']\")"


def wire(number: int, is_down: bool) -> str:
    """Return the expression for the state of a link."""
    found = f"document.querySelector(\".vl-link[data-link='{number}']\")"
    return f"{found}.classList.contains('vl-down') === {json.dumps(is_down)}"


def click(page: Browser, selector: str) -> None:
    """Click on an element."""
    page.value(f"document.querySelector({json.dumps(selector)}).click()")


def follow_states(lab: Lab, page: Browser) -> None:
    """The page shows all states, follows changes without being loaded, and shows counters."""
    for node in "abcd":
        page.until(card(node, "up"))
    page.value("window.isTheSamePage = true")
    page.until("document.querySelector(\"td[data-traffic='0']\").textContent.includes('delay 20')")
    lab.set_state("hv2", "c", "stopped")
    page.until(card("c", "off"))
    page.until(wire(1, True))
    page.until("document.querySelector('[data-row=c]').textContent.includes('stopped')")
    page.until("document.getElementById('summary').textContent.includes('1 stopped')")
    lab.set_state("hv2", "c", "started")
    page.until(card("c", "up"))
    page.until(wire(1, False))
    assert page.value("window.isTheSamePage")


def change_carrier(page: Browser) -> None:
    """A link is cut and restored."""
    button = ".panel article.chosen button[data-carrier='0']"
    click(page, "[data-choose='a']")
    page.until(f"document.querySelector({json.dumps(button)}).textContent === 'Cut'")
    click(page, button)
    page.until(wire(0, True))
    page.until(f"document.querySelector({json.dumps(button)}).textContent === 'Restore'")
    click(page, button)
    page.until(wire(0, False))


def use_console(page: Browser, node: str) -> None:
    """A console takes input and shows the answer of the guest."""
    click(page, f"[data-choose='{node}']")
    click(page, f"button[data-console='{node}']")
    page.until("!!document.querySelector('#consoles .xterm-rows')")
    page.type("")
    page.type("echo $((6 * 7))-$(hostname)")
    page.until(f"document.querySelector('#consoles .xterm-rows').textContent.includes('42-{node}')")


def be_attacked(page: Browser, folder: pathlib.Path, address: str) -> None:
    """Another web site can neither read nor change anything, although it has the token."""
    with other_site(folder, EVIL % {"address": json.dumps(address)}) as site:
        page.go(site)
        page.until("document.title !== ''")
        assert page.value("document.title") == ",".join(["rejected"] * 5), page.value(
            "document.title"
        )


def write_page(lab: Lab, page: Browser, screenshot: str | None) -> None:
    """Test the page with consoles."""
    with served(lab, True) as one:
        assert one.mode == "write"
        page.go(one.address)
        follow_states(lab, page)
        change_carrier(page)
        use_console(page, "a")
        if screenshot:
            image = page.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
            pathlib.Path(screenshot).write_bytes(base64.b64decode(image))
        assert not page.problems, page.problems
        assert processes_with(lab.folder, "socat")
        be_attacked(page, lab.folder / "site", one.address)
        page.go(one.address)
        page.until(card("a", "up"))
        assert page.value(wire(1, False)), "another web site has cut a link"
        until(lambda: not processes_with(lab.folder, "socat"), "the console ends with its page", 30)
        use_console(page, "d")
        code = one.end()
        assert code == 0, f"Ctrl-C: exit code {code}"
        page.until("document.getElementById('live').textContent.includes('has ended')")
        until(lambda: not processes_with(lab.folder, "socat"), "the console ends with it", 10)
    page.problems.clear()


def read_only_page(lab: Lab, page: Browser) -> None:
    """Test the page as it is by default."""
    with served(lab, False) as one:
        assert one.mode == "read-only"
        page.go(one.address)
        page.until(card("b", "up"))
        assert not page.value("document.querySelectorAll('[data-carrier], [data-console]').length")
        assert not page.problems, page.problems
        asked = 'fetch("carrier", {method: "POST", body: JSON.stringify({link: 0, down: true}),'
        asked += ' headers: {"Content-Type": "application/json"}}).then((answer) => answer.status)'
        assert page.value(asked) == 403
        assert one.end() == 0


def processes_with(folder: pathlib.Path, program: str) -> list[str]:
    """Return the command lines of a program that contain a folder."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if words[0].endswith(program) and any(str(folder) in word for word in words):
                found.append(" ".join(words))
    return found


def main() -> int:
    """Run the test; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--screenshot", help="write a picture of the page")
    screenshot = parser.parse_args().screenshot
    for program, package in (("socat", "socat"), ("dot", "graphviz"), ("chromium", "chromium")):
        need_program(program, package)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vlab-live-"))
    lab = Lab(folder)
    try:
        lab.run(lab.command("lab", lab_guest_images=["tiny"]))
        with browser(folder / "profile") as page:
            write_page(lab, page, screenshot)
            read_only_page(lab, page)
        left = processes_with(folder, "ansible-playbook")
        assert not left, left
    finally:
        lab.run(lab.command("lab", lab_action="down"))
        shutil.rmtree(folder, ignore_errors=True)
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
