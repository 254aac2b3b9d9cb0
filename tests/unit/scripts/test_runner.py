# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests for scripts/runner.py."""

from __future__ import annotations

import pathlib
import sys
import time

import pytest

SCRIPTS = pathlib.Path(__file__).resolve().parents[3] / "scripts"
# The collection is built without scripts.
pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir(), reason="scripts are not here")
sys.path.insert(0, str(SCRIPTS))
runner = pytest.importorskip("runner")


def run(tmp_path, script, timeout=20.0, on_line=None):
    programs = runner.Programs(grace=0.5)
    command = ["/bin/sh", "-c", script]
    log = tmp_path / "log"
    return programs.run(command, log, timeout, cwd=tmp_path, env={}, on_line=on_line)


def test_exit_code_and_log(tmp_path):
    assert run(tmp_path, "echo one; echo two >&2; exit 3") == 3
    assert (tmp_path / "log").read_text(encoding="utf-8") == "one\ntwo\n"


def test_lines_also_without_a_last_newline(tmp_path):
    lines = []
    assert run(tmp_path, "printf 'a\\n\\nb'", on_line=lines.append) == 0
    assert lines == ["a", "", "b"]


def test_timeout_ends_the_program_and_its_children(tmp_path):
    started = time.monotonic()
    script = "trap '' TERM; echo $$ >pid; sleep 60 & wait; sleep 60"
    assert run(tmp_path, script, timeout=0.3) == runner.TIMED_OUT
    assert time.monotonic() - started < 20
    pid = (tmp_path / "pid").read_text(encoding="utf-8").strip()
    assert not pathlib.Path("/proc", pid).exists()


def test_a_child_that_keeps_the_output_open_does_not_block(tmp_path):
    started = time.monotonic()
    assert run(tmp_path, "sleep 5 & exit 0") == 0
    assert time.monotonic() - started < 4


def test_counts_and_exit_code(capsys):
    assert [runner.print_counts(2, 0), runner.print_counts(2, 1), runner.print_counts(0, 0)] == [
        0,
        1,
        1,
    ]
    assert capsys.readouterr().out.splitlines()[1] == "2 passed, 1 failed"
