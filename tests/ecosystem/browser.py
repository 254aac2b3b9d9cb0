# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A headless Chromium, controlled through its DevTools protocol on a pair of pipes."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from tools import need_program

_TIMEOUT = 60  # s for an answer
_START = 'exec "$@" 3<&"$VLAB_IN" 4>&"$VLAB_OUT"'


class Browser:
    """A browser with one page. problems: what its console and its security policy reported."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.problems: list[str] = []
        self._last, self._session, self._buffer = 0, "", b""
        from_us, self._output = os.pipe()
        self._input, to_us = os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options += ["--remote-debugging-pipe", f"--user-data-dir={folder}", "--no-first-run"]
        options += ["--window-size=1400,1000", "--disable-background-networking", "about:blank"]
        self.process = subprocess.Popen(
            ["sh", "-c", _START, "sh", need_program("chromium", "chromium"), *options],
            env={**os.environ, "VLAB_IN": str(from_us), "VLAB_OUT": str(to_us)},
            pass_fds=(from_us, to_us),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(from_us)
        os.close(to_us)

    def open(self) -> None:
        """Use the first page."""
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        found = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._output, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + _TIMEOUT
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            if not select.select([self._input], [], [], max(0, left))[0]:
                raise TimeoutError(f"the browser did not answer within {_TIMEOUT} s")
            part = os.read(self._input, 1 << 16)
            if not part:
                raise EOFError("the browser has ended")
            self._buffer += part
        text, _end, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(event["params"]["exceptionDetails"])[:500])
        elif event.get("method") == "Log.entryAdded":
            entry = event["params"]["entry"]
            # A page whose server has ended asks for it again and again.
            if entry["level"] == "error" and entry["source"] != "network":
                self.problems.append(f"{entry['source']}: {entry['text']}"[:500])

    def go(self, address: str) -> None:
        """Load a page."""
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression: str) -> Any:
        """Return the value of an expression, also of a promise."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {json.dumps(found['exceptionDetails'])[:500]}")
        return found["result"].get("value")

    def until(self, expression: str, timeout: float = 40) -> None:
        """Wait until an expression is true. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while not self.value(expression):
            if time.monotonic() > deadline:
                body = self.value("document.body.innerText")
                raise TimeoutError(f"not within {timeout:g} s: {expression}\n{body}")
            time.sleep(0.2)

    def type(self, text: str) -> None:
        """Type text and Enter into the focused element."""
        self.call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key="Enter",
                code="Enter",
                text="\r" if kind == "keyDown" else "",
                windowsVirtualKeyCode=13,
            )


@contextlib.contextmanager
def browser(folder: pathlib.Path) -> Iterator[Browser]:
    """Run a browser."""
    one = Browser(folder)
    try:
        one.open()
        yield one
    finally:
        one.process.terminate()
        one.process.wait(20)
