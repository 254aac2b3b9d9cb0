# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run ansible-test sanity and report the supported Python versions that this machine does not have.

    python scripts/sanity.py [--pylint FILE... --] [ARGUMENT of ansible-test sanity...]

FILE: what pylint checks, all files by default; "none" for no file.
ansible-test skips a Python that it does not find. This script searches for each version in the
search path and in pyenv and reports the missing ones, so that "ok" means what it says.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml


@functools.lru_cache(maxsize=None)
def pyenv_versions() -> pathlib.Path:
    """Return the folder of pyenv's Pythons; without pyenv, a folder that does not exist."""
    program = shutil.which("pyenv")
    done = (
        subprocess.run([program, "root"], capture_output=True, text=True, check=False)
        if program
        else None
    )
    return pathlib.Path(
        done.stdout.strip() if done and done.returncode == 0 else "/nonexistent", "versions"
    )


def runs(path: pathlib.Path, version: str) -> bool:
    """Return whether a file is a working Python of a version, not a stub of a version manager."""
    try:
        done = subprocess.run(
            [str(path), "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == version


def find_python(version: str) -> str:
    """Return the path of a working Python, or an empty text."""
    folders = [
        pathlib.Path(folder or ".")
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep)
    ]
    paths = [folder / f"python{version}" for folder in folders]
    paths += sorted(pyenv_versions().glob(f"{version}.*/bin/python{version}"), reverse=True)
    return next((str(path) for path in paths if path.exists() and runs(path, version)), "")


def supported_versions(collection: pathlib.Path) -> list[str]:
    """Return the versions of Python with which ansible-test tests the collection."""
    from ansible_test._util.target.common import constants

    config = yaml.safe_load((collection / "tests/config.yml").read_text(encoding="utf-8"))
    required = config["modules"]["python_requires"]
    minimum = tuple(int(part) for part in re.findall(r"\d+", required)[:2])
    versions = {*constants.CONTROLLER_PYTHON_VERSIONS, *constants.REMOTE_ONLY_PYTHON_VERSIONS}
    return sorted(
        (version for version in versions if tuple(map(int, version.split("."))) >= minimum),
        key=lambda text: int(text.split(".")[1]),
    )


@functools.lru_cache(maxsize=None)
def _without_stubs(path: str) -> tuple[str, ...]:
    """Return the folders of a search path whose Pythons all work."""
    folders = []
    for folder in path.split(os.pathsep):
        stubs = [
            stub
            for stub in pathlib.Path(folder or ".").glob("python3.*")
            if re.fullmatch(r"python3\.\d+", stub.name)
        ]
        if all(
            subprocess.run([str(stub), "--version"], capture_output=True, check=False).returncode
            == 0
            for stub in stubs
        ):
            folders.append(folder)
    return tuple(folders)


def working_path(first: list[pathlib.Path]) -> str:
    """Return a search path without folders whose Pythons are stubs, which stop ansible-test."""
    return os.pathsep.join([*map(str, first), *_without_stubs(os.environ.get("PATH", os.defpath))])


def make_home(home: pathlib.Path) -> None:
    """Create a home folder for ansible-test, with the user's pip settings.

    ansible-test creates its virtual environments there, and ignores pip's environment variables.
    """
    home.mkdir(parents=True, exist_ok=True)
    user = pathlib.Path.home()
    for source in (user / ".config/pip/pip.conf", user / ".pip/pip.conf"):
        target = home / ".pip/pip.conf"
        if source.is_file() and not target.exists():
            target.parent.mkdir(exist_ok=True)
            target.symlink_to(source)
    settings = [
        f"{name[4:].lower().replace('_', '-')} = {' '.join(value.split())}\n"
        for name, value in sorted(os.environ.items())
        if name.startswith("PIP_") and value and name != "PIP_CONFIG_FILE"
    ]
    config = home / ".config/pip/pip.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("[global]\n" + "".join(settings), encoding="utf-8")

    import ansible_test

    requirements = pathlib.Path(
        ansible_test.__path__[0], "_internal/python_requirements.py"
    ).read_text(encoding="utf-8")
    version = re.search(r"\bpip='([0-9.]+)'", requirements)
    if version:
        cached = home / ".ansible/test/cache" / f"get_pip_{version.group(1).replace('.', '_')}.py"
        cached.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pathlib.Path(__file__).parent / "get_pip.py", cached)


# What a Python runs first, by the virtual environments of sanity tests in which it is put. Those of
# the import of modules have no requirements, and no name of a test. pylint is a quarter faster
# without the search for objects that nothing uses; it needs 400 MB.
_IMPORT = (pathlib.Path(__file__).parent / "compile_once.py").read_text(encoding="utf-8")
STARTUP = {
    "sanity": _IMPORT,
    "sanity.import*": _IMPORT,
    "sanity.pylint": "import gc\n\ngc.disable()\n",
}


def prepare_environments(command: list[str], env: dict[str, str]) -> None:
    """Create the virtual environments of the slowest sanity tests, and make them faster.

    command: of ansible-test sanity; one that skips pylint needs none for it.
    """
    pylint = [] if "pylint" in command else ["--test", "pylint"]
    command = [*command, "--prime-venvs", "--test", "import", *pylint]
    subprocess.run(command, env=env, check=False)
    for name, startup in STARTUP.items():
        for folder in pathlib.Path(env["HOME"], ".ansible/test/venv").glob(
            f"{name}/*/*/lib/python3*/site-packages"
        ):
            (folder / "sitecustomize.py").write_text(startup, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Run the sanity tests; return the exit code."""
    collection = pathlib.Path.cwd()
    files: list[str] = []
    if arguments[:1] == ["--pylint"]:
        end = arguments.index("--")
        files, arguments = arguments[1:end], arguments[end + 1 :]
    if files:
        arguments = [*arguments, "--skip-test", "pylint"]
    versions = {version: find_python(version) for version in supported_versions(collection)}
    with tempfile.TemporaryDirectory(prefix="vlab-pythons-") as folder:
        for version, path in versions.items():
            if path:
                # Links: a virtual environment of ansible-test must not depend on .venv.
                pathlib.Path(folder, f"python{version}").symlink_to(path)
        env = dict(
            os.environ,
            PATH=working_path([pathlib.Path(sys.executable).parent, pathlib.Path(folder)]),
        )
        command = [
            str(pathlib.Path(sys.executable).parent / "ansible-test"),
            "sanity",
            "--color",
            "no",
            "--allow-disabled",
        ]
        if "--test" not in arguments:
            without = ["--skip-test", "pylint"] if files == ["none"] else []
            prepare_environments([*command, *without], env)
        status = subprocess.run([*command, *arguments], env=env, check=False).returncode
        if files and files != ["none"]:
            pylint = [*command, "--test", "pylint", *files]
            status = subprocess.run(pylint, env=env, check=False).returncode or status
    print("run with Python %s" % ", ".join(version for version, path in versions.items() if path))
    missing = [version for version, path in versions.items() if not path]
    if missing:
        print(
            "not run: compile and import with Python %s, which this machine does not have"
            % ", ".join(missing)
        )
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
