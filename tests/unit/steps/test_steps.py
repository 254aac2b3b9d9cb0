# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps in process give the same results as ansible-playbook, failures included."""

from __future__ import annotations

import io
import pathlib
import sys

import pytest

STEPS = pathlib.Path(__file__).resolve().parents[2] / "steps"


@pytest.fixture(scope="module")
def parts():
    """Import the modules of tests/steps, which are not a package."""
    sys.path.insert(0, str(STEPS))
    try:
        import channel
        import engine
        import tables

        yield channel, engine, tables
    finally:
        sys.path.remove(str(STEPS))


@pytest.fixture(scope="module")
def line(parts):
    """Provide a connection to a server on this host."""
    opened = parts[0].Channel([sys.executable, "-c", parts[0].BOOTSTRAP])
    yield opened
    opened.close()


@pytest.fixture
def take(parts, line, tmp_path, monkeypatch):
    """Return a function that runs the tasks of a target and returns the engine."""
    _channel, engine, tables = parts

    def run(text, **files):
        folder = tmp_path / "target"
        (folder / "tasks").mkdir(parents=True)
        for name, content in dict(files, main=text).items():
            (folder / "tasks" / (name + ".yml")).write_text(content, encoding="utf-8")
        tables.LOADER.cleanup_all_tmp_files()
        monkeypatch.setattr(tables, "TARGETS", tmp_path)
        monkeypatch.setattr(tables, "LOADER", type(tables.LOADER)())
        made = engine.Engine("here", line, {"output_dir": str(tmp_path)}, io.StringIO())
        made.run_target("target")
        return made

    return run


COMMAND = (
    "- {name: c, ansible.builtin.command: {argv: [%s]}, register: done, changed_when: false%s}\n"
)
WAIT = (
    "- {name: w, ansible.builtin.async_status: {jid: '{{ job.ansible_job_id }}'}, register: w,"
    " until: w is finished, retries: 50,"
    " delay: 0.1}\n"
)
PASSES = {
    "a command": COMMAND % ("'true'", ""),
    "failed_when": COMMAND % ("'false'", ", failed_when: done.rc != 1"),
    "a list of conditions has to hold as a whole": COMMAND
    % ("'false'", ", failed_when: [done.rc == 1, done.rc == 2]"),
    "when": COMMAND % ("'false'", ", when: 1 == 2"),
    "ignore_errors": COMMAND % ("'false'", ", ignore_errors: true")
    + "- {name: a, ansible.builtin.assert: {that: done is failed}}\n",
    "a loop": COMMAND % ("echo, '{{ item }}'", ", loop: [1, 2]")
    + "- {name: a, ansible.builtin.assert: {that: \"done.results[1].stdout == '2'\"}}\n",
    "until": COMMAND
    % (
        "sh, -c, 'echo >>{{ output_dir }}/n; test $(wc -l <{{ output_dir }}/n) = 3'",
        ", until: done is success, retries: 5, delay: 0",
    ),
    "rescue": "- name: b\n  block:\n"
    "    - {name: f, ansible.builtin.command: {argv: ['false']}}\n  rescue:\n"
    "    - {name: r, ansible.builtin.command: {argv: ['true']}}\n",
    "variables, defaults and facts": "- name: b\n  vars: {one: '{{ two }}', two: 2}\n"
    "  module_defaults: {ansible.builtin.command: {stdin: in}}\n  block:\n"
    "    - {name: c, ansible.builtin.command: {argv: [cat]}, register: done}\n"
    "    - {name: s, ansible.builtin.set_fact: {fact: '{{ one + 1 }}'}}\n"
    "    - {name: a, ansible.builtin.assert: {that: [fact == 3, done.stdout == 'in', "
    "done is changed]}}\n",
    "what a program prints is no template": COMMAND % ("printf, '{\\173 1'", "")
    + "- {name: a, ansible.builtin.assert: {that: \"done.stdout == '{' ~ '{ 1'\"}}\n",
    "in the background": "- {name: j, ansible.builtin.command: {argv: [sleep, '0.2']}, "
    "async: 10, poll: 0, register: job}\n" + WAIT,
}
FAILS = {
    "a command": (COMMAND % ("'false'", ""), "non-zero return code"),
    "failed_when": (COMMAND % ("'true'", ", failed_when: done.rc == 0"), '"failed": true'),
    "one of a loop": (
        COMMAND % ("test, '{{ item }}', '!=', '2'", ", loop: [1, 2, 3]"),
        "One or more items failed",
    ),
    "until": (
        COMMAND % ("'false'", ", until: done is success, retries: 2, delay: 0"),
        '"failed": true',
    ),
    "assert": ("- {name: a, ansible.builtin.assert: {that: [1 == 1, 1 == 2]}}\n", "1 == 2"),
    "an undefined variable": (
        "- {name: a, ansible.builtin.assert: {that: nothing == 1}}\n",
        "undefined",
    ),
    "an undefined variable in options": (COMMAND % ("echo, '{{ nothing }}'", ""), "undefined"),
    "always, after a failure": (
        "- name: b\n  block:\n"
        "    - {name: f, ansible.builtin.command: {argv: ['false']}}\n  always:\n"
        "    - {name: r, ansible.builtin.command: {argv: ['true']}}\n",
        "target : f",
    ),
    "an option that there is not": (
        "- {name: c, ansible.builtin.command: {argv: ['true'], nothing: 1}}\n",
        "Unsupported parameters",
    ),
    "a vlab.qemu module with a wrong option": (
        "- {name: c, vlab.qemu.qemu_vm_info: {nothing: 1}}\n",
        "Unsupported parameters",
    ),
    "a module that there is not": ("- {name: c, vlab.qemu.qemu_nothing: {}}\n", "MODULE FAILURE"),
    "a command in the background": (
        "- {name: j, ansible.builtin.command: {argv: ['false']}, "
        "async: 10, poll: 0, register: job}\n" + WAIT,
        "non-zero return code",
    ),
}
UNKNOWN = {
    "a word": "- {name: c, ansible.builtin.command: {argv: ['true']}, run_once: true}\n",
    "two modules": "- {name: c, ansible.builtin.command: {argv: ['true']}, "
    "ansible.builtin.stat: {path: /}}\n",
    "a word of a block": "- {name: b, block: [], ignore_errors: true}\n",
    "a word of loop_control": COMMAND % ("'true'", ", loop: [1], loop_control: {pause: 3}"),
}


@pytest.mark.parametrize("name", PASSES)
def test_passes(take, name):
    assert take(PASSES[name]).facts is not None


@pytest.mark.parametrize("name", FAILS)
def test_fails(take, parts, name):
    text, says = FAILS[name]
    with pytest.raises(parts[1].StepFailed) as caught:
        take(text)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_the_steps_do_not_know_is_an_error(take, parts, name):
    with pytest.raises(parts[2].TableError, match="the steps do not support"):
        take(UNKNOWN[name])


def test_an_included_file_has_the_variables_and_not_the_loop_of_its_task(take):
    engine = take(
        "- {name: i, ansible.builtin.include_tasks: other.yml, vars: {one: 1}, loop: [a, b], "
        "loop_control: {loop_var: letter}}\n",
        other="- {name: s, ansible.builtin.set_fact: "
        "{seen: '{{ (seen | default([])) + [letter ~ one] }}'}}\n",
    )
    assert engine.facts["seen"] == ["a1", "b1"]


def test_conditions_are_counted(take):
    engine = take(
        "- {name: a, ansible.builtin.assert: {that: [1 == 1, 2 == 2]}}\n"
        + COMMAND % ("'true'", ", failed_when: false")
    )
    assert (engine.steps, engine.conditions) == (2, 4)
