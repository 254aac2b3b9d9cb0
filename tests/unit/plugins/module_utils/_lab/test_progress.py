# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._lab.progress import Progress


def test_lines_are_kept_and_written(tmp_path):
    path = tmp_path / "progress"
    progress = Progress(str(path))
    assert not path.exists()
    progress.add("a is running")
    progress.add("a is ready")
    assert progress.lines == ["a is running", "a is ready"]
    assert path.read_text(encoding="utf-8") == "a is running\na is ready\n"
    assert oct(path.stat().st_mode & 0o777) == "0o644"
    progress.remove_file()
    assert not path.exists()


@pytest.mark.parametrize("kind", ["file", "link", "missing folder"])
def test_a_file_of_another_user_is_not_written(tmp_path, kind):
    path, other = tmp_path / "progress", tmp_path / "other"
    other.write_text("theirs", encoding="utf-8")
    if kind == "file":
        path.write_text("theirs", encoding="utf-8")
    elif kind == "link":
        os.symlink(other, path)
    else:
        path = tmp_path / "missing" / "progress"
    progress = Progress(str(path))
    progress.add("one")
    progress.add("two")
    assert progress.lines == ["one", "two"] and other.read_text(encoding="utf-8") == "theirs"
    if kind == "file":
        progress.remove_file()
        assert path.read_text(encoding="utf-8") == "theirs"


def test_without_a_file_only_the_lines_are_kept():
    progress = Progress(None)
    progress.add("one")
    progress.remove_file()
    assert progress.lines == ["one"]
