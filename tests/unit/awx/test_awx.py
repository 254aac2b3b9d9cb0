# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Surveys and job templates of playbooks/ match AWX, the playbooks and the roles."""

from __future__ import annotations

import re

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.vlab.qemu.tests.unit import documents

ROOT = documents.ROOT
SURVEYS = sorted(path.name for path in (ROOT / "playbooks/files/awx_surveys").glob("*.yml"))
# import.yml writes files on the controller, which a job does not keep. heal_vm.yml is for rules,
# live.yml serves a page to the user of the controller, and capture.yml is for a desk.
NOT_FOR_JOBS = ("awx.yml", "capture.yml", "heal_vm.yml", "import.yml", "live.yml")
PLAYBOOKS = sorted(
    path.name for path in (ROOT / "playbooks").glob("*.yml") if path.name not in NOT_FOR_JOBS
)
# What AWX accepts as an answer or a default for each type of question (awx/main/models/mixins.py).
ANSWERS = {
    "text": str,
    "textarea": str,
    "password": str,
    "integer": int,
    "float": float,
    "multiplechoice": str,
    "multiselect": list,
}
KEYS = {
    "question_name",
    "question_description",
    "variable",
    "type",
    "required",
    "default",
    "choices",
    "min",
    "max",
}
# The types of questions for each type of a role's variable. A role accepts true and false as
# texts, and names separated by commas.
SUIT = {
    "str": {"text", "multiplechoice"},
    "path": {"text"},
    "int": {"integer"},
    "bool": {"multiplechoice"},
    "list": {"multiselect", "text"},
    "raw": {"textarea"},
}
# The options of the modules of awx.awx 24.6 that playbooks/awx.yml may use.
MODULES = {
    "awx.awx.execution_environment": {
        "name",
        "image",
        "description",
        "organization",
        "credential",
        "pull",
        "state",
    },
    "awx.awx.project": {
        "name",
        "organization",
        "scm_type",
        "scm_url",
        "scm_branch",
        "scm_update_on_launch",
        "default_environment",
        "wait",
    },
    "awx.awx.job_template": {
        "name",
        "description",
        "organization",
        "job_type",
        "inventory",
        "project",
        "playbook",
        "credentials",
        "execution_environment",
        "become_enabled",
        "ask_diff_mode_on_launch",
        "ask_job_type_on_launch",
        "ask_verbosity_on_launch",
        "survey_enabled",
        "survey_spec",
    },
}


def load(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


TEMPLATES = load("playbooks/vars/awx_job_templates.yml")["awx_job_templates"]
QUESTIONS = [
    (survey, question)
    for survey in SURVEYS
    for question in load("playbooks/files/awx_surveys/" + survey)["spec"]
]
each_question = pytest.mark.parametrize(
    "survey, question",
    QUESTIONS,
    ids=lambda given: given if isinstance(given, str) else given["variable"],
)


def play(playbook):
    (found,) = load("playbooks/" + playbook)
    return found


def hosts_variable(playbook):
    """The variable that names the hosts of a play."""
    return re.fullmatch(
        r"\{\{ (\w+) \| default\('localhost', true\) \}\}", play(playbook)["hosts"]
    ).group(1)


def options(survey):
    """Return the variables of a playbook's role; a topology role passes answers to the role lab."""
    (role,) = [entry["role"].rpartition(".")[2] for entry in play(survey)["roles"]]
    own = load("roles/%s/meta/argument_specs.yml" % role)["argument_specs"]["main"]["options"]
    lab = load("roles/lab/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    return {**({} if role == "hypervisor" else lab), **own}


def test_every_playbook_has_a_job_template_and_a_survey():
    assert sorted(template["playbook"] for template in TEMPLATES) == [
        "playbooks/" + name for name in PLAYBOOKS
    ]
    assert sorted(template["survey"] for template in TEMPLATES) == SURVEYS
    assert all(template["playbook"] == "playbooks/" + template["survey"] for template in TEMPLATES)
    assert len({template["name"] for template in TEMPLATES}) == len(TEMPLATES)


@pytest.mark.parametrize("survey", SURVEYS)
def test_a_survey_is_one(survey):
    data = load("playbooks/files/awx_surveys/" + survey)
    assert set(data) == {"name", "description", "spec"}
    variables = [question["variable"] for question in data["spec"]]
    assert len(set(variables)) == len(variables)
    assert hosts_variable(survey) == variables[0]


@each_question
def test_awx_takes_a_question(survey, question):
    assert set(question) <= KEYS
    assert {"question_name", "question_description", "variable", "type", "required"} <= set(
        question
    )
    assert ("choices" in question) == (question["type"] in ("multiplechoice", "multiselect"))
    assert all(isinstance(choice, str) for choice in question.get("choices", []))
    if "default" in question:
        default = question["default"]
        assert isinstance(default, ANSWERS[question["type"]]) and not isinstance(default, bool)
        if question["type"] == "multiplechoice":
            assert default in question["choices"]
        if question["type"] == "integer":
            assert question["min"] <= default <= question["max"]


@each_question
def test_a_question_suits_the_variable(survey, question):
    if question["variable"] == hosts_variable(survey):
        assert question["type"] == "text"
        return
    option = options(survey)[question["variable"]]
    assert question["type"] in SUIT[option["type"]]
    if option["type"] == "bool":
        assert question["choices"] == ["true", "false"]
    elif "choices" in question:
        assert set(question["choices"]) <= set(option["choices"])
    if option.get("required"):
        assert question["required"]
    elif "default" in question and option["type"] in ("str", "int", "bool", "path"):
        assert question["default"] == (
            str(option["default"]).lower() if option["type"] == "bool" else option["default"]
        )


@pytest.mark.parametrize("survey", SURVEYS)
def test_the_role_takes_the_answers(survey):
    """By Ansible's own check of a role's arguments, for the defaults and for each choice."""
    questions = [
        question
        for question in load("playbooks/files/awx_surveys/" + survey)["spec"]
        if question["variable"] != hosts_variable(survey)
    ]
    needed = {"lab_topology": "labs/pair.yml"}
    answers = {
        question["variable"]: question["default"] for question in questions if "default" in question
    }
    tries = [answers] + [
        {
            **answers,
            question["variable"]: choice if question["type"] == "multiplechoice" else [choice],
        }
        for question in questions
        for choice in question.get("choices", [])
    ]
    spec = options(survey)
    for given in tries:
        checked = ArgumentSpecValidator(
            {key: value for key, value in spec.items() if key in given or key in needed}
        ).validate({**{key: value for key, value in needed.items() if key in spec}, **given})
        assert not checked.error_messages


def test_the_playbook_for_awx_uses_options_that_there_are():
    (awx,) = load("playbooks/awx.yml")
    defaults = awx["module_defaults"]
    used = {
        name: set(given) | set(defaults.get(name, {}))
        for task in awx["tasks"]
        for name, given in task.items()
        if name.startswith("awx.awx.")
    }
    assert set(used) == set(MODULES)
    for name, given in used.items():
        assert given <= MODULES[name]


def test_the_execution_environment_gets_what_the_collection_needs():
    definition = load("playbooks/files/awx_execution_environment.yml")
    assert definition["dependencies"]["galaxy"]["collections"] == [{"name": "vlab.qemu"}]
    needs = load("meta/execution-environment.yml")["dependencies"]
    named = {
        line.split(">")[0]
        for path in needs.values()
        for line in (ROOT / path).read_text(encoding="utf-8").splitlines()
        if line[:1] not in ("", "#")
    }
    assert named == {
        "jsonschema",
        "netaddr",
        "graphviz [platform:dpkg]",
        "graphviz [platform:rpm]",
        "openssh-client [platform:dpkg]",
        "openssh-clients [platform:rpm]",
    }
