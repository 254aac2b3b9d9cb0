# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the schema of topologies with yaml-language-server, as editors use it.

    python tests/ecosystem/editor.py [--node-modules FOLDER]

It installs yaml-language-server with npm into the folder of reusable files, opens the topology of
docs/topology.md, and checks completion, hover and the report of a mistake.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
from typing import Any

from tools import CACHE, ROOT, need_program

SCHEMA = ROOT / "docs/schema/topology.json"
PACKAGE = "yaml-language-server@>=1.18"
DEADLINE = 120  # s for the whole session


class Server:
    """A language server on standard input and output; a context manager."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.timer = threading.Timer(DEADLINE, self.process.kill)
        self.timer.daemon = True
        self.timer.start()
        self.last = 0

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self.timer.cancel()
        self.process.kill()
        self.process.wait()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        assert self.process.stdin is not None
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Return the next message; answer the server's own requests."""
        assert self.process.stdout is not None
        length = 0
        for line in iter(self.process.stdout.readline, b""):
            if not line.strip():
                break
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if not length:
            raise EOFError("yaml-language-server ended, or did not answer within its deadline")
        message: dict[str, Any] = json.loads(self.process.stdout.read(length))
        if "method" in message and "id" in message:
            items = message.get("params", {}).get("items", [])
            settings = [{"validate": True, "hover": True, "completion": True} for _item in items]
            is_query = message["method"] == "workspace/configuration"
            self.send({"id": message["id"], "result": settings if is_query else None})
        return message

    def request(self, method: str, params: dict[str, Any]) -> Any:
        """Return the result of a request."""
        self.last += 1
        self.send({"id": self.last, "method": method, "params": params})
        while True:
            message = self.receive()
            if message.get("id") == self.last and "method" not in message:
                return message["result"]

    def problems(self, uri: str) -> list[str]:
        """Return the messages that the server reports of a file."""
        while True:
            message = self.receive()
            if message.get("method") == "textDocument/publishDiagnostics":
                if message["params"]["uri"] == uri:
                    return [entry["message"] for entry in message["params"]["diagnostics"]]

    def open(self, name: str, text: str) -> str:
        """Open a file that need not exist; return its URI."""
        uri = (ROOT / name).as_uri()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self.send({"method": "textDocument/didOpen", "params": {"textDocument": document}})
        return uri


def position(text: str, after: str) -> dict[str, int]:
    """Return the position behind a text."""
    before = text[: text.index(after) + len(after)]
    return {"line": before.count("\n"), "character": len(before) - before.rfind("\n") - 1}


def server_command(folder: pathlib.Path) -> list[str]:
    """Return the command of the language server, installed into a folder if it is not there."""
    program = folder / "node_modules/.bin/yaml-language-server"
    if not program.exists():
        npm = need_program("npm", "npm")
        folder.mkdir(parents=True, exist_ok=True)
        install = [npm, "install", "--silent", "--prefix", str(folder), PACKAGE]
        subprocess.run(install, check=True)
    return [str(program), "--stdio"]


def example() -> str:
    """Return the first topology of docs/topology.md, with this tree's schema instead of the URL."""
    page = (ROOT / "docs/topology.md").read_text(encoding="utf-8")
    text = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0]
    url = json.loads(SCHEMA.read_text(encoding="utf-8"))["$id"]
    if text.splitlines()[0] != "# yaml-language-server: $schema=" + url:
        raise ValueError("the first topology of docs/topology.md does not name its schema")
    return str(text.replace(url, SCHEMA.as_uri()))


def checks(server: Server) -> dict[str, bool]:
    """Return whether each expectation holds."""
    folder = {"rootUri": ROOT.as_uri(), "processId": os.getpid()}
    client = {
        "workspace": {"configuration": True},
        "textDocument": {"publishDiagnostics": {}, "completion": {}, "hover": {}},
    }
    server.request("initialize", {**folder, "capabilities": client})
    server.send({"method": "initialized", "params": {}})
    valid = example()
    uri = server.open("valid.yml", valid)
    found = {"the example has no problem": server.problems(uri) == []}

    wrong = valid.replace("{r1: {}, r2: {}}", "\n  r1:\n    memroy: 512\n  r2: {}")
    problems = server.problems(server.open("wrong.yml", wrong))
    found["a wrong option is reported"] = problems == ["Property memroy is not allowed."]

    right = wrong.replace("memroy", "memory")
    where = position(right, "memo")
    hover = server.request(
        "textDocument/hover",
        {"textDocument": {"uri": server.open("right.yml", right)}, "position": where},
    )
    found["hover shows the documentation of memory"] = "memory of the guest" in str(hover)

    partial = wrong.replace("    memroy: 512\n", "    mem\n")
    items = server.request(
        "textDocument/completion",
        {
            "textDocument": {"uri": server.open("partial.yml", partial)},
            "position": position(partial, "    mem"),
        },
    )
    labels = {item["label"] for item in (items.get("items") if isinstance(items, dict) else items)}
    found["completion offers options of a node"] = {"memory", "kind", "hypervisor"} <= labels
    return found


def main() -> int:
    """Run the checks and print their counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--node-modules", type=pathlib.Path, default=CACHE / "editor")
    with Server(server_command(parser.parse_args().node_modules)) as server:
        found = checks(server)
    for name, holds in found.items():
        print(f"{'ok' if holds else 'failed'}: {name}")
    failed = sum(not holds for holds in found.values())
    print(f"{len(found) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
