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
# In two parts, so that tools do not read it as the licence of this file.
LICENCE = "SPDX-License-" + "Identifier: GPL-3.0-or-later"
COLLECTION = "ansible_collections.vlab.qemu.plugins"
MAX_FUNCTION_LINES = 50
GENERATED_FOLDERS = {
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
    """Return all files of the tree that are not generated, also without git."""
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    try:
        done = subprocess.run(
            [*git, "--cached", "--others", "--exclude-standard"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        found = {pathlib.Path(name) for name in done.stdout.decode().split("\0") if name}
        return [path for path in sorted(found) if path.is_file()]
    except (OSError, subprocess.CalledProcessError):
        return files_without_git()


def files_without_git() -> list[pathlib.Path]:
    """Return all files of the tree except for those in GENERATED_FOLDERS."""
    found = []
    for folder, folders, names in os.walk("."):
        folders[:] = sorted(set(folders) - GENERATED_FOLDERS)
        found += [pathlib.Path(folder, name) for name in names]
    return [
        path for path in sorted(found) if path.is_file() and path.parts[:2] != ("tests", "output")
    ]


def text_of(path: pathlib.Path) -> str:
    """Return the text of a file, or an empty text for a binary file."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def shell_scripts() -> list[pathlib.Path]:
    """Return all files with the first line of a shell script."""
    return [
        path
        for path in files()
        if path.suffix != ".j2" and re.match(r"#!\s*\S*(/|env )(ba)?sh\b", text_of(path)[:40])
    ]


def headers() -> Iterator[str]:
    """Check that every file of code or configuration names its licence and its copyright."""
    suffixes = {".cfg", ".ini", ".j2", ".py", ".sh", ".toml", ".yaml", ".yml"}
    generated = {pathlib.Path("changelogs/changelog.yaml")}
    for path in files():
        text = text_of(path)
        if path in generated or not text.strip():
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


def local_paths() -> Iterator[str]:
    """Check that no file names a path of the developer's machine or a package registry."""
    # Each pattern is written so that it does not match itself.
    forbidden = re.compile(
        r"(?<![\w.}~-])/wor[k]/|[.]pyen[v]|/tm[p]/w/|/op[t]/(wheels|pypi)"
        r"|pypi[.]or[g]|pythonhosted[.]or[g]|deb[.]debian[.]or[g]|security[.]debian[.]or[g]"
        r"|registry[.]npmjs[.]or[g]"
    )
    for path in files():
        if path.name == "COPYING":
            continue
        for number, line in enumerate(text_of(path).splitlines(), 1):
            match = forbidden.search(line)
            if match:
                yield f"{path}:{number}: {match.group(0)}"


def import_statements(text: str, path: pathlib.Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yield each import statement: its line, the full module after "from" or "", and the names.

    path: that of the text in this project.
    """
    waiting: list[ast.AST] = [ast.parse(text, str(path))]
    while waiting:
        node = waiting.pop()
        # Imports are statements: expressions, most of a file, need not be looked at.
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, part, None)
            waiting += inner if isinstance(inner, list) else []
        if isinstance(node, ast.Import):
            yield node.lineno, "", [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = [*COLLECTION.split(".")[:-1], *path.parent.parts]
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield node.lineno, module, [alias.name for alias in node.names]


def imports_of(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of each import of a file."""
    for line, module, names in import_statements(text_of(path), path):
        for name in names:
            yield line, f"{module}.{name}" if module else name


FLOORS = {"_common": 0, "_remote": 0, "_qemu": 1, "_console": 1, "_wire": 1, "_vm": 2, "_lab": 3}
UTILS = COLLECTION + ".module_utils."


def layers() -> Iterator[str]:
    """Check that nothing imports upwards, and that targets need only the standard library."""
    for path in files():
        if path.suffix == ".py" and path.parts[0] == "plugins":
            for line, name in imports_of(path):
                problem = import_problem(path.parts[1:], name)
                if problem:
                    yield f"{path}:{line}: {problem}: {name}"


def import_problem(parts: tuple[str, ...], name: str) -> str:
    """Return why a file below plugins must not import a name, or an empty text."""
    kind, package = parts[:2]
    floor = FLOORS.get(package, 3) if kind == "module_utils" else 4
    is_own = name.startswith(COLLECTION)
    if (kind, package) == ("plugin_utils", "_remote"):
        allowed = (UTILS + "_remote.", COLLECTION + ".plugin_utils._remote")
        return "_remote imports only itself" if is_own and not name.startswith(allowed) else ""
    if floor == 0 and is_own:
        return "" if name.startswith(f"{UTILS}{package}.") else f"{package} imports only itself"
    if name.startswith(UTILS):
        upwards = FLOORS.get(name[len(UTILS) :].split(".")[0], 3) > floor
        return "imports upwards" if upwards else ""
    top = name.split(".")[0]
    if kind in ("modules", "module_utils") and top not in sys.stdlib_module_names:
        is_ansible = name.startswith("ansible.module_utils.") and floor > 0
        return "" if is_ansible else "not available on a hypervisor"
    if top in ("jsonschema", "netaddr") and (kind, package) != ("plugin_utils", "_topology"):
        return f"only plugin_utils/_topology imports {top}"
    return ""


def circular_imports() -> Iterator[str]:
    """Check that no modules of the collection import each other when they are loaded."""
    paths = [path for path in files() if path.suffix == ".py" and path.parts[0] == "plugins"]
    modules = {
        f"{COLLECTION.rpartition('.')[0]}.{'.'.join(p.with_suffix('').parts)}" for p in paths
    }
    graph = {}
    for path in paths:
        name = f"{COLLECTION.rpartition('.')[0]}.{'.'.join(path.with_suffix('').parts)}"
        # "from X import y" names X.y, which is a module or something in the module X.
        imported = {
            found if found in modules else found.rpartition(".")[0] for found in loads(path)
        }
        graph[name] = sorted(imported & modules)
    done: set[str] = set()

    def visit(name: str, chain: tuple[str, ...]) -> Iterator[str]:
        if name in chain:
            circle = [*chain[chain.index(name) :], name]
            yield " -> ".join(module[len(COLLECTION) + 1 :] for module in circle)
        elif name not in done:
            for other in graph[name]:
                yield from visit(other, (*chain, name))
            done.add(name)

    for name in graph:
        yield from visit(name, ())


def loads(path: pathlib.Path) -> Iterator[str]:
    """Yield the names that a file imports when it is loaded: not for types, not in functions."""
    for node in ast.parse(text_of(path), str(path)).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def bytecode_cache() -> Iterator[str]:
    """Check that `_module` is a module's first import, and the bytecode cache that of `_module`."""
    first = {
        "modules": "module_utils._module.",
        "module_utils": "module_utils._remote.bytecode_cache",
    }
    for path in files():
        kind = path.parts[1] if path.suffix == ".py" and path.parts[0] == "plugins" else ""
        if kind not in first or kind == "module_utils" and path.name != "_module.py":
            continue
        imports = sorted(entry for entry in imports_of(path) if entry[1].startswith(COLLECTION))
        required = f"{COLLECTION}.{first[kind]}"
        if not imports or not imports[0][1].startswith(required):
            yield f"{path}: the first import of the collection is not {required}"


def processes() -> Iterator[str]:
    """Check that programs are started with a list of arguments, never through a shell."""
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


def action_group() -> Iterator[str]:
    """Check that the action group contains every module with options, and that each documents it.

    A module without options fails if the group has defaults.
    """
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
        yield f"meta/runtime.yml: the action group qemu names {name}, which is not a module"
    for name, path in sorted(modules.items()):
        if "- vlab.qemu.attributes.actiongroup_qemu" not in text_of(path):
            yield f"{path}: does not extend vlab.qemu.attributes.actiongroup_qemu"


def function_length() -> Iterator[str]:
    """Check that no function of the plugins has more than MAX_FUNCTION_LINES lines."""
    for path in files():
        if path.suffix != ".py" or path.parts[0] != "plugins":
            continue
        for node in ast.walk(ast.parse(text_of(path), str(path))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    yield f"{path}:{node.lineno}: {node.name} has {length} lines"


def roles() -> Iterator[str]:
    """Check that every role has a README and declares its variables."""
    for role in sorted(path for path in pathlib.Path("roles").glob("*") if path.is_dir()):
        for name in ("README.md", "meta/argument_specs.yml", "meta/main.yml"):
            if not (role / name).is_file():
                yield f"{role}: {name} is missing"


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
    # Not the method tell() of a file.
    Word("report, show, return", r"told|tells?|telling", r"told|tells|tell(?=_)|(?<=_)tell"),
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
    # Not the attribute start_mark of PyYAML.
    Word("digest, token", name=r"(?<!start_)mark|marks", below="plugins"),
    Word("worker", name=r"hands?"),
    Word("host share", name=r"slices"),
    # Not the cards of a picture.
    Word("NIC naming", name=r"cards", below="plugins/module_utils"),
    Word("connection, connection variables", name=r"reach|way", below="plugins"),
    Word("node facts", name=r"about", below="plugins"),
    Word("slot", name=r"places?", below="plugins/module_utils/_vm"),
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
    for rule in (
        headers,
        local_paths,
        layers,
        circular_imports,
        bytecode_cache,
        processes,
        action_group,
        roles,
        words,
        long_lines,
        function_length,
    )
}


def main(names: list[str]) -> int:
    """Print the problems that the given rules find; return the exit code."""
    found = 0
    for name in names or list(RULES):
        for problem in RULES[name]():
            print(f"{name}: {problem}")
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
