# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Which requests the live picture answers: those of its own page, opened with its address.

The address contains a random token, which other users of this host and other web sites do not
know. A web site whose name resolves to 127.0.0.1 has another Host, and its requests another Origin.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

_NAMES = ("127.0.0.1", "localhost")
_JSON = "application/json"
# What a browser reports of a request: from the page itself, or by the user (bookmark, address bar).
_OWN_SITE = "same-origin"
_USER = "none"


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: HTTPStatus
    reason: str


def route_of(path: str, token: str) -> str | None:
    """Return the part of a path after the token; None without the token."""
    first, slash, route = path.partition("?")[0].removeprefix("/").partition("/")
    has_token = hmac.compare_digest(first.encode("utf-8", "replace"), token.encode("ascii"))
    return route if has_token and slash else None


def refusal(method: str, headers: Mapping[str, str], port: int) -> Refusal | None:
    """Return why a request with the token is not answered, None if it is.

    headers: by name, in lower case; those that occur twice joined with commas.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    if host not in ["%s:%d" % (name, port) for name in _NAMES]:
        return Refusal(HTTPStatus.MISDIRECTED_REQUEST, "the address is of another host")
    if origin not in (None, "http://" + host):
        return Refusal(HTTPStatus.FORBIDDEN, "the request is from another site")
    site = headers.get("sec-fetch-site", _OWN_SITE)
    if site != _OWN_SITE and (site, method) != (_USER, "GET"):
        return Refusal(HTTPStatus.FORBIDDEN, "the request is from another site")
    if method == "POST" and origin is None:
        return Refusal(HTTPStatus.FORBIDDEN, "the request has no Origin")
    if method == "POST" and headers.get("content-type", "") != _JSON:
        return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the request must be JSON")
    return None
