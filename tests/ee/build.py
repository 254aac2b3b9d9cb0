# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the execution environment as a container image and print its name.

ansible-builder builds it from playbooks/files/awx_execution_environment.yml, as for any user. Only
the base image and the Python packages differ: mmdebstrap makes the base image from Debian packages,
and the Python packages are downloaded before. The build uses no image registry and no Galaxy. The
image is kept in ~/.cache/vlab-qemu/ee; a changed collection is installed over it.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import yaml

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tests" / "testbed"))

from layout import SHARED, Failure, call, locked  # pylint: disable=wrong-import-position
from trees import apt_options, install, mirrors  # pylint: disable=wrong-import-position

CACHE = SHARED / "ee"
BIN = pathlib.Path(sys.executable).parent
DEFINITION = CHECKOUT / "playbooks" / "files" / "awx_execution_environment.yml"
NEEDS = CHECKOUT / "meta" / "ee-requirements.txt"
# An old storage driver and runtime, which need nothing of the kernel, and a storage of our own.
PODMAN = [
    "podman",
    "--root",
    str(CACHE / "storage"),
    "--runroot",
    "/run/vlab-ee",
    "--storage-driver=vfs",
    "--cgroup-manager=cgroupfs",
    "--runtime=runc",
]
LIMITS = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"]
RELEASE, PYTHON = "bookworm", "3.11"
PACKAGES = [
    "python3",
    "python3-pip",
    "python3-venv",
    "openssh-client",
    "ca-certificates",
    "graphviz",
]
BASE = "localhost/vlab-ee-base"
IMAGE = "localhost/vlab-ee"
# What ansible-builder itself installs, in the builder's stage and at the end.
BUILDERS_OWN = ["bindep", "pyyaml", "packaging", "dumb-init==1.2.5"]
INSTALL = """FROM {image}
USER 0
RUN ansible-galaxy collection install --offline --force \\
    --collections-path /usr/share/ansible/collections /collection/{archive}
USER 1000
"""


def need_tools():
    """The programs; those that are missing are installed where that is possible."""
    if os.geteuid() != 0:
        raise Failure("the container is run by root: run it as root")
    install([package for package in ("podman", "runc", "mmdebstrap") if not shutil.which(package)])


def digest(*parts):
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def has_image(name):
    return subprocess.run([*PODMAN, "image", "exists", name], check=False).returncode == 0


def build_collection():
    """The collection's archive, and a digest of what is in it."""
    folder = CACHE / "collection"
    shutil.rmtree(folder, ignore_errors=True)
    call(
        str(BIN / "ansible-galaxy"),
        "collection",
        "build",
        "--output-path",
        str(folder),
        str(CHECKOUT),
        cwd=CHECKOUT,
    )
    (archive,) = folder.glob("vlab-qemu-*.tar.gz")
    # The archive contains its time of creation; this file contains only the checksums.
    files = call("tar", "--extract", "--to-stdout", "--file", str(archive), "FILES.json")
    return archive, digest(files)


def build_base():
    """The base image: Debian with Python and ssh."""
    name = "%s:%s" % (BASE, digest(RELEASE, PACKAGES))
    if has_image(name):
        return name
    archive = CACHE / "base.tar"
    log = CACHE / "base.log"
    for mirror in mirrors():
        argv = [
            "mmdebstrap",
            "--mode=root",
            "--variant=apt",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
            *apt_options(),
            "--include=" + ",".join(PACKAGES),
            RELEASE,
            str(archive),
            "deb %s %s main" % (mirror, RELEASE),
        ]
        with open(log, "w", encoding="utf-8") as stream:
            if (
                subprocess.run(
                    argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, check=False
                ).returncode
                == 0
            ):
                break
    else:
        raise Failure("no mirror gave a base image; see %s" % log)
    call(*PODMAN, "import", str(archive), name)
    archive.unlink()
    return name


def fetch_wheels(definition):
    """Download the Python packages of the image and those that its build needs."""
    wheels = CACHE / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    packages = [
        definition["dependencies"][name]["package_pip"]
        for name in ("ansible_core", "ansible_runner")
    ]
    call(
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--dest",
        str(wheels),
        "--only-binary=:all:",
        "--python-version",
        PYTHON,
        *packages,
        *BUILDERS_OWN,
        "--requirement",
        str(NEEDS),
    )
    return wheels


def build_environment(archive, base):
    """The execution environment by ansible-builder, from our definition with another base image."""
    definition = yaml.safe_load(DEFINITION.read_text(encoding="utf-8"))
    name = "%s:%s" % (
        IMAGE,
        digest(definition, NEEDS.read_text(encoding="utf-8"), base, BUILDERS_OWN),
    )
    if has_image(name):
        return name
    context = CACHE / "context"
    shutil.rmtree(context, ignore_errors=True)
    definition["images"]["base_image"]["name"] = base
    definition["dependencies"]["python_interpreter"] = {
        "package_system": "python3",
        "python_path": "/usr/bin/python3",
    }
    definition["dependencies"]["galaxy"]["collections"] = [
        {"name": "/build/collection/" + archive.name, "type": "file"}
    ]
    definition["additional_build_files"] = [{"src": str(archive), "dest": "collection"}]
    definition["options"] = {"package_manager_path": "/usr/bin/apt-get", "skip_pip_install": True}
    ours = CACHE / "execution-environment.yml"
    ours.write_text(yaml.safe_dump(definition), encoding="utf-8")
    call(str(BIN / "ansible-builder"), "create", "--file", str(ours), "--context", str(context))
    wheels = fetch_wheels(definition)
    pip_conf = CACHE / "pip.conf"
    pip_conf.write_text("[global]\nno-index = true\nfind-links = /wheels\n", encoding="utf-8")
    # apt-get is not cleaned up as dnf is.
    podman_build(
        name,
        context,
        [
            "--volume=%s:/wheels:ro" % wheels,
            "--volume=%s:/etc/pip.conf:ro" % pip_conf,
            "--build-arg=PKGMGR_PRESERVE_CACHE=always",
            "--build-arg=ANSIBLE_GALAXY_CLI_COLLECTION_OPTS=--offline",
        ],
    )
    shutil.rmtree(wheels)
    return name


def install_collection(archive, image, content):
    """The image with this very collection."""
    name = "%s-%s" % (image, content)
    if not has_image(name):
        context = CACHE / "install"
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir()
        (context / "Containerfile").write_text(
            INSTALL.format(image=image, archive=archive.name), encoding="utf-8"
        )
        podman_build(name, context, ["--volume=%s:/collection:ro" % archive.parent])
    return name


def podman_build(name, context, arguments):
    # Without layers: with this storage driver each is a copy of all.
    argv = [
        *PODMAN,
        "build",
        "--layers=false",
        "--network=host",
        *LIMITS,
        "--tag",
        name,
        *arguments,
        str(context),
    ]
    log = CACHE / "build.log"
    with open(log, "w", encoding="utf-8") as stream:
        if subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, check=False
        ).returncode:
            raise Failure(
                "%s was not built; see %s\n%s"
                % (name, log, log.read_text(encoding="utf-8", errors="replace")[-2000:])
            )


def prune(keep):
    """Remove what earlier runs left."""
    names = call(*PODMAN, "images", "--noheading", "--format", "{{.Repository}}:{{.Tag}}").split()
    others = [name for name in names if name not in keep and not name.startswith("<none>")]
    if others:
        call(*PODMAN, "rmi", "--force", *others)
    call(*PODMAN, "image", "prune", "--force")


def main():
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / "lock"):
        need_tools()
        archive, content = build_collection()
        base = build_base()
        environment = build_environment(archive, base)
        image = install_collection(archive, environment, content)
        prune({base, environment, image})
    print(json.dumps({"image": image, "podman": [*PODMAN], "limits": LIMITS}))


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit("ee: %s" % failure)
