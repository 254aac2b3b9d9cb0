# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The HTTP server of the live picture, on loopback, for as long as its playbook runs."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._live.access import refusal, route_of
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.requests import Answer, Picture
from ansible_collections.vlab.qemu.plugins.plugin_utils._live.stream import Stream, first_event

_ADDRESS = "127.0.0.1"
_MAX_BODY = 1 << 16  # bytes of a request
_MAX_CONNECTIONS = 64
_READ_TIMEOUT = 30  # seconds for a request to arrive
_KEEP_ALIVE = 10  # seconds between two parts of an event stream
_TYPES = {
    "html": "text/html",
    "js": "text/javascript",
    "css": "text/css",
    "json": "application/json",
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class LiveServer(ThreadingHTTPServer):
    """Serves a Picture. port: 0 for one that is free. Raises OSError."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, picture: Picture, port: int = 0) -> None:
        self.picture, self.token = picture, secrets.token_urlsafe(32)
        self._connections = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__((_ADDRESS, port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)

    @property
    def address(self) -> str:
        """The address of the page."""
        return "http://%s:%d/%s/" % (_ADDRESS, self.server_port, self.token)

    def __enter__(self) -> LiveServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.picture.end()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def server_bind(self) -> None:
        """Bind the socket; do not look up the name of this host."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = _ADDRESS, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread, unless there are too many."""
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore connections that end early: browsers do that when a page is closed."""


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: LiveServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "vlab.qemu", ""
    timeout = _READ_TIMEOUT

    def do_GET(self) -> None:
        """Answer a GET."""
        self._handle("GET")

    def do_POST(self) -> None:
        """Answer a POST."""
        self._handle("POST")

    def log_message(self, format: str, *args: Any) -> None:  # pylint: disable=redefined-builtin
        """Log nothing: the log would contain the token, and the worker has no terminal."""

    def _handle(self, method: str) -> None:
        body = self._body()
        if body is None:
            return
        route = route_of(self.path, self.server.token)
        if route is None:
            self._send(Answer.error(HTTPStatus.NOT_FOUND, "there is no such page"))
            return
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            before = headers.get(name.lower())
            headers[name.lower()] = value if before is None else "%s, %s" % (before, value)
        refused = refusal(method, headers, self.server.server_port)
        if refused is not None:
            self._send(Answer.error(*refused))
        elif (method, route) == ("GET", "events"):
            self._stream()
        elif method == "GET":
            self._send(self.server.picture.get(route))
        else:
            self._send(self.server.picture.post(route, body))

    def _body(self) -> bytes | None:
        """Return the body of a request; None if it was refused."""
        length = self.headers.get("Content-Length") or "0"
        is_number = length.isascii() and length.isdigit()
        if "Transfer-Encoding" in self.headers or not is_number or int(length) > _MAX_BODY:
            self.close_connection = True
            self._send(
                Answer.error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request is too large")
            )
            return None
        return self.rfile.read(int(length))

    def _send(self, answer: Answer) -> None:
        self._send_head(answer.status, answer.type, answer.policy)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def _send_head(self, status: HTTPStatus, content_type: str, policy: str) -> None:
        self.send_response(status)
        text = _TYPES.get(content_type, content_type)
        self.send_header("Content-Type", "%s; charset=utf-8" % text)
        self.send_header("Content-Security-Policy", policy)
        for name, value in _HEADERS.items():
            self.send_header(name, value)

    def _stream(self) -> None:
        """Send events until the page is closed or the playbook ends."""
        self.close_connection = True
        self._send_head(HTTPStatus.OK, "text/event-stream", "default-src 'none'")
        self.send_header("Connection", "close")
        self.end_headers()
        with self._opened() as stream:
            part: bytes | None = first_event(stream)
            while part is not None:
                self.wfile.write(part)
                part = stream.next(_KEEP_ALIVE)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Stream]:
        stream = self.server.picture.open_stream()
        try:
            yield stream
        finally:
            self.server.picture.close_stream(stream)
