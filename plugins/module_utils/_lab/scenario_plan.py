# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The steps of a scenario, and the events that they consist of. No I/O."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Callable, List, NamedTuple

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError, VlabError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import (
    check_number,
    shown,
    suggestion,
)
from ansible_collections.vlab.qemu.plugins.module_utils._wire import parameters

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._lab.scenario_nodes import ScenarioNodes

STEP_SPEC: dict[str, dict[str, Any]] = {
    "at": {"type": "str"},
    "after": {"type": "str"},
    "cut": {"type": "list", "elements": "str"},
    "heal": {"type": "list", "elements": "str"},
    "impair": {"type": "dict"},
    "flap": {
        "type": "dict",
        "options": {
            "link": {"type": "str", "required": True},
            "times": {"type": "int", "default": 1},
            "down": {"type": "str", "required": True},
            "up": {"type": "str", "required": True},
        },
    },
    "pause": {"type": "list", "elements": "str"},
    "resume": {"type": "list", "elements": "str"},
    "validate": {"type": "raw"},
}
ACTIONS = tuple(name for name in STEP_SPEC if name not in ("at", "after"))

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_TIME = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|m|h)|0", re.ASCII)
_MAX_TIME = 86400  # seconds
_MAX_FLAPS = 10000


class Event(NamedTuple):
    """One change at one moment.

    step: the number of the step in the scenario. offset: seconds from the start of the scenario.
    action: cut, heal, impair, pause or resume. target: an endpoint, NODE:NIC, or a node.
    impair: the impairment, as qemu_nic takes it.
    """

    step: int
    offset: float
    action: str
    target: str
    impair: dict[str, Any] | None = None


class Part(NamedTuple):
    """What happens until assertions run, or until the end of the scenario.

    start, end: seconds from the start of the scenario. events: in the order of time.
    validate: True, the assertions to run, or False for none.
    """

    start: float
    end: float
    events: List[Event]
    validate: Any


def seconds(path: str, text: str) -> float:
    """Return a time in seconds. Raises OptionError."""
    match = _TIME.fullmatch(str(text).strip())
    if not match:
        raise OptionError(path, "%s is not a time with a unit, such as 500ms or 5s" % shown(text))
    number = float(match.group(1)) * _UNITS[match.group(2)] if match.group(1) else 0.0
    check_number(path, number, 0, _MAX_TIME, "a time in seconds")
    return round(number, 6)


def plan_parts(steps: list[dict[str, Any]], nodes: ScenarioNodes) -> list[Part]:
    """Return the parts of a scenario.

    steps: of STEP_SPEC, None for an omitted option. Raises one VlabError for all wrong steps.
    """
    planner = _Planner(nodes)
    for number, step in enumerate(steps):
        planner.add(number, {key: value for key, value in step.items() if value is not None})
    planner.raise_problems()
    return planner.finish()


class _Planner:
    def __init__(self, nodes: ScenarioNodes) -> None:
        self.nodes = nodes
        self.problems: list[OptionError] = []
        self.parts: list[Part] = []
        self.events: list[Event] = []
        # When this part began, the step before started, and all steps so far have ended.
        self.start, self.latest, self.end = 0.0, 0.0, 0.0
        self.end_of_previous = 0.0

    def add(self, number: int, step: dict[str, Any]) -> None:
        """Add a step; collect what is wrong with it."""
        path = "steps[%d]" % number
        actions = [name for name in ACTIONS if name in step]
        if len(actions) != 1:
            reason = "each step needs one of %s" % ", ".join(ACTIONS)
            given = ": it has %s" % ", ".join(actions) if actions else ""
            self.problems.append(OptionError(path, reason + given))
            return
        action, value = actions[0], step[actions[0]]
        offset = self._attempt(lambda: self._offset(path, step), self.latest)
        self.latest = offset
        self.end_of_previous = offset
        if action == "validate":
            self._attempt(lambda: self._validate(path, offset, value), None)
        elif action == "flap":
            self._attempt(lambda: self._flap(path + ".flap", number, offset, value), None)
        else:
            self._add_events("%s.%s" % (path, action), number, offset, action, value)
        self.end = max(self.end, self.end_of_previous)

    def finish(self) -> list[Part]:
        """Return all parts."""
        if self.events or not self.parts:
            self._close(self.end, False)
        return self.parts

    def raise_problems(self) -> None:
        """Raise the error of all wrong steps."""
        if len(self.problems) == 1:
            raise self.problems[0]
        if self.problems:
            raise VlabError(
                "\n".join(problem.message for problem in self.problems),
                options=[problem.option for problem in self.problems],
            )

    def _attempt(self, function: Callable[[], Any], default: Any) -> Any:
        try:
            return function()
        except OptionError as problem:
            self.problems.append(problem)
            return default

    def _offset(self, path: str, step: dict[str, Any]) -> float:
        if "at" in step and "after" in step:
            raise OptionError(path + ".after", "it cannot be combined with at")
        if "at" not in step:
            after = seconds(path + ".after", step["after"]) if "after" in step else 0.0
            return round(self.end_of_previous + after, 6)
        offset = seconds(path + ".at", step["at"])
        if offset < self.latest:
            raise OptionError(
                path + ".at",
                "%s is before the step before it, which starts at %gs" % (step["at"], self.latest),
            )
        return offset

    def _validate(self, path: str, offset: float, value: Any) -> None:
        if value is not True and not (isinstance(value, list) and value):
            raise OptionError(path + ".validate", "it is not true, and not a list of assertions")
        for position, assertion in enumerate(value if isinstance(value, list) else ()):
            self._check_assertion("%s.validate[%d]" % (path, position), assertion)
        if offset < self.end:
            raise OptionError(
                path,
                "the assertions would run at %gs, before the steps before have ended, at %gs"
                % (offset, self.end),
            )
        self._close(offset, value)

    def _check_assertion(self, path: str, assertion: Any) -> None:
        if not isinstance(assertion, dict) or not {"name", "node", "command"} <= set(assertion):
            raise OptionError(path, "an assertion has a name, a node and a command")
        self.nodes.node(path + ".node", assertion["node"])

    def _close(self, end: float, validate: Any) -> None:
        events = sorted(self.events, key=lambda event: event.offset)
        self.parts.append(Part(self.start, end, events, validate))
        self.events, self.start = [], end

    def _flap(self, path: str, number: int, offset: float, flap: dict[str, Any]) -> None:
        times = check_number(path + ".times", flap["times"], 1, _MAX_FLAPS, "a number of times")
        down = seconds(path + ".down", flap["down"])
        period = down + seconds(path + ".up", flap["up"])
        for one in range(times):
            begin = round(offset + one * period, 6)
            self._events(path + ".link", number, begin, "cut", flap["link"])
            self._events(path + ".link", number, round(begin + down, 6), "heal", flap["link"])
        self.end_of_previous = round(offset + times * period, 6)

    def _events(self, path: str, number: int, offset: float, action: str, text: str) -> None:
        for endpoint in self.nodes.endpoints(path, text):
            self.events.append(Event(number, offset, action, endpoint))

    def _add_events(self, path: str, number: int, offset: float, action: str, value: Any) -> None:
        """Add the events of a step that has one change for each of its items."""
        if not value:
            self.problems.append(OptionError(path, "it names nothing"))
        for position, item in enumerate(value):
            if action == "impair":
                where = "%s[%s]" % (path, item)
                add = functools.partial(self._impair, where, number, offset, item, value[item])
            else:
                where = "%s[%d]" % (path, position)
                method = self._events if action in ("cut", "heal") else self._power
                add = functools.partial(method, where, number, offset, action, item)
            self._attempt(add, None)

    def _power(self, path: str, number: int, offset: float, action: str, name: str) -> None:
        self.nodes.node(path, name)
        status = self.nodes.local.get(name, {}).get("status", "running")
        if status not in ("running", "paused"):
            raise OptionError(path, "the node %s is %s" % (name, status))
        self.events.append(Event(number, offset, action, name))

    def _impair(self, path: str, number: int, offset: float, text: str, value: Any) -> None:
        endpoints = self.nodes.endpoints(path, text)
        impair = _impairment(path, value)
        for endpoint in endpoints:
            kind = (self.nodes.nic(endpoint).get("link") or {}).get("type")
            if kind != "udp":
                raise OptionError(
                    path,
                    "only links of type udp can be impaired, that of %s is %s"
                    % (endpoint, kind or "none"),
                )
            self.events.append(Event(number, offset, "impair", endpoint, impair))


def _impairment(path: str, value: Any) -> dict[str, Any]:
    """Return an impairment as qemu_nic takes it. Raises OptionError."""
    given = {"preset": value} if isinstance(value, str) else {} if value is None else value
    if not isinstance(given, dict):
        raise OptionError(path, "%s is not an impairment, and not a preset" % shown(value))
    for key in given:
        if key not in parameters.SPEC:
            hint = suggestion(key, parameters.SPEC)
            raise OptionError("%s.%s" % (path, key), "there is no such option%s" % hint)
    burst = given.get("burst_loss")
    if burst is not None and not isinstance(burst, dict):
        raise OptionError(path + ".burst_loss", "%s is not a mapping" % shown(burst))
    parameters.normalise(path, given)
    return given
