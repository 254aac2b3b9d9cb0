# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What the page of the live picture can ask for, without HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple

from ansible.errors import AnsibleError

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.consoles import Console, Consoles
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.page import live_page, packaged_file
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.state import Endpoint, LiveState
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.stream import Stream

_NO_CONTENT = "default-src 'none'"
_FILES = {"xterm.js": "xterm/xterm.js", "xterm.css": "xterm/xterm.css"}
SetCarrier = Callable[[list[Endpoint], bool], None]


class Answer(NamedTuple):
    """An answer to a request. type: html, js, css or json. policy: the content security policy."""

    status: HTTPStatus
    type: str
    body: bytes
    policy: str = _NO_CONTENT

    @classmethod
    def data(cls, content: Any, status: HTTPStatus = HTTPStatus.OK) -> Answer:
        """Return an answer with data."""
        return cls(status, "json", json.dumps(content).encode("utf-8"))

    @classmethod
    def error(cls, status: HTTPStatus, reason: str) -> Answer:
        """Return an answer with an error."""
        return cls.data({"error": reason}, status)


class _Invalid(Exception):
    """A request with missing or wrong parameters."""


class Picture:
    """The live picture of a lab. writable: whether it has consoles and changes carriers.

    set_carrier: removes or restores the carrier at ends of a link. wake: queries the hypervisors.
    """

    def __init__(
        self,
        state: LiveState,
        writable: bool,
        set_carrier: SetCarrier,
        wake: Callable[[], None],
        hint: str,
    ) -> None:
        self._state, self._set_carrier, self._wake = state, set_carrier, wake
        self._writable, self._hint = writable, hint
        self._lock = threading.Lock()
        self._streams: dict[str, Stream] = {}
        self._consoles = Consoles()
        self._posts: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "carrier": self._carrier,
            "console": self._open_console,
            "input": self._input,
            "close": self._close_console,
        }

    @property
    def has_pages(self) -> bool:
        """Whether a page is open."""
        with self._lock:
            return bool(self._streams)

    def publish(self) -> None:
        """Send the state of the lab to all pages."""
        with self._lock:
            streams = list(self._streams.values())
        if streams:
            state = self._state.json()
            for stream in streams:
                stream.put_state(state)

    def open_stream(self) -> Stream:
        """Return the event stream of a page that was opened."""
        stream = Stream()
        with self._lock:
            self._streams[stream.identity] = stream
        stream.put_state(self._state.json())
        self._wake()
        return stream

    def close_stream(self, stream: Stream) -> None:
        """End the stream of a page, and its consoles."""
        stream.close()
        with self._lock:
            self._streams.pop(stream.identity, None)
        self._consoles.close(stream)

    def end(self) -> None:
        """End all streams and consoles."""
        with self._lock:
            streams = list(self._streams.values())
        for stream in streams:
            stream.close()
        self._consoles.close()

    def get(self, route: str) -> Answer:
        """Answer a GET."""
        if route == "":
            text, policy = live_page(self._state.view(), self._writable)
            return Answer(HTTPStatus.OK, "html", text.encode("utf-8", "replace"), policy)
        if route in _FILES and self._writable:
            return Answer(HTTPStatus.OK, route.rpartition(".")[2], packaged_file(_FILES[route]))
        return Answer.error(HTTPStatus.NOT_FOUND, "there is no such page")

    def post(self, route: str, body: bytes) -> Answer:
        """Answer a POST."""
        handle = self._posts.get(route)
        if handle is None:
            return Answer.error(HTTPStatus.NOT_FOUND, "there is no such request")
        if not self._writable:
            return Answer.error(HTTPStatus.FORBIDDEN, "the page is read-only: %s" % self._hint)
        try:
            parameters = json.loads(body)
            if not isinstance(parameters, dict):
                raise _Invalid("the request is not a JSON object")
            return handle(parameters)
        except (ValueError, RecursionError):
            return Answer.error(HTTPStatus.BAD_REQUEST, "the request is not JSON")
        except _Invalid as error:
            return Answer.error(HTTPStatus.BAD_REQUEST, str(error))
        except HostError as error:
            return Answer.error(HTTPStatus.CONFLICT, error.message)
        except (AnsibleError, OSError) as error:
            return Answer.error(HTTPStatus.BAD_GATEWAY, str(error))

    def _carrier(self, parameters: dict[str, Any]) -> Answer:
        number, down = _value(parameters, "link", int), _value(parameters, "down", bool)
        ends = self._state.endpoints(number)
        if not ends:
            return Answer.error(HTTPStatus.NOT_FOUND, "no hypervisor has a VM of this link")
        self._set_carrier(ends, down)
        self._wake()
        return Answer.data({})

    def _open_console(self, parameters: dict[str, Any]) -> Answer:
        stream = self._stream(parameters)
        node = _value(parameters, "node", str)
        command = self._state.console_command(node)
        if not command:
            return Answer.error(HTTPStatus.NOT_FOUND, "%s has no console that can be opened" % node)
        return Answer.data({"console": self._consoles.open(command, stream)})

    def _input(self, parameters: dict[str, Any]) -> Answer:
        self._console(parameters).type(_value(parameters, "text", str))
        return Answer.data({})

    def _close_console(self, parameters: dict[str, Any]) -> Answer:
        self._console(parameters).close()
        return Answer.data({})

    def _stream(self, parameters: dict[str, Any]) -> Stream:
        with self._lock:
            stream = self._streams.get(_value(parameters, "stream", str))
        if stream is None:
            raise _Invalid("the page has no event stream")
        return stream

    def _console(self, parameters: dict[str, Any]) -> Console:
        identity = _value(parameters, "console", str)
        console = self._consoles.get(identity, self._stream(parameters))
        if console is None:
            raise _Invalid("the console has ended")
        return console


def _value(parameters: dict[str, Any], name: str, kind: type) -> Any:
    value = parameters.get(name)
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise _Invalid("%s is missing or has another type" % name)
    return value
