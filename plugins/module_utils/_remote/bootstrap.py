# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The program that a controller runs on a hypervisor: it handles one request.

The controller sends the text of this module and of those that it imports from this package, then
the request (plugin_utils/_remote/client.py). Everything else comes from the code bundle.
"""

from __future__ import annotations

import gc
import importlib
import io
import sys

from ansible_collections.vlab.qemu.plugins.module_utils._remote.code_bundle import (
    PACKAGE,
    cache_failure,
    load,
)
from ansible_collections.vlab.qemu.plugins.module_utils._remote.protocol import (
    CODE_BUNDLE_MISSING,
    Message,
    handle_request,
    read_message,
    write_message,
)


def main() -> None:
    """Handle the request on standard input.

    Its content: `code_bundle` (a digest), `service` (a module with HANDLERS), and what the handler
    needs. Its data: that for the handler, then the archive of the code bundle if the host has none.
    """
    request = read_message(sys.stdin.buffer)
    if request is None:
        raise SystemExit("there is no request on standard input")
    target = sys.stdout.buffer
    archive = io.BytesIO(request.pieces[1]) if len(request.pieces) > 1 else None
    try:
        loaded = load(request.content["code_bundle"], archive)
    except OSError as error:
        raise SystemExit(cache_failure(error))
    if loaded:
        # What is imported stays: the collector of garbage need not look at it, now and later.
        gc.disable()
        service = importlib.import_module("%s.%s" % (PACKAGE, request.content["service"]))
        gc.freeze()
        gc.enable()
        handle_request(service.HANDLERS, request, target)
    else:
        write_message(target, Message(request.token, CODE_BUNDLE_MISSING, {}))
