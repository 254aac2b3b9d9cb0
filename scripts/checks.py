# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules of this project that common tools do not check.

Run as: python scripts/checks.py [RULE...], from the root of the tree.
"""

from __future__ import annotations

import ast
import io
import os
import pathlib
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

import yaml

ROOT = pathlib.Path.cwd()
# In two parts, so that this is not taken for the licence of this file.
LICENCE = "SPDX-License-" + "Identifier: GPL-3.0-or-later"
COLLECTION = "ansible_collections.vlab.qemu.plugins"
MAX_FUNCTION_LINES = 50
NOT_OURS = {
    ".ansible",
    ".cache",
    ".collections",
    ".git",
    ".nox",
    ".pytest_cache",
    ".venv",
    "__pycache__",
    "dist",
}


def files() -> list[pathlib.Path]:
    """Everything that is, or could be, committed; also without git."""
    try:
        listed = (
            subprocess.run(
                [
                    "git",
                    "-c",
                    "safe.directory=*",
                    "ls-files",
                    "-z",
                    "--cached",
                    "--others",
                    "--exclude-standard",
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=True,
            )
            .stdout.decode()
            .split("\0")
        )
        return [
            path
            for path in sorted({pathlib.Path(name) for name in listed if name})
            if path.is_file()
        ]
    except (OSError, subprocess.CalledProcessError):
        found = []
        for folder, folders, names in os.walk("."):
            folders[:] = sorted(set(folders) - NOT_OURS)
            found += [pathlib.Path(folder, name) for name in names]
        return [
            path
            for path in sorted(found)
            if path.is_file() and path.parts[:2] != ("tests", "output")
        ]


def text_of(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def shell_scripts() -> list[pathlib.Path]:
    return [
        path
        for path in files()
        if path.suffix != ".j2" and re.match(r"#!\s*\S*(/|env )(ba)?sh\b", text_of(path)[:40])
    ]


def headers():
    """Every file of code or configuration names its licence."""
    suffixes = {".cfg", ".ini", ".j2", ".py", ".sh", ".toml", ".yaml", ".yml"}
    made_by_tools = {pathlib.Path("changelogs/changelog.yaml")}
    for path in files():
        text = text_of(path)
        if path in made_by_tools or not text.strip():
            continue
        if path.suffix not in suffixes and path.name != "Makefile" and not text.startswith("#!"):
            continue
        if path.with_name(path.name + ".license").is_file():
            continue
        head = "\n".join(text.splitlines()[:8])
        if LICENCE not in head:
            yield f"{path}: no '{LICENCE}' in the first 8 lines"
        elif "Copyright: vlab.qemu contributors" not in head and path.suffix not in {
            ".cfg",
            ".ini",
            ".j2",
            ".toml",
        }:
            yield f"{path}: no 'Copyright: vlab.qemu contributors' in the first 8 lines"


def local_paths():
    """Check that no file names a path of the developer's machine or a package registry."""
    # Each pattern is written so that it does not match itself.
    forbidden = re.compile(
        r"(?<![\w.}~-])/wor[k]/|[.]pyen[v]|/tm[p]/w/|/op[t]/(wheels|pypi)"
        r"|pypi[.]or[g]|pythonhosted[.]or[g]|deb[.]debian[.]or[g]|security[.]debian[.]or[g]|registry[.]npmjs[.]or[g]"
    )
    for path in files():
        if path.name == "COPYING":
            continue
        for number, line in enumerate(text_of(path).splitlines(), 1):
            match = forbidden.search(line)
            if match:
                yield f"{path}:{number}: {match.group(0)}"


def imports_of(path: pathlib.Path):
    package = [*COLLECTION.split("."), *path.parent.parts[1:]]
    for node in ast.walk(ast.parse(text_of(path), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join(base + (node.module or "").split("."))
            for alias in node.names:
                yield node.lineno, f"{name}.{alias.name}"


def layers():
    """Nothing imports upwards, and nothing on a hypervisor needs more than Python's standard library."""
    floors = {"_common": 0, "_remote": 0, "_qemu": 1, "_vm": 2, "_lab": 3}
    utils = COLLECTION + ".module_utils."
    remote = (utils + "_remote.", COLLECTION + ".plugin_utils._remote")
    for path in files():
        if path.suffix != ".py" or path.parts[0] != "plugins":
            continue
        on_target = path.parts[1] in ("modules", "module_utils")
        floor = floors.get(path.parts[2], 3) if path.parts[1] == "module_utils" else 4
        for line, name in imports_of(path):
            top = name.split(".")[0]
            if path.parts[1:3] == ("plugin_utils", "_remote"):
                if name.startswith(COLLECTION) and not name.startswith(remote):
                    yield f"{path}:{line}: _remote imports only itself: {name}"
            elif floor == 0 and name.startswith(COLLECTION):
                if not name.startswith(f"{utils}{path.parts[2]}."):
                    yield f"{path}:{line}: {path.parts[2]} imports only itself: {name}"
            elif name.startswith(utils):
                if floors.get(name[len(utils) :].split(".")[0], 3) > floor:
                    yield f"{path}:{line}: imports upwards: {name}"
            elif (
                on_target
                and top not in sys.stdlib_module_names
                and not (name.startswith("ansible.module_utils.") and floor > 0)
            ):
                yield f"{path}:{line}: not to be imported on a hypervisor: {name}"
            elif top in ("jsonschema", "netaddr") and path.parts[1:3] != (
                "plugin_utils",
                "_topology",
            ):
                yield f"{path}:{line}: only plugin_utils/_topology imports {top}"


def bytecode_cache():
    """A module imports `_module`, and that the bytecode cache, before anything else of the collection."""
    first = {
        "modules": "module_utils._module.",
        "module_utils": "module_utils._remote.bytecode_cache",
    }
    for path in files():
        if path.suffix != ".py" or path.parts[:2] not in (
            ("plugins", "modules"),
            ("plugins", "module_utils"),
        ):
            continue
        if path.parts[1] == "module_utils" and path.name != "_module.py":
            continue
        ours = sorted(entry for entry in imports_of(path) if entry[1].startswith(COLLECTION))
        wanted = f"{COLLECTION}.{first[path.parts[1]]}"
        if not ours or not ours[0][1].startswith(wanted):
            yield f"{path}: the first import of the collection is not {wanted}"


def processes():
    """Programs are started from a list of arguments, never through a shell."""
    for path in files():
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(text_of(path), str(path))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if (
                path.parts[:2] == ("plugins", "module_utils")
                and called.startswith("subprocess.")
                and path.name != "processes.py"
            ):
                yield f"{path}:{node.lineno}: {called}: use _common.processes"
            if called in (
                "os.system",
                "os.popen",
                "subprocess.getoutput",
                "subprocess.getstatusoutput",
            ):
                yield f"{path}:{node.lineno}: {called}"
            for keyword in node.keywords:
                if keyword.arg in ("shell", "use_unsafe_shell") and not (
                    isinstance(keyword.value, ast.Constant) and not keyword.value.value
                ):
                    yield f"{path}:{node.lineno}: {called}({keyword.arg}=...)"


def action_group():
    """The action group holds every module that has options, and each says so: those without could not take the group's defaults."""
    group = yaml.safe_load(text_of(pathlib.Path("meta/runtime.yml")))["action_groups"]["qemu"]
    modules = {
        path.stem: path
        for path in files()
        if path.parts[:2] == ("plugins", "modules")
        and path.suffix == ".py"
        and path.stem != "__init__"
        and "\noptions: {}\n" not in text_of(path)
    }
    for name in sorted(set(modules) - set(group)):
        yield f"meta/runtime.yml: {name} is missing from the action group qemu"
    for name in sorted(set(group) - set(modules)):
        yield f"meta/runtime.yml: the action group qemu names {name}, which is no module"
    for name, path in sorted(modules.items()):
        if "- vlab.qemu.attributes.actiongroup_qemu" not in text_of(path):
            yield f"{path}: does not extend vlab.qemu.attributes.actiongroup_qemu"


def function_length():
    """Check that no function of the plugins has more than MAX_FUNCTION_LINES lines."""
    for path in files():
        if path.suffix != ".py" or path.parts[0] != "plugins":
            continue
        for node in ast.walk(ast.parse(text_of(path), str(path))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = node.end_lineno - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    yield f"{path}:{node.lineno}: {node.name} has {length} lines"


def roles():
    """Every role has a README and declares its variables."""
    for role in sorted(path for path in pathlib.Path("roles").glob("*") if path.is_dir()):
        for name in ("README.md", "meta/argument_specs.yml", "meta/main.yml"):
            if not (role / name).is_file():
                yield f"{role}: no {name}"


class Word(NamedTuple):
    """A word that has a better alternative.

    text: pattern in comments, strings and all files that are not Python. name: pattern of a whole
    identifier, or of one of its parts between underscores. below: only files below this path.
    """

    better: str
    text: str = ""
    name: str = ""
    below: str = ""


# Patterns are precise: where one matches, the sentence or the name is to be rewritten.
WORDS = (
    Word("module; space", r"rooms?", r"rooms?"),
    Word("request", r"errands?", r"errands?"),
    Word("request, port request", r"wish(es)?", r"wish(es)?"),
    Word("start scheduler", r"line-?ups?", r"line_?ups?"),
    Word("start barrier", r"waves?", r"waves?"),
    Word("session, script", r"dialogues?|conversations?", r"dialogues?|conversations?"),
    Word("name, QMP name", r"spell(ings?|ed|s)", r"spell(ings?|ed)"),
    Word("helper process", r"companions?", r"companions?"),
    Word("fix, restore", r"mend(s|ed|ing)?", r"mend(s|ed|ing)?"),
    Word("report, show, return", r"told|tells?|telling", r"told|tells?"),
    Word("missing, does not exist", r"there (is|are|was|were) none"),
    Word("ended, does not exist", r"(is|are|was|were|be) gone"),
    Word("does not accept", r"takes? nothing"),
    Word("available, obtained", r"(is|are|was|be|been) had"),
    Word("except, except for", r"but for"),
    Word("any user, the user who", r"whoever"),
    Word("name the owner", r"of (ours|theirs)"),
    Word("installed, available", r"at hand"),
    Word("again", r"anew"),
    Word("troubleshooting", r"trouble-shooting"),
    Word("desired", name=r"wanted"),
    Word("output, message", name=r"said"),
    Word("observation", name=r"seen", below="plugins"),
    Word("result, or what it is", name=r"made", below="plugins"),
    Word("option path, or what it is", name=r"here", below="plugins"),
    Word("capabilities, or what it is", name=r"known", below="plugins"),
    Word("digest, token", name=r"marks?", below="plugins"),
    Word("worker", name=r"hands?"),
    Word("host share", name=r"slices"),
    Word("NIC naming", name=r"cards", below="plugins"),
    Word("connection, connection variables", name=r"reach|way", below="plugins"),
    Word("node facts", name=r"about", below="plugins"),
    Word("slot", name=r"places?", below="plugins/module_utils/_vm"),
    Word("family", name=r"kind", below="plugins/module_utils/_vm/addresses.py"),
    Word("start_paused", name=r"hold|hold_asked", below="plugins"),
    Word("reconcile_observed", name=r"look", below="plugins"),
    Word("delete_files, remove_...", name=r"forget", below="plugins"),
    Word("POLL_INTERVAL", name=r"LOOK"),
    Word("REPLY_TIMEOUT", name=r"MOMENT|PATIENCE"),
    Word("PROBE_TIMEOUT", name=r"PROBE"),
    Word("MAX_...", name=r"MOST"),
    Word("what it is: a timeout, a limit", name=r"AWAKE"),
)
# Licences, the common code of conduct, the words themselves, and names of earlier versions.
NOT_FOR_WORDS = {"COPYING", "LICENSES", "CODE_OF_CONDUCT.md", "changelogs"}


def texts_of(path: pathlib.Path) -> Iterator[tuple[int, str, bool]]:
    """Yield (line, text, whether it is an identifier) of what people read in a file."""
    text = text_of(path)
    if not is_python(path):
        for number, line in enumerate(text.splitlines(), 1):
            yield number, line, False
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string, True
        elif token.type not in (tokenize.OP, tokenize.NUMBER):
            for number, line in enumerate(token.string.splitlines(), token.start[0]):
                yield number, line, False


def is_python(path: pathlib.Path) -> bool:
    """Return whether a file is Python, with or without a suffix."""
    return path.suffix == ".py" or (
        not path.suffix and re.match(r"#!\S*(/|env )python", text_of(path)[:40]) is not None
    )


def words() -> Iterator[str]:
    """Words that only this project used have better alternatives."""
    patterns = [
        (
            word,
            re.compile(rf"\b({word.text})\b", re.IGNORECASE) if word.text else None,
            re.compile(rf"(?<![^_])({word.name})(?![^_])") if word.name else None,
        )
        for word in WORDS
    ]
    for path in files():
        if path.parts[0] in NOT_FOR_WORDS or path == pathlib.Path("scripts/checks.py"):
            continue
        for number, text, is_name in texts_of(path):
            for word, in_text, in_name in patterns:
                pattern = in_name if is_name else in_text
                match = pattern and pattern.search(text)
                if match and str(path).startswith(word.below):
                    yield f"{path}:{number}: {match[1]}: {word.better}"


def long_lines() -> Iterator[str]:
    """No line of Python is longer than 100 columns, also in docstrings and in documentation."""
    for path in files():
        if is_python(path):
            for number, line in enumerate(text_of(path).splitlines(), 1):
                if len(line) > 100:
                    yield f"{path}:{number}: {len(line)} columns"


RULES = {
    rule.__name__.replace("_", "-"): rule
    for rule in (headers, local_paths, layers, bytecode_cache, processes, action_group, roles)
}
# Not among the rules that run by default until the tree is clean.
MORE_RULES = {rule.__name__.replace("_", "-"): rule for rule in (words, long_lines)}


def main(names: list[str]) -> int:
    found = 0
    for name in names or list(RULES):
        for problem in {**RULES, **MORE_RULES}[name]():
            print(f"{name}: {problem}")
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
