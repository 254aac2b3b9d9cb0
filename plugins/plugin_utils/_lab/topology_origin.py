# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Where a topology comes from, as a lab records it.

It is the same for all checkouts of a git repository, so that a lab does not belong to a folder of
one job. See module_utils/_lab/origin.py for how origins are compared.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from ansible_collections.vlab.qemu.plugins.module_utils._lab.origin import OWNER_PREFIX

_MAX_BYTES = 1 << 20  # of a file of git


def origin_of(owner: str | None, path: str | None, folder: str | None) -> str | None:
    """Return the origin of a topology, None if it is not known.

    owner: the option. path: of its file, None for a topology in a playbook. folder: that of the
    playbook.
    """
    if owner and owner.strip():
        return OWNER_PREFIX + owner.strip()
    if path:
        path = os.path.realpath(path)
        root, remote = _repository(os.path.dirname(path))
        return "/".join((remote, os.path.relpath(path, root))) if remote else path
    if not folder:
        return None
    folder = os.path.realpath(folder)
    _root, remote = _repository(folder)
    return (remote or folder.rstrip("/")) + "/"


def _repository(folder: str) -> tuple[str, str | None]:
    """Return the folder of the git repository around a folder, and the name of its remote."""
    while True:
        if os.path.exists(os.path.join(folder, ".git")):
            return folder, _remote(folder)
        parent = os.path.dirname(folder)
        if parent == folder:
            return folder, None
        folder = parent


def _remote(root: str) -> str | None:
    """Return what names the remote of a git repository, None without one."""
    git = os.path.join(root, ".git")
    try:
        if os.path.isfile(git):
            # Of a worktree or a submodule.
            git = os.path.join(root, _read(git).partition("gitdir:")[2].strip())
        if os.path.isfile(os.path.join(git, "commondir")):
            git = os.path.join(git, _read(os.path.join(git, "commondir")).strip())
        config = _read(os.path.join(git, "config"))
    except OSError:
        return None
    urls: dict[str, str] = {}
    section = None
    for line in config.splitlines():
        header = re.match(r'\s*\[\s*(?:remote\s+"(.*)")?', line)
        setting = re.match(r"\s*url\s*=\s*(\S.*)", line)
        if header:
            section = header[1]
        elif setting and section is not None:
            urls.setdefault(section, setting[1].strip().strip('"'))
    url = urls.get("origin") or next((urls[name] for name in sorted(urls)), None)
    return repository_name(url, root) if url else None


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read(_MAX_BYTES)


def repository_name(url: str, root: str) -> str:
    """Return the host and path of a remote: the same for SSH and HTTPS, and without passwords.

    root: the folder that a relative path begins at.
    """
    host, path = "", url
    if re.match(r"[a-z][a-z0-9+.-]*://", url, re.IGNORECASE):
        parts = urlsplit(url)
        # Whatever is not a user and not a port; urlsplit's hostname refuses some.
        host = re.sub(r":\d*$", "", parts.netloc.rpartition("@")[2])
        path = parts.path
    elif re.match(r"[^/]+:", url):
        host, _colon, path = url.partition(":")
        host = host.rpartition("@")[2]
    elif not url.startswith("/"):
        path = os.path.normpath(os.path.join(root, url))
    path = re.sub(r"(/|\.git)*$", "", path)
    return "/".join((host.lower(), path.lstrip("/"))) if host else path
