# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The steps of a script, as options and checked. Kinds and qemu_console have the same steps."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Optional, Pattern, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._console.console import compile_pattern
from ansible_collections.vlab.qemu.plugins.module_utils._console.login import (
    Login,
    LoginPatterns,
)

DEFAULT_EVERY, DEFAULT_TRIES = 5, 30
_TEXT = {"type": "str"}
_SECRET = {"type": "str", "no_log": True}
ANSWER_SPEC: dict[str, dict[str, Any]] = {
    "expect": {"type": "str", "required": True},
    "send": _TEXT,
    "secret": _SECRET,
    "enter": {"type": "bool", "default": True},
    "once": {"type": "bool", "default": False},
}
RETRY_SPEC: dict[str, dict[str, Any]] = {
    "when": _TEXT,
    "unless": _TEXT,
    "every": {"type": "int", "default": DEFAULT_EVERY},
    "tries": {"type": "int", "default": DEFAULT_TRIES},
}
LOGIN_SPEC: dict[str, dict[str, Any]] = {
    "user": {"type": "str", "required": True},
    "password": _SECRET,
    "new_password": _SECRET,
    "login_prompt": {"type": "str", "default": Login().login_prompt},
    "password_prompt": {"type": "str", "default": Login().password_prompt, "no_log": False},
    "change": {"type": "list", "elements": "str"},
    "failed": {"type": "str", "default": Login().failed},
    "retry": {"type": "int", "default": 0},
}
STEP_SPEC: dict[str, dict[str, Any]] = {
    "name": _TEXT,
    "if_shown": _TEXT,
    "unless_shown": _TEXT,
    "expect": _TEXT,
    "send": _TEXT,
    "secret": _SECRET,
    "enter": {"type": "bool", "default": True},
    "lines": _TEXT,
    "paste": {"type": "bool", "default": False},
    "answer": {"type": "list", "elements": "dict", "options": ANSWER_SPEC},
    "login": {"type": "dict", "options": LOGIN_SPEC},
    "until": _TEXT,
    "errors": _TEXT,
    "retry": {"type": "dict", "options": RETRY_SPEC},
    "timeout": {"type": "int"},
}
# What a script has besides its steps.
SCRIPT_SPEC: dict[str, dict[str, Any]] = {
    "steps": {"type": "list", "elements": "dict", "required": True, "options": STEP_SPEC},
    "timeout": {"type": "int", "default": 30},
    "newline": {"type": "str", "default": "\r"},
    "prompt": _TEXT,
    "errors": _TEXT,
    "echo": {"type": "bool"},
}
_ACTIONS = ("send", "secret", "lines", "login")


class Answer(NamedTuple):
    """What to type after a question."""

    expect: Pattern[bytes]
    text: str
    is_secret: bool
    enter: bool
    once: bool


class Retry(NamedTuple):
    """When to type a text again: if its output matches when, or does not match unless."""

    when: Optional[Pattern[bytes]]
    unless: Optional[Pattern[bytes]]
    every: int
    tries: int

    def applies(self, output: bytes) -> bool:
        """Whether output requires another try."""
        if self.when and self.when.search(output):
            return True
        return self.unless is not None and not self.unless.search(output)


class Step(NamedTuple):
    """A step: conditions, what to wait for, what to type, what to wait for then.

    path: of its options, with its name. given: its options. action: its key with what it types,
    None for a step that only waits.
    """

    path: str
    given: Mapping[str, Any]
    action: Optional[str]
    if_shown: Optional[Pattern[bytes]]
    unless_shown: Optional[Pattern[bytes]]
    expect: Optional[Pattern[bytes]]
    until: Optional[Pattern[bytes]]
    errors: Optional[Pattern[bytes]]
    answers: Sequence[Answer]
    login: Optional[Login]
    login_patterns: Optional[LoginPatterns]
    retry: Optional[Retry]


def check_steps(
    path: str, steps: Sequence[Mapping[str, Any]], prompt: str | None, errors: str | None
) -> list[Step]:
    """Return the steps of a script. Raises OptionError.

    path: of the steps. prompt, errors: what a step without its own waits for and fails at.
    """
    return [
        _step("%s[%d]" % (path, number), step, prompt, errors) for number, step in enumerate(steps)
    ]


def secrets_of(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return all texts in steps that must not be shown."""
    found = []
    for step in steps:
        login = step.get("login") or {}
        found += [step.get("secret"), login.get("password"), login.get("new_password")]
        found += [answer.get("secret") for answer in step.get("answer") or ()]
    return [str(secret) for secret in found if secret not in (None, "")]


def _set(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}


def _pattern(path: str, given: Mapping[str, Any], key: str) -> Pattern[bytes] | None:
    text = given.get(key)
    # A topology may have a number.
    return compile_pattern("%s.%s" % (path, key), str(text)) if text else None


def _step(path: str, given: Mapping[str, Any], prompt: str | None, errors: str | None) -> Step:
    actions = [key for key in _ACTIONS if given.get(key) is not None]
    if len(actions) > 1:
        raise OptionError(
            "%s.%s" % (path, actions[1]), "give %s or %s, not both" % (actions[0], actions[1])
        )
    answers = given.get("answer")
    if not actions and answers is None and not given.get("expect"):
        raise OptionError(path, "a step needs expect, answer, %s" % " or ".join(_ACTIONS))
    action = actions[0] if actions else None if answers is None else "answer"
    if answers is not None and action in ("secret", "lines"):
        raise OptionError(path + ".answer", "it does not go with %s" % action)
    if answers is not None and given.get("retry"):
        raise OptionError(path + ".retry", "it does not go with answer")
    for key in ("retry", "errors"):
        if given.get(key) and not (prompt or given.get("until")):
            raise OptionError("%s.%s" % (path, key), "it needs until, or the prompt of the script")
    if (action == "login" or answers is not None) and not (prompt or given.get("until")):
        raise OptionError(path, "answer and login need until, or the prompt of the script")
    # A system prints anything while it boots, and asks its questions.
    is_typed = action in ("send", "secret", "lines")
    login = _login(path + ".login", given["login"], prompt, given) if action == "login" else None
    return Step(
        path + (" (%s)" % given["name"] if given.get("name") else ""),
        given,
        action,
        _pattern(path, given, "if_shown"),
        _pattern(path, given, "unless_shown"),
        _pattern(path, given, "expect"),
        _pattern(path, given, "until"),
        _pattern(path, dict({"errors": errors if is_typed else None}, **_set(given)), "errors"),
        [
            _answer("%s.answer[%d]" % (path, number), answer)
            for number, answer in enumerate(answers or ())
        ],
        login,
        LoginPatterns(login, path + ".login.") if login else None,
        _retry(path + ".retry", given["retry"]) if given.get("retry") else None,
    )


def _answer(path: str, given: Mapping[str, Any]) -> Answer:
    pattern = _pattern(path, given, "expect")
    if pattern is None:
        raise OptionError(path + ".expect", "it must not be empty")
    secret, text = given.get("secret"), given.get("send")
    if (secret is None) == (text is None):
        raise OptionError(path, "an answer needs send or secret")
    return Answer(
        pattern,
        str(text if secret is None else secret),
        secret is not None,
        given.get("enter") is not False,
        bool(given.get("once")),
    )


def _retry(path: str, given: Mapping[str, Any]) -> Retry:
    when, unless = _pattern(path, given, "when"), _pattern(path, given, "unless")
    if (when is None) == (unless is None):
        raise OptionError(path, "it needs when or unless")
    every, tries = given.get("every"), given.get("tries")
    return Retry(
        when,
        unless,
        DEFAULT_EVERY if every is None else every,
        DEFAULT_TRIES if tries is None else tries,
    )


def _login(
    path: str, given: Mapping[str, Any], prompt: str | None, step: Mapping[str, Any]
) -> Login:
    if not given.get("user"):
        raise OptionError(path + ".user", "it must not be empty")
    if given.get("change") and given.get("new_password") is None:
        raise OptionError(path + ".change", "it needs new_password")
    values: dict[str, Any] = {}
    for key, spec in LOGIN_SPEC.items():
        if given.get(key) is not None:
            values[key] = str(given[key]) if spec["type"] == "str" else given[key]
    return Login(**dict(values, prompt=step.get("until") or prompt))
