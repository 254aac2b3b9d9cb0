# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
import threading

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common import files, locks
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "x"
    path.write_text("a longer old content")
    files.write_atomically(str(path), "new\udcff")
    assert path.read_bytes() == b"new\xff"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["x"]


def test_what_a_killed_run_left_is_written_over(tmp_path):
    (tmp_path / ".x.new").write_text("half of something that was longer")
    files.write_atomically(str(tmp_path / "x"), b"whole")
    assert (tmp_path / "x").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["x"]


def test_many_writers_never_mix(tmp_path):
    path = str(tmp_path / "x")
    contents = [bytes([65 + number]) * 100_000 for number in range(8)]
    threads = [
        threading.Thread(target=files.write_atomically, args=(path, content))
        for content in contents
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "x").read_bytes() in contents
    assert os.listdir(tmp_path) == ["x"]


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(HostError, match="cannot write .*: No such file"):
        files.write_atomically(str(tmp_path / "no" / "x"), "")


@pytest.fixture(params=["nameless", "named"])
def kind(request, monkeypatch):
    """A file system with files that have no name, and one without."""
    if request.param == "named":
        really = os.open

        def refuse(path, flags, *args, **kwargs):
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "no")
            return really(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", refuse)
    return request.param


def test_new_file_appears_at_the_end(tmp_path, kind):
    with files.create_atomically(str(tmp_path / "x"), 0o640) as (handle, name):
        with open(name, "w", encoding="utf-8") as stream:
            stream.write("data")
        assert os.fstat(handle).st_size == 4
        assert not (tmp_path / "x").exists()
        if kind == "nameless":
            assert os.listdir(tmp_path) == []
    assert (tmp_path / "x").read_text() == "data"
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["x"]


def test_new_file_leaves_nothing_after_an_error(tmp_path, kind):
    with pytest.raises(ValueError), files.create_atomically(str(tmp_path / "x")):
        raise ValueError
    assert os.listdir(tmp_path) == []


def test_new_file_replaces_nothing(tmp_path, kind):
    with pytest.raises(FileExistsError), files.create_atomically(str(tmp_path / "x")):
        (tmp_path / "x").write_text("mine")
    assert (tmp_path / "x").read_text() == "mine"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("call", ["open", "pwrite", "flock", "mkdir", "chmod", "replace"])
def test_a_full_disk_is_an_error_with_the_path(tmp_path, monkeypatch, code, call):
    def refuse(*_args, **_more):
        raise OSError(code, os.strerror(code))

    path, folder = str(tmp_path / "lock"), tmp_path / "folder"
    if call == "chmod":
        folder.mkdir(mode=0o755)
    monkeypatch.setattr(files.fcntl if call == "flock" else os, call, refuse)
    with pytest.raises(HostError, match=os.strerror(code)) as caught:
        if call in ("mkdir", "chmod"):
            files.make_private_folder(str(folder))
        elif call == "replace":
            files.write_json(path, {})
        else:
            with locks.file_lock(path):
                pass
    assert caught.value.facts["path"] in (path, str(folder))


@pytest.mark.parametrize(
    "path, found", [("{}", "{}"), ("{}/a/b", "{}"), ("{}/file", "{}"), ("a/b", "{}"), ("", "{}")]
)
def test_the_folder_in_which_a_path_will_be(tmp_path, monkeypatch, path, found):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert files.existing_folder(path.format(tmp_path)) == found.format(tmp_path)
