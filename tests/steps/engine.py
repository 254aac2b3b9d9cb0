# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the tasks of a target on one hypervisor as ansible-playbook would, in this process."""

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
    """A task failed and no rescue handled it."""


@dataclasses.dataclass(frozen=True)
class Context:
    """What a task inherits from its blocks, its file and its role."""

    role: Role
    variables: dict[str, Any]
    overlay: dict[str, Any] = dataclasses.field(default_factory=dict)
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    conditions: tuple[Any, ...] = ()
    check: bool = False
    diff: bool = False
    user: str = ""

    def inside(self, task: Task) -> Context:
        """Return the context of a task, or of the tasks in a block."""
        words = task.words
        user = self.user
        if "become" in words:
            user = words.get("become_user", "root") if words["become"] else ""
        return dataclasses.replace(
            self,
            variables={**self.variables, **words.get("vars", {})},
            defaults={**self.defaults, **words.get("module_defaults", {})},
            environment={**self.environment, **(words.get("environment") or {})},
            conditions=(*self.conditions, *as_list(words.get("when", []))),
            check=words.get("check_mode", self.check),
            diff=words.get("diff", self.diff),
            user=user,
        )


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, and another value as a list of one."""
    return value if isinstance(value, list) else [value]


class Engine:
    """Run tasks on one hypervisor, with its variables and the registered results."""

    def __init__(self, name: str, channel: Channel, variables: dict[str, Any], log: TextIO) -> None:
        """Use a connection and inventory variables; write a line for each task to `log`."""
        self.name, self.channel, self.log = name, channel, log
        self.variables = variables
        self.facts: dict[str, Any] = {}
        self.steps = self.conditions = 0

    def prepare(self) -> dict[str, Any]:
        """Gather facts, and import all modules meanwhile; return the reply for the latter.

        The server runs each module in a fork, which needs no more imports then.
        """
        call = actions.Call("ansible.builtin.setup", {}, pathlib.Path(), False, False, "", {})
        module = actions.python_name(call.module)
        job = self.channel.ask("start", **call.request(module, {}))["job"]
        imported = self.channel.ask("import_all")
        reply = self.channel.ask("poll", job=job)
        while reply.get("running"):
            time.sleep(0.05)
            reply = self.channel.ask("poll", job=job)
        self._set_facts(actions.result_of(reply))
        return imported

    def _set_facts(self, result: dict[str, Any]) -> None:
        """Add the facts to the variables."""
        if result["failed"]:
            raise StepFailed("facts: %s" % result["msg"])
        found = result["ansible_facts"]
        self.variables = {
            **self.variables,
            **found,
            "ansible_facts": {key.removeprefix("ansible_"): found[key] for key in found},
        }

    def run_target(self, name: str) -> None:
        """Run all tasks of a target. Raise StepFailed at the first failure."""
        self.facts = {}
        context = Context(Role(name), {}, defaults=self.variables.get("steps_module_defaults", {}))
        self._role(Role(name), "main.yml", context)

    def _role(self, role: Role, file: str, context: Context) -> None:
        """Run a file of tasks of a role, after the dependencies of the role."""
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
        """Run tasks and blocks."""
        for task in tasks:
            if task.block:
                self._block(task, context.inside(task))
            else:
                self._task(task, context.inside(task))

    def _block(self, task: Task, context: Context) -> None:
        """Run a block with its rescue and always sections."""
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
        """Return a templar with the variables of a context."""
        variables = {**self.variables, **context.variables, **self.facts, **context.overlay, **more}
        variables.setdefault("vars", variables)
        return Templar(loader=LOADER, variables=variables)

    def _holds(self, condition: Any, templar: Templar) -> bool:
        """Return whether a condition, or each of a list, is true."""
        self.conditions += 1
        return all(templar.evaluate_conditional(one) for one in as_list(condition))

    def _loop_variables(self, task: Task, context: Context) -> Optional[list[dict[str, Any]]]:
        """Return the variables of each iteration of a loop; None for a task without one."""
        if "loop" not in task.words:
            return None
        if not self._hold_without_item(context):
            return []
        control = task.words.get("loop_control", {})
        found = self._templar(context).template(task.words["loop"])
        if not isinstance(found, list):
            raise TableError("%s: loop is not a list: %r" % (task.name, found))
        iterations = [{control.get("loop_var", "item"): item} for item in found]
        if "index_var" in control:
            for number, variables in enumerate(iterations):
                variables[control["index_var"]] = number
        return iterations

    def _task(self, task: Task, context: Context) -> None:
        """Run a task, register and report its result, and raise StepFailed if it failed."""
        is_include = task.module in (INCLUDE_ROLE, INCLUDE_TASKS)
        run = self._include if is_include else self._step
        started = time.monotonic()
        result: dict[str, Any]
        try:
            iterations = self._loop_variables(task, context)
            if iterations is None:
                result = run(task, context)
            else:
                result = self._loop(task, context, iterations, run)
        except (AnsibleError, TableError) as error:
            result = {"failed": True, "changed": False, "msg": str(error)}
        if "register" in task.words:
            self.facts[task.words["register"]] = result
        self._report(task, context, result, time.monotonic() - started)
        if result["failed"] and not task.words.get("ignore_errors"):
            text = json.dumps(shown(result), default=str, indent=1)[:4000]
            raise StepFailed("%s: %s" % (self._name(task, context), text))

    def _hold_without_item(self, context: Context) -> bool:
        """Return whether the conditions hold, or need an item of the loop."""
        try:
            templar = self._templar(context)
            return all(templar.evaluate_conditional(one) for one in context.conditions)
        except AnsibleError:
            return True

    def _loop(
        self,
        task: Task,
        context: Context,
        iterations: list[dict[str, Any]],
        run: Callable[[Task, Context], dict[str, Any]],
    ) -> dict[str, Any]:
        """Run a task once for each iteration of its loop; return the combined result."""
        results = []
        variable = task.words.get("loop_control", {}).get("loop_var", "item")
        for variables in iterations:
            overlay = {**context.overlay, **variables}
            try:
                result = run(task, dataclasses.replace(context, overlay=overlay))
            except (AnsibleError, TableError) as error:
                result = {"failed": True, "changed": False, "msg": str(error)}
            results.append({**result, **variables, "ansible_loop_var": variable})
            if result["failed"] and run == self._include:
                break
        failed = any(result["failed"] for result in results)
        combined = {
            "results": results,
            "failed": failed,
            "changed": any(result["changed"] for result in results),
            "msg": "One or more items failed" if failed else "All items completed",
        }
        if all(result.get("skipped") for result in results):
            combined["skipped"] = True
        return combined

    def _include(self, task: Task, context: Context) -> dict[str, Any]:
        """Run an include_role or include_tasks."""
        templar = self._templar(context)
        if not all(self._holds(condition, templar) for condition in context.conditions):
            return {"skipped": True, "changed": False, "failed": False}
        # The conditions apply to the include, not to the included tasks.
        context = dataclasses.replace(context, conditions=())
        options = templar.template(task.options)
        if task.module == INCLUDE_TASKS:
            file = options if isinstance(options, str) else options["file"]
            self._tasks(context.role.tasks(file), context)
        else:
            self._role(Role(options["name"]), options.get("tasks_from", "main.yml"), context)
        return {"changed": False, "failed": False}

    def _step(self, task: Task, context: Context) -> dict[str, Any]:
        """Run a task with its conditions and retries."""
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
            result = self._run_once(task, context, templar)
            registered = {words["register"]: result} if "register" in words else {}
            templar = self._templar(context, **registered)
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

    def _run_once(self, task: Task, context: Context, templar: Templar) -> dict[str, Any]:
        """Run the module of a task once."""
        if task.module == "ansible.builtin.assert":
            return self._assert(task, templar)
        options = templar.template(task.options)
        if isinstance(options, str):
            if task.module not in actions.FREE_FORM:
                raise TableError("%s: options are not a dictionary: %r" % (task.name, options))
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
        """Run an ansible.builtin.assert."""
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

    # --- Reports ---

    def _name(self, task: Task, context: Context) -> str:
        """Return the name of a task with that of its role."""
        try:
            name = self._templar(context).template(task.name)
        except AnsibleError:
            name = task.name
        return "%s : %s" % (context.role.name, name or task.module)

    def _report(self, task: Task, context: Context, result: dict[str, Any], seconds: float) -> None:
        """Write the line of a task to the log."""
        states = [key for key in ("failed", "skipped", "changed") if result.get(key)]
        state = states[0] if states else "ok"
        line = "%s: [%s] %6.2f s  %s" % (state, self.name, seconds, self._name(task, context))
        if result["failed"]:
            line += " => " + json.dumps(shown(result), default=str)
        self.log.write(line + "\n")
        self.log.flush()


def shown(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result without the parts that do not help to find an error."""
    hidden = {"invocation", "stdout_lines", "stderr_lines", "ansible_loop_var"}
    found = {key: value for key, value in result.items() if key not in hidden}
    if "results" in found:
        failures = [shown(item) for item in found["results"] if item["failed"]]
        found["results"] = failures or "%d items" % len(found["results"])
    return found
