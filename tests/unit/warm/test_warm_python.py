# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[3] / "tests/warm/warm_python.py"
REPORT = """
import atexit, json, os, sys
report = {"argv": sys.argv, "stdin": None if sys.argv[1:] else "", "folder": os.getcwd()}
umask = os.umask(0o22)
report.update(umask=umask, variable=os.environ.get("VLAB_TEST"), parent=os.getppid())
print(json.dumps(report))
atexit.register(print, "at the end")
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Variables with which a server is used by this module's tests alone; end it at the end."""
    python = tmp_path_factory.mktemp("python") / "python3"
    python.symlink_to(sys.executable)
    yield str(python)
    subprocess.run(["pkill", "-f", "%s .*--serve" % python], check=False)


def run(python, *arguments, **options):
    command = [sys.executable, "-ISE", str(SCRIPT), python, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_a_module_on_standard_input(servers, tmp_path):
    done = run(
        servers,
        input=REPORT,
        cwd=tmp_path,
        env={**os.environ, "VLAB_TEST": "x y"},
        preexec_fn=lambda: os.umask(0o27),
    )
    line, end = done.stdout.splitlines()
    report = json.loads(line)
    assert (done.returncode, end, done.stderr) == (0, "at the end", "")
    assert (report["argv"], report["folder"]) == ([""], str(tmp_path))
    assert (report["umask"], report["variable"]) == (0o27, "x y")


def test_modules_of_one_user_have_one_server(servers, tmp_path):
    reports = [run(servers, input=REPORT).stdout.split("\n")[0] for number in range(2)]
    parents = {json.loads(report)["parent"] for report in reports}
    assert len(parents) == 1


def test_a_module_in_a_file(servers, tmp_path):
    path = tmp_path / "AnsiballZ_x.py"
    path.write_text("import sys\nprint(sys.argv, __file__, __name__)\nsys.exit(3)\n")
    done = run(servers, str(path))
    assert (done.returncode, done.stdout) == (3, "%r %s __main__\n" % ([str(path)], path))


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("raise ValueError('so')", 1, "ValueError: so"),
        ("import sys\nsys.exit('reported')", 1, "reported"),
        ("import sys\nsys.exit()", 0, ""),
        ("import os\nos.kill(os.getpid(), 9)", 137, ""),
        ("syntax error", 1, "SyntaxError"),
    ],
)
def test_how_a_module_ends(servers, code, status, error):
    done = run(servers, input=code)
    assert done.returncode == status and error in done.stderr


def test_what_is_no_module_is_run_by_the_interpreter(servers):
    done = run(servers, "-c", "import os, sys; print(sys.argv, os.getppid())", "a b")
    assert done.stdout == "['-c', 'a b'] %d\n" % os.getpid()


def test_an_archive_with_other_files_has_its_own_modules(servers, tmp_path):
    """What the server has of one archive is not used for another with the same names."""
    import zipfile

    def module(version):
        archive = tmp_path / ("%s.zip" % version)
        with zipfile.ZipFile(archive, "w") as opened:
            for package in ("", "module_utils/", "module_utils/_internal/"):
                opened.writestr("ansible/%s__init__.py" % package, "")
            opened.writestr("ansible/module_utils/_internal/_ansiballz/__init__.py", "")
            opened.writestr("ansible/module_utils/_internal/_ansiballz/_loader.py", "")
            opened.writestr("ansible/module_utils/basic.py", "VERSION = %r\n" % version)
        return (
            "import sys\nsys.path.insert(0, %r)\n"
            "from ansible.module_utils import basic\nprint(basic.VERSION)\n" % str(archive)
        )

    output = [run(servers, input=module(version)).stdout for version in ("a", "a", "b", "a")]
    assert output == ["a\n", "a\n", "b\n", "a\n"]
