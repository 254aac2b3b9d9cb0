# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a job as AWX does: ansible-runner in a container of the execution environment.

The job and its result are JSON.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parents[4]
RUNNER = 1000  # the user that an execution environment runs as
RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=\d+ +failed=\d+", re.MULTILINE)


def answers(job):
    """Return the survey's defaults with the answers; AWX ignores answers that are not valid."""
    if not job["survey"]:
        return {}
    survey = yaml.safe_load(
        (CHECKOUT / "playbooks/files/awx_surveys" / job["survey"]).read_text(encoding="utf-8")
    )["spec"]
    given = {
        question["variable"]: question["default"] for question in survey if "default" in question
    }
    asked = {question["variable"]: question for question in survey}
    for variable, answer in job["answers"].items():
        question = asked[variable]
        kinds = {
            "text": str,
            "textarea": str,
            "multiplechoice": str,
            "integer": int,
            "multiselect": list,
        }
        if (
            not isinstance(answer, kinds[question["type"]])
            or question["type"] == "multiplechoice"
            and answer not in question["choices"]
        ):
            sys.exit("AWX would not take %r for %s" % (answer, variable))
        given[variable] = answer
    return given


def private_data(folder, job):
    """The folder that ansible-runner is given: project, inventory and env."""
    for name in ("project", "inventory", "env"):
        (folder / name).mkdir()
    shutil.copytree(CHECKOUT / "playbooks", folder / "project" / "playbooks")
    shutil.copy(HERE / "here.yml", folder / "project")
    hosts = {
        name: {
            "ansible_host": address,
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        for name, address in job["hosts"].items()
    }
    inventory = {
        "all": {
            "hosts": {"localhost": {"ansible_connection": "local"}},
            "children": {"hypervisors": {"hosts": hosts}},
        }
    }
    files = {
        "inventory/hosts.json": json.dumps(inventory),
        "env/extravars": json.dumps({**job["variables"], **answers(job)}),
        "env/envvars": json.dumps({"ANSIBLE_HOST_KEY_CHECKING": "False", "ANSIBLE_NOCOLOR": "1"}),
        "env/ssh_key": pathlib.Path(job["key"]).read_text(encoding="utf-8"),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "env/ssh_key").chmod(0o600)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, RUNNER, 0)


def main():
    job = json.load(sys.stdin)
    podman = ["nsenter", "--net=" + job["network"], *job["container"]["podman"]]
    with tempfile.TemporaryDirectory(prefix="vlab-job-") as name:
        folder = pathlib.Path(name)
        private_data(folder, job)
        done = subprocess.run(
            [
                *podman,
                "run",
                "--rm",
                "--network=host",
                *job["container"]["limits"],
                "--user=%d:0" % RUNNER,
                "--volume=%s:/runner" % folder,
                job["container"]["image"],
                "ansible-runner",
                "run",
                "/runner",
                "--playbook",
                job["playbook"],
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    left = subprocess.run(
        [*podman, "ps", "--all", "--quiet"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    print(
        json.dumps(
            {
                "rc": done.returncode,
                "stdout": done.stdout,
                "recap": RECAP.findall(done.stdout),
                "left": left,
            }
        )
    )


if __name__ == "__main__":
    main()
