# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a topology comes from: an owner, a file, a git repository, a playbook's folder."""

from __future__ import annotations

import pytest

from ansible_collections.vlab.qemu.plugins.plugin_utils._lab.topology_origin import (
    origin_of,
    repository_name,
)

CONFIG = """[core]
\tbare = false
[remote "backup"]
\turl = /mnt/backup.git
[remote "origin"]
\tfetch = +refs/heads/*:refs/remotes/origin/*
\turl = https://ci-token:secret@Git.Example/acme/labs.git
[branch "main"]
\turl = nothing
"""


@pytest.mark.parametrize(
    "url, name",
    [
        ("https://git.example/acme/labs.git", "git.example/acme/labs"),
        ("https://token:secret@git.example:8443/acme/labs/", "git.example/acme/labs"),
        ("ssh://git@Git.Example:22/acme/labs.git", "git.example/acme/labs"),
        ("git@git.example:acme/labs.git", "git.example/acme/labs"),
        ("git.example:/acme/labs", "git.example/acme/labs"),
        ("https://[::1]:80/labs", "[::1]/labs"),
        ("file:///srv/labs.git", "/srv/labs"),
        ("/srv/labs.git/", "/srv/labs"),
        ("../labs", "/builds/labs"),
    ],
)
def test_a_repository_has_one_name(url, name):
    assert repository_name(url, "/builds/1") == name


def checkout(folder, config=CONFIG):
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "config").write_text(config, encoding="utf-8")
    (folder / "labs").mkdir()
    (folder / "labs" / "lab.yml").touch()
    return folder


def test_all_checkouts_of_a_repository_are_one_origin(tmp_path):
    for number in "12":
        root = checkout(tmp_path / number)
        path = root / "labs" / "lab.yml"
        assert origin_of(None, str(path), "/") == "git.example/acme/labs/labs/lab.yml"
        assert origin_of("", None, str(root / "labs")) == "git.example/acme/labs/"
        link = tmp_path / ("link" + number)
        link.symlink_to(path)
        assert origin_of(None, str(link), None) == "git.example/acme/labs/labs/lab.yml"


def test_worktrees_and_submodules(tmp_path):
    root = checkout(tmp_path / "main")
    (root / ".git" / "worktrees" / "w").mkdir(parents=True)
    (root / ".git" / "worktrees" / "w" / "commondir").write_text("../..\n", encoding="utf-8")
    worktree = tmp_path / "w"
    worktree.mkdir()
    (worktree / ".git").write_text("gitdir: ../main/.git/worktrees/w\n", encoding="utf-8")
    assert origin_of(None, str(worktree / "x.yml"), None) == "git.example/acme/labs/x.yml"


@pytest.mark.parametrize("config", ["", '[remote "origin"]\n', "[remote\nurl", None])
def test_without_a_remote_it_is_the_path(tmp_path, config):
    root = checkout(tmp_path / "x", config or "")
    if config is None:
        (root / ".git" / "config").unlink()
    assert origin_of(None, str(root / "lab.yml"), "/") == str(root / "lab.yml")
    assert origin_of(None, None, str(root)) == str(root) + "/"


@pytest.mark.parametrize(
    "given, origin",
    [
        ((" ann ", "/x.yml", "/y"), "owner ann"),
        (("", "/no/x.yml", "/y"), "/no/x.yml"),
        ((" ", None, "/no/../y"), "/y/"),
        ((None, None, "/"), "/"),
        ((None, None, None), None),
    ],
)
def test_an_owner_precedes_a_file_and_that_a_playbook(given, origin):
    assert origin_of(*given) == origin
