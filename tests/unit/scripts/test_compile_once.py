# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""compile() of the sanity test "import" returns the code that compile() returns, once."""

from __future__ import annotations

import __future__

import builtins
import gc
import importlib.util
import pathlib
import types
from typing import Any, Callable, Iterator

import pytest

PATH = pathlib.Path(__file__).resolve().parents[3] / "scripts/compile_once.py"
# The collection is built without scripts.
pytestmark = pytest.mark.skipif(not PATH.is_file(), reason="scripts are not here")
SOURCE = "def f(a: b): pass"


@pytest.fixture(name="compile_once")
def _compile_once() -> Iterator[Callable[..., Any]]:
    before = builtins.compile
    spec = importlib.util.spec_from_file_location("compile_once", PATH)
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    yield builtins.compile
    builtins.compile = before
    gc.enable()


def call(compile_once: Callable[..., Any], caller: str, **arguments: Any) -> types.CodeType:
    """Compile SOURCE from a caller with the given first statement."""
    names: dict[str, Any] = {"compile_once": compile_once, "SOURCE": SOURCE, "others": arguments}
    text = f"{caller}\ncode = compile_once(SOURCE, 'a.py', 'exec', **others)"
    exec(compile(text, "caller.py", "exec", dont_inherit=True), names)
    code: types.CodeType = names["code"]
    return code


def test_the_same_source_is_compiled_once(compile_once: Callable[..., Any]) -> None:
    first = compile_once(SOURCE, "a.py", "exec", dont_inherit=True)
    assert compile_once(SOURCE, "a.py", "exec", dont_inherit=True) is first
    assert compile_once(SOURCE, "b.py", "exec", dont_inherit=True).co_filename == "b.py"
    assert compile_once(SOURCE + "\n", "a.py", "exec", dont_inherit=True) is not first


@pytest.mark.parametrize("dont_inherit", [True, False])
@pytest.mark.parametrize("caller", ["from __future__ import annotations", "pass"])
def test_future_statements_of_the_caller_count_as_they_do_without_it(
    compile_once: Callable[..., Any], caller: str, dont_inherit: bool
) -> None:
    code = call(compile_once, caller, dont_inherit=dont_inherit)
    inherits = caller != "pass" and not dont_inherit
    assert bool(code.co_flags & __future__.annotations.compiler_flag) == inherits


def test_a_syntax_error_is_one(compile_once: Callable[..., Any]) -> None:
    with pytest.raises(SyntaxError):
        compile_once("def", "a.py", "exec", dont_inherit=True)
