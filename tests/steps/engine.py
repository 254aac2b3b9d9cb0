# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the steps of a target on one hypervisor, as ansible-playbook would, in this process."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from typing import Any, Callable, Optional, TextIO

import actions
from ansible.errors import AnsibleError
from ansible.template import Templar
from channel import Channel
from tables import LOADER, Role, TableError, Task

INCLUDE_ROLE, INCLUDE_TASKS = "ansible.builtin.include_role", "ansible.builtin.include_tasks"


class StepFailed(Exception):
    """A step failed, and nothing caught it."""


@dataclasses.dataclass(frozen=True)
class Context:
    """What a step inherits from the blocks and the files around it."""

    role: Role
    variables: dict[str, Any]
    overlay: dict[str, Any] = dataclasses.field(default_factory=dict)
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    conditions: tuple[Any, ...] = ()
    check: bool = False
    diff: bool = False
    user: str = ""

    def inside(self, task: Task) -> "Context":
        """For a task, or for what is in a block."""
        words = task.words
        return dataclasses.replace(
            self,
            variables={**self.variables, **words.get("vars", {})},
            defaults={**self.defaults, **words.get("module_defaults", {})},
            environment={**self.environment, **(words.get("environment") or {})},
            conditions=(*self.conditions, *as_list(words.get("when", []))),
            check=words.get("check_mode", self.check),
            diff=words.get("diff", self.diff),
            user=(words.get("become_user", "root") if words["become"] else "")
            if "become" in words
            else self.user,
        )


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class Engine:
    """One hypervisor: the way to it, its variables, and what was registered."""

    def __init__(self, name: str, channel: Channel, variables: dict[str, Any], log: TextIO) -> None:
        self.name, self.channel, self.log = name, channel, log
        self.variables = variables
        self.facts: dict[str, Any] = {}
        self.steps = self.conditions = 0

    def gather_facts(self) -> None:
        """What a play would know of its host."""
        call = actions.Call("ansible.builtin.setup", {}, pathlib.Path(), False, False, "", {})
        result = actions.run(self.channel, call)
        if result["failed"]:
            raise StepFailed("facts: %s" % result["msg"])
        found = result["ansible_facts"]
        self.variables = {
            **self.variables,
            **found,
            "ansible_facts": {key.removeprefix("ansible_"): found[key] for key in found},
        }

    def run_target(self, name: str) -> None:
        """Take all steps of a target. Raises StepFailed."""
        self.facts = {}
        context = Context(Role(name), {}, defaults=self.variables.get("steps_module_defaults", {}))
        self._role(Role(name), "main.yml", context)

    def _role(self, role: Role, file: str, context: Context) -> None:
        variables = {
            **role.variables("defaults"),
            **context.variables,
            **role.variables("vars"),
            "role_path": str(role.folder),
            "role_name": role.name,
            "ansible_search_path": [str(role.folder)],
        }
        if file == "main.yml":
            for other in role.dependencies():
                self._role(other, "main.yml", context)
        self._tasks(role.tasks(file), dataclasses.replace(context, role=role, variables=variables))

    def _tasks(self, tasks: tuple[Task, ...], context: Context) -> None:
        for task in tasks:
            if task.block:
                self._block(task, context.inside(task))
            else:
                self._task(task, context.inside(task))

    def _block(self, task: Task, context: Context) -> None:
        try:
            try:
                self._tasks(task.block, context)
            except StepFailed:
                if not task.rescue:
                    raise
                self._tasks(task.rescue, context)
        finally:
            self._tasks(task.always, context)

    # --- One task ---

    def _templar(self, context: Context, **more: Any) -> Templar:
        variables = {**self.variables, **context.variables, **self.facts, **context.overlay, **more}
        variables.setdefault("vars", variables)
        return Templar(loader=LOADER, variables=variables)

    def _holds(self, condition: Any, templar: Templar) -> bool:
        self.conditions += 1
        return all(templar.evaluate_conditional(one) for one in as_list(condition))

    def _items(self, task: Task, context: Context) -> Optional[list[dict[str, Any]]]:
        """The variables of each turn of a loop; None for a task without one."""
        if "loop" not in task.words:
            return None
        control = task.words.get("loop_control", {})
        found = self._templar(context).template(task.words["loop"])
        if not isinstance(found, list):
            raise TableError("%s: loop is no list: %r" % (task.name, found))
        turns = [{control.get("loop_var", "item"): item} for item in found]
        if "index_var" in control:
            for number, turn in enumerate(turns):
                turn[control["index_var"]] = number
        return turns

    def _task(self, task: Task, context: Context) -> None:
        take = {INCLUDE_ROLE: self._include, INCLUDE_TASKS: self._include}.get(
            task.module, self._step
        )
        started = time.monotonic()
        result: dict[str, Any]
        try:
            turns = (
                self._items(task, context)
                if "loop" not in task.words or self._wanted_once(context)
                else []
            )
            if turns is None:
                result = take(task, context)
            else:
                result = self._loop(task, context, turns, take)
        except (AnsibleError, TableError) as error:
            result = {"failed": True, "changed": False, "msg": str(error)}
        if "register" in task.words:
            self.facts[task.words["register"]] = result
        self._report(task, context, result, time.monotonic() - started)
        if result["failed"] and not task.words.get("ignore_errors"):
            raise StepFailed(
                "%s: %s"
                % (
                    self._name(task, context),
                    json.dumps(shown(result), default=str, indent=1)[:4000],
                )
            )

    def _wanted_once(self, context: Context) -> bool:
        """Whether the conditions hold where they can be asked without an item of the loop."""
        try:
            templar = self._templar(context)
            return all(templar.evaluate_conditional(one) for one in context.conditions)
        except AnsibleError:
            return True

    def _loop(
        self,
        task: Task,
        context: Context,
        turns: list[dict[str, Any]],
        take: Callable[[Task, Context], dict[str, Any]],
    ) -> dict[str, Any]:
        results = []
        variable = task.words.get("loop_control", {}).get("loop_var", "item")
        for turn in turns:
            try:
                result = take(
                    task, dataclasses.replace(context, overlay={**context.overlay, **turn})
                )
            except (AnsibleError, TableError) as error:
                result = {"failed": True, "changed": False, "msg": str(error)}
            results.append({**result, **turn, "ansible_loop_var": variable})
            if result["failed"] and take == self._include:
                break
        failed = any(result["failed"] for result in results)
        whole = {
            "results": results,
            "failed": failed,
            "changed": any(result["changed"] for result in results),
            "msg": "One or more items failed" if failed else "All items completed",
        }
        if all(result.get("skipped") for result in results):
            whole["skipped"] = True
        return whole

    def _include(self, task: Task, context: Context) -> dict[str, Any]:
        templar = self._templar(context)
        if not all(self._holds(condition, templar) for condition in context.conditions):
            return {"skipped": True, "changed": False, "failed": False}
        # The conditions were for the include, not for what is in it.
        context = dataclasses.replace(context, conditions=())
        options = templar.template(task.options)
        if task.module == INCLUDE_TASKS:
            self._tasks(
                context.role.tasks(options if isinstance(options, str) else options["file"]),
                context,
            )
        else:
            self._role(Role(options["name"]), options.get("tasks_from", "main.yml"), context)
        return {"changed": False, "failed": False}

    def _step(self, task: Task, context: Context) -> dict[str, Any]:
        words = task.words
        templar = self._templar(context)
        if not all(self._holds(condition, templar) for condition in context.conditions):
            return {
                "skipped": True,
                "changed": False,
                "failed": False,
                "skip_reason": "Conditional result was False",
            }
        self.steps += 1
        tries = int(templar.template(words.get("retries", 3))) + 1 if "until" in words else 1
        for number in range(1, tries + 1):
            result = self._once(task, context, templar)
            templar = self._templar(
                context, **({words["register"]: result} if "register" in words else {})
            )
            for word, key in (("changed_when", "changed"), ("failed_when", "failed")):
                if word in words:
                    result[key] = self._holds(words[word], templar)
            if tries == 1 or self._holds(words["until"], templar):
                return result
            result["attempts"] = number
            if number < tries:
                time.sleep(float(templar.template(words.get("delay", 5))))
        result["failed"] = True
        return result

    def _once(self, task: Task, context: Context, templar: Templar) -> dict[str, Any]:
        if task.module == "ansible.builtin.assert":
            return self._assert(task, templar)
        options = templar.template(task.options)
        if isinstance(options, str):
            if task.module not in actions.FREE_FORM:
                raise TableError("%s: options are no dictionary: %r" % (task.name, options))
            options = {"_raw_params": options}
        if task.module == "ansible.builtin.set_fact":
            self.facts.update(options)
            return {"ansible_facts": options, "changed": False, "failed": False}
        options = {**(templar.template(context.defaults.get(task.module)) or {}), **options}
        call = actions.Call(
            task.module,
            options,
            context.role.folder / "files",
            bool(templar.template(context.check)),
            bool(templar.template(context.diff)),
            context.user,
            templar.template(context.environment),
        )
        if "async" in task.words:
            return actions.start(self.channel, call)
        return actions.run(self.channel, call)

    def _assert(self, task: Task, templar: Templar) -> dict[str, Any]:
        for condition in as_list(templar.template(task.options["that"])):
            if not self._holds(condition, templar):
                return {
                    "failed": True,
                    "changed": False,
                    "msg": task.options.get("fail_msg", "Assertion failed"),
                    "assertion": str(condition),
                    "evaluated_to": False,
                }
        return {"failed": False, "changed": False, "msg": "All assertions passed"}

    # --- What is written down ---

    def _name(self, task: Task, context: Context) -> str:
        try:
            name = self._templar(context).template(task.name)
        except AnsibleError:
            name = task.name
        return "%s : %s" % (context.role.name, name or task.module)

    def _report(self, task: Task, context: Context, result: dict[str, Any], seconds: float) -> None:
        state = (
            "failed"
            if result["failed"]
            else "skipped"
            if result.get("skipped")
            else "changed"
            if result["changed"]
            else "ok"
        )
        line = "%s: [%s] %6.2f s  %s" % (state, self.name, seconds, self._name(task, context))
        if result["failed"]:
            line += " => " + json.dumps(shown(result), default=str)
        self.log.write(line + "\n")
        self.log.flush()


def shown(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what a reader does not look for."""
    hidden = {"invocation", "stdout_lines", "stderr_lines", "ansible_loop_var"}
    found = {key: value for key, value in result.items() if key not in hidden}
    if "results" in found:
        found["results"] = [
            shown(one) for one in found["results"] if one["failed"]
        ] or "%d items" % len(found["results"])
    return found
