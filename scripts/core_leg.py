# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the collection with another ansible-core: imports, unit tests, sanity, a short QEMU run.

    python scripts/core_leg.py SPECIFICATION [FILE...]

SPECIFICATION is for example "ansible-core>=2.21,<2.22", or "newest" for the newest release or
pre-release. FILE: what pylint checks, all files by default; "none" for no file. The tests run on a
fresh Debian 13, whose Python every supported ansible-core accepts. The virtual environment is kept
in the cache.
"""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/fresh"))
sys.path.insert(0, str(ROOT / "scripts"))

MACHINE = "debian-13"
PACKAGES = ["python3-venv", "git", "graphviz", "qemu-system-x86", "qemu-utils"]
# Runs there, in a copy of the collection.
INSIDE = r"""
set -eu
venv=/opt/core/venv
[ -x $venv/bin/python ] || python3 -m venv $venv
scripts/pip_install $venv/bin/python %(pre)s '%(specification)s' -r requirements.txt \
    mock pytest pytest-mock pytest-xdist
echo "core: $($venv/bin/ansible --version | head -n 1) with $(python3 --version)"
mkdir -p /opt/copy/ansible_collections/vlab
cp -a . /opt/copy/ansible_collections/vlab/qemu
cd /opt/copy/ansible_collections/vlab/qemu
git init --quiet . && git add --all --force
export HOME=/opt/core/home ANSIBLE_COLLECTIONS_PATH=/opt/copy PATH=$venv/bin:$PATH
export PYTHONDONTWRITEBYTECODE=1 ANSIBLE_NOCOLOR=1
export VLAB_TEST_BYTECODE=/opt/core/bytecode
failed=0
step() {
    name=$1
    shift
    if "$@"; then echo "leg ok: $name"; else echo "leg FAILED: $name"; failed=1; fi
}
units() {
    set -- -q -c pytest.ini -o pythonpath=/opt/copy -o cache_dir=/tmp/pytest "$@"
    python -m pytest -n 4 "$@" && return
    # As in the main run: a busy machine can make a test fail.
    python -m pytest "$@" --last-failed && echo "flaky: units passed on the second try"
}
python scripts/core_leg.py --home
pylint=%(pylint)s skip=
# The ansible-test of a pre-release may require packages that are not in a package index.
requirements=$venv/lib/python3*/site-packages/ansible_test/_data/requirements
if grep -q '@ *https\?:' $requirements/sanity.pylint.txt; then
    echo 'not run: pylint, whose requirements in this ansible-test are not in a package index'
    pylint=none
fi
sanity() {
    set -- ansible-test sanity --color no --allow-disabled --python default
    "$@" --skip-test pylint %(skip)s || return
    # shellcheck disable=SC2086
    [ "$pylint" = none ] || "$@" --test pylint %(exclude)s $pylint
}
[ "$pylint" != none ] || skip='--skip-test pylint'
python scripts/core_leg.py --prepare $skip
step imports python scripts/core_leg.py --imports
step units units %(ignore)s
step sanity sanity
step smoke env ANSIBLE_CONFIG=ansible.cfg ansible-playbook tests/integration/smoke.yml
exit $failed
"""
STEPS = ("imports", "units", "sanity", "smoke")
# Sanity tests that do not depend on the version of ansible-core; the main run has them.
SAME_EVERYWHERE = (
    "yamllint",
    "shellcheck",
    "symlinks",
    "line-endings",
    "no-smart-quotes",
    "shebang",
    "empty-init",
    "pep8",
)
# Their files are the same for every ansible-core: the main run has them.
WITHOUT_ANSIBLE = ("tests/", "scripts/")


def imports() -> int:
    """Import every Python file of plugins; return the exit code."""
    import importlib

    from ansible.plugins.loader import init_plugin_loader

    init_plugin_loader([])
    names = [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in sorted((ROOT / "plugins").rglob("*.py"))
    ]
    for name in names:
        importlib.import_module("ansible_collections.vlab.qemu." + name)
    print("%d files import" % len(names))
    return 0


def same_in_all_legs() -> list[str]:
    """Return the unit tests of code for which the version of ansible-core makes no difference.

    On this Python, the leg of the newest ansible-core has them.
    """
    from import_graph import tests_without_ansible

    tests = [path.relative_to(ROOT).as_posix() for path in tests_without_ansible()]
    graph = "tests/unit/scripts/test_import_graph.py"
    return ["tests/unit/plugins/module_utils", graph, *tests]


def main(specification: str, pylint: list[str]) -> int:
    """Run the tests with an ansible-core; return the exit code.

    pylint: the files that it checks: none of them for all, "none" for no file.
    """
    from machine import WORK, machine, run
    from runner import print_counts
    from steps import CACHE

    newest = specification == "newest"
    exclude = " ".join("--exclude " + name for name in WITHOUT_ANSIBLE)
    values = {
        "pre": "--pre --upgrade" if newest else "",
        "specification": "ansible-core" if newest else specification,
        "skip": " ".join(["--skip-test " + name for name in SAME_EVERYWHERE] + [exclude]),
        "exclude": exclude,
        "pylint": shlex.quote(" ".join(pylint)),
        "ignore": "" if newest else " ".join("--ignore=" + path for path in same_in_all_legs()),
    }
    name = re.sub(r"[^\w.]+", "-", specification).strip("-")
    WORK.mkdir(parents=True, exist_ok=True)
    log = WORK / ("core-%s.log" % name)
    log.unlink(missing_ok=True)
    with machine(MACHINE, PACKAGES) as fresh:
        cache = CACHE / "core" / ("%s-%s" % (name, fresh.tree.name))
        code, output = run(fresh, "root", INSIDE % values, log, 2100, {"/opt/core": cache})
    print(output)
    passed = len(re.findall(r"^leg ok: ", output, re.MULTILINE))
    return print_counts(passed, len(STEPS) - passed) or code


if __name__ == "__main__":
    if sys.argv[1] == "--imports":
        sys.exit(imports())
    elif sys.argv[1] == "--home":
        from sanity import make_home

        make_home(pathlib.Path(os.environ["HOME"]))
    elif sys.argv[1] == "--prepare":
        from sanity import prepare_environments

        command = ["ansible-test", "sanity", "--color", "no", "--python", "default"]
        prepare_environments([*command, *sys.argv[2:]], dict(os.environ))
    else:
        sys.exit(main(sys.argv[1], sys.argv[2:]))
