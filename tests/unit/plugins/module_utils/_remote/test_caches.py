# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cache folder, and what is cached in it: code bundles, and the bytecode of modules."""

from __future__ import annotations

import io
import marshal
import os
import subprocess
import sys
import time
import types
import zipfile

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._remote import (
    bytecode_cache,
    cache_folder,
    code_bundle,
)

ROOT = os.path.dirname(os.path.abspath(bytecode_cache.__file__)).partition("/plugins/")[0]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The path of the cache folder, which does not exist yet."""
    folder = tmp_path / "cache"
    for module in (bytecode_cache, code_bundle):
        monkeypatch.setattr(module, "cache_folder", lambda: str(folder))
    return folder


def archive_of(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "value = 1\n")
    stream.seek(0)
    return stream


@pytest.fixture
def packages(monkeypatch):
    """The packages of the collection in a process that has imported some of them."""
    package = types.ModuleType(code_bundle.PACKAGE)
    package.__path__ = []
    lab = types.ModuleType(code_bundle.PACKAGE + "._lab")
    lab.__path__ = ["/archive/_lab"]
    found = {package.__name__: package, lab.__name__: lab, "other": types.ModuleType("other")}
    monkeypatch.setattr(code_bundle, "sys", types.SimpleNamespace(modules=found))
    return package, lab


def test_a_code_bundle_is_unpacked_once(cache, packages):
    assert not code_bundle.load("1234")
    assert code_bundle.load("1234", archive_of("_lab/one.py"))
    assert code_bundle.load("1234")
    assert oct(cache.stat().st_mode)[-3:] == "700"
    folder = cache / "bundle-1234"
    assert (folder / "_lab/__pycache__").is_dir()
    # Also a package that came with the module finds the rest of it in the code bundle.
    assert packages[0].__path__ == [str(folder) + "/"] * 2
    assert packages[1].__path__ == ["/archive/_lab"] + [str(folder / "_lab")] * 2


def test_a_code_bundle_stays_in_the_cache_folder(cache, packages):
    code_bundle.load("../1234", archive_of("_lab/one.py"))
    assert os.listdir(cache) == ["bundle-1234"]


@pytest.mark.parametrize("part", ["", "bundle-1234"])
@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_code_that_others_can_write_is_not_loaded(cache, packages, part, mode):
    code_bundle.load("1234", archive_of("_lab/one.py"))
    before = list(packages[0].__path__)
    (cache / part).chmod(mode)
    with pytest.raises(PermissionError, match="can be written to by other users"):
        code_bundle.load("1234")
    assert packages[0].__path__ == before


def test_a_damaged_archive_leaves_nothing(cache, packages):
    with pytest.raises(zipfile.BadZipFile):
        code_bundle.load("1234", io.BytesIO(b"no archive"))
    assert os.listdir(cache) == []


def test_unused_code_bundles_are_removed(cache, packages):
    cache.mkdir(mode=0o700)
    for number in range(8):
        folder = cache / ("bundle-%d" % number)
        folder.mkdir()
        os.utime(folder, (time.time() - 86400 - number * 60,) * 2)
    (cache / "bundle-7/of_today").touch()
    os.utime(cache / "bundle-7")
    code_bundle.load("8", archive_of("one.py"))
    assert sorted(os.listdir(cache)) == ["bundle-%d" % number for number in (0, 1, 2, 3, 7, 8)]


def test_another_user_or_a_link_is_not_trusted(tmp_path, monkeypatch):
    file = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        cache_folder.check_owner(str(file))
    file.touch(0o600)
    cache_folder.check_owner(str(file))
    (tmp_path / "link").symlink_to(file)
    with pytest.raises(PermissionError):
        cache_folder.check_owner(str(tmp_path / "link"))
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(PermissionError):
        cache_folder.check_owner(str(file))


MODULE = "ansible_collections/vlab/qemu/plugins/module_utils/"
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.vlab.qemu.plugins.module_utils._remote import bytecode_cache
from ansible_collections.vlab.qemu.plugins.module_utils._lab import one
print(one.value, type(one.__spec__.loader).__name__, getattr(sys.meta_path[0], "changed", None))
"""


def run_archive(path, home, value=1):
    """Run a program from an archive as Ansible makes it; return what it printed."""
    with zipfile.ZipFile(path, "w") as archive:
        parts = MODULE.split("/")[:-1]
        for number in range(len(parts)):
            archive.writestr("/".join(parts[: number + 1]) + "/__init__.py", "")
        for package in ("_remote", "_lab"):
            archive.writestr(MODULE + package + "/__init__.py", "")
        for name in ("cache_folder", "bytecode_cache"):
            with open(os.path.join(ROOT, "plugins/module_utils/_remote", name + ".py")) as stream:
                # Also root is to use a folder of this test.
                text = stream.read().replace("/var/cache/vlab", str(home / "vlab"))
                archive.writestr(MODULE + "_remote/" + name + ".py", text)
        archive.writestr(MODULE + "_lab/one.py", "value = %d\n" % value)
        # Ansible adds this file: it is different each time.
        archive.writestr("sitecustomize.py", "import sys\nsys.path.insert(0, %r)\n" % str(path))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)],
        env=dict(os.environ, XDG_CACHE_HOME=str(home), PYTHONPATH=""),
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().split()


def test_bytecode_of_a_module_is_cached(tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    first = run_archive(tmp_path / "first/a.zip", tmp_path)
    assert first == ["1", "_ArchiveFinder", "True"]
    # Another run of the same module: its archive has another path.
    assert run_archive(tmp_path / "second/a.zip", tmp_path) == ["1", "_ArchiveFinder", "False"]
    assert len(os.listdir(tmp_path / "vlab")) == 1
    assert run_archive(tmp_path / "first/a.zip", tmp_path, 2) == ["2", "_ArchiveFinder", "True"]


def test_bytecode_that_others_can_write_is_not_used(tmp_path):
    run_archive(tmp_path / "a.zip", tmp_path)
    (tmp_path / "vlab").chmod(0o777)
    assert run_archive(tmp_path / "a.zip", tmp_path) == ["1", "zipimporter", "None"]


def test_old_bytecode_is_removed(cache, tmp_path):
    cache.mkdir(mode=0o700)
    for number in range(30):
        (cache / ("bytecode-%d" % number)).touch()
        os.utime(cache / ("bytecode-%d" % number), (number, number))
    finder = bytecode_cache.CachingFinder(str(cache / "bytecode-new"))
    finder.add("one", None, compile("", "", "exec"))
    finder.save()
    assert len(os.listdir(cache)) == 25 and (cache / "bytecode-29").exists()


@pytest.mark.parametrize(
    "content", [[1], {"a": 1}, {1: (None, None)}, {"a": (None, "text")}, {"a": (None,)}, None, "x"]
)
def test_kept_bytecode_of_another_type_is_compiled_again(cache, content):
    cache.mkdir(mode=0o700)
    (cache / "bytecode-1").write_bytes(marshal.dumps(content))
    finder = bytecode_cache.CachingFinder(str(cache / "bytecode-1"))
    assert finder.entries == {}
    code = compile("", "", "exec")
    finder.add("one", None, code)
    finder.save()
    assert bytecode_cache.CachingFinder(finder.path).entries == {"one": (None, code)}


def test_what_killed_runs_and_earlier_versions_left_is_removed(cache, packages):
    cache.mkdir(mode=0o700)
    (cache / ".tmpold").mkdir()
    (cache / ".tmpold/one.py").touch()
    (cache / "code-old").mkdir()
    for name in (".new", ".old", "code-1", "kvm-old.json"):
        (cache / name).touch()
    for name in (".tmpold", ".old", "code-1", "code-old", "kvm-old.json"):
        os.utime(cache / name, (1, 1))
    code_bundle.load("1234", archive_of("_lab/one.py"))
    assert sorted(os.listdir(cache)) == [".new", "bundle-1234", "kvm-old.json"]
