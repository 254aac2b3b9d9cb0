# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: import_lab
version_added: 1.0.0
short_description: Import a lab of another tool as a topology
description:
  - Reads the file of a lab of another tool, and returns it as a topology of M(vlab.qemu.qemu_lab),
    with its images, its configuration files, and a report on every field of the file.
  - Every field is mapped to a setting of the topology, kept as data in C(vars.imported), or listed
    as dropped with the reason.
  - Nodes that are not VMs must be mapped with O(kinds_map), except for switches and networks, which
    become segments.
author:
  - vlab.qemu contributors (@vlab)
positional: format
options:
  _input:
    description:
      - The path of a file on the controller, or its text. A text has a line break.
      - A list of them for several VMs of libvirt or Proxmox, which become one lab.
      - Files that the lab names, such as startup configurations, are read from the folder of the
        file and those below it, if it is given as a path.
    type: raw
    required: true
  format:
    description: The format of the file. V(auto) recognises it by the content.
    type: str
    choices: [auto, containerlab, gns3, cml, eve, netlab, libvirt, proxmox]
    default: auto
  name:
    description: The name of the lab; by default, the one in the file.
    type: str
    default: ""
  kinds_map:
    description:
      - What nodes become, by their kind, type or name in the file, for example C(linux) or C(h1).
      - The value is a kind, V(segment), V(user) for a network of QEMU with access to external
        networks, or V(drop).
    type: dict
    default: {}
  images_folder:
    description: The folder on the hypervisors with the images that the lab needs.
    type: str
    default: /srv/images
  arguments:
    description:
      - Whether arguments of QEMU in the file that have no option become C(extra_args).
      - They can read and write all files of the hypervisor and run programs. Read them first.
    type: bool
    default: false
  variables:
    description: Values for variables in the file, such as C(${VERSION}) of containerlab.
    type: dict
    default: {}
notes:
  - This filter runs on the controller, and requires the Python libraries jsonschema and netaddr
    there.
  - The file is only read. Nothing in it is executed, and texts in it are never templates.
seealso:
  - module: vlab.qemu.qemu_lab
"""

EXAMPLES = r"""
- name: Import a lab of containerlab, whose Linux containers become small VMs
  ansible.builtin.set_fact:
    imported: "{{ 'site.clab.yml' | vlab.qemu.import_lab(kinds_map={'linux': 'tiny'}) }}"

- name: Show what the lab lacks
  ansible.builtin.debug:
    msg: "{{ imported.report_text.splitlines() }}"

- name: Show what running the lab would change
  vlab.qemu.qemu_lab:
    topology: "{{ imported.topology }}"
    images: "{{ imported.images }}"
  check_mode: true
"""

RETURN = r"""
_value:
  description: The imported lab.
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    topology:
      description: The topology.
      type: dict
    images:
      description: The images that it needs, for the option C(images).
      type: dict
    report:
      description: What became of each field, warnings, and names that changed.
      type: dict
    report_text:
      description: The report for people.
      type: str
    output_files:
      description:
        - The text of each file to write, by its path - C(NAME.yml), C(NAME.images.yml),
          C(NAME.report.txt), C(NAME.report.json) and the configurations in the folder C(NAME).
      type: dict
"""

import contextlib
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.module_utils.basic import missing_required_lib

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import VlabError
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.formats import (
    AUTO,
    FORMATS,
    Source,
    import_lab as imported_lab,
)
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab import Options
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.lab_file_error import LabFileError
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.parsing import MAX_BYTES
from ansible_collections.vlab.qemu.plugins.plugin_utils._topology import libraries

_ARCHIVE = b"PK\x03\x04"


def import_lab(
    source: Any,
    format: str = AUTO,  # pylint: disable=redefined-builtin
    name: str = "",
    kinds_map: Any = None,
    images_folder: str = "/srv/images",
    arguments: bool = False,
    variables: Any = None,
) -> dict[str, Any]:
    """Return a lab of another tool as a topology."""
    if format not in (AUTO, *FORMATS):
        formats = ", ".join((AUTO, *FORMATS))
        _fail("there is no format %r; the formats are %s" % (format, formats))
    for option, value in (("kinds_map", kinds_map), ("variables", variables)):
        if value is not None and not (
            isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values())
        ):
            _fail("%s must be a dictionary of texts" % option)
    given = [source] if isinstance(source, str) else source
    if not (
        isinstance(given, Sequence)
        and given
        and all(isinstance(text, str) and text.strip() for text in given)
    ):
        _fail("give the path of a file, or its text, or a list of them")
    missing = libraries.missing()
    if missing:
        _fail(missing_required_lib(missing))
    options = Options(name, kinds_map or {}, images_folder, bool(arguments), variables or {})
    try:
        with contextlib.ExitStack() as opened:
            sources = [_source(text, options, opened) for text in given]
            return _result(imported_lab(sources, options, format))
    except VlabError as error:
        # Ansible would add the message of the cause, which is the same.
        raise AnsibleFilterError("import_lab: %s" % error) from None


def _source(text: str, options: Options, opened: contextlib.ExitStack) -> Source:
    """Return a file to import. opened: closes an archive in the end."""
    if "\n" in text:
        try:
            return Source("the text", text.encode("utf-8"))
        except UnicodeEncodeError:
            raise LabFileError("the text", [("", "it has invalid characters")]) from None
    path = os.path.expanduser(text)
    folder = os.path.dirname(os.path.abspath(path))
    options.attachment = lambda relative: _attachment(path, folder, relative)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise LabFileError(path, [("", "it is not a regular file")])
        stream = opened.enter_context(open(path, "rb"))
        if stream.read(len(_ARCHIVE)) == _ARCHIVE:
            stream.seek(0)
            return Source(path, archive=stream)
        stream.seek(0)
        # One byte more shows that it is too large.
        return Source(path, stream.read(MAX_BYTES + 1))
    except (OSError, ValueError) as error:
        reason = "it cannot be read: %s" % (getattr(error, "strerror", None) or error)
        raise LabFileError(path, [("", reason)]) from None


def _attachment(file: str, folder: str, relative: str) -> bytes | None:
    """Return the content of a file beside the lab, None if it does not exist.

    Raise LabFileError for a path that leads elsewhere: a lab must not name files of the controller.
    """
    path = os.path.realpath(os.path.join(folder, relative))
    base = os.path.realpath(folder)
    if os.path.isabs(relative) or not path.startswith(base.rstrip("/") + "/"):
        reason = "%s is outside of the folder of the lab" % ascii(relative)
        raise LabFileError(file, [("", reason)])
    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = "cannot read %s: %s" % (ascii(relative), getattr(error, "strerror", error))
        raise LabFileError(file, [("", reason)]) from None
    if len(content) > MAX_BYTES:
        raise LabFileError(file, [("", "%s is too large" % ascii(relative))])
    return content


def _result(imported: Any) -> dict[str, Any]:
    name = imported.topology["name"]
    return {
        "name": name,
        "topology": imported.topology,
        "images": imported.images,
        "report": imported.report,
        "report_text": imported.report_text,
        "output_files": {
            name + ".yml": imported.topology_yaml(),
            name + ".images.yml": imported.images_yaml(),
            name + ".report.txt": imported.report_text,
            name + ".report.json": imported.report_json(),
            **imported.files,
        },
    }


def _fail(message: str) -> None:
    raise AnsibleFilterError("import_lab: %s" % message)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"import_lab": import_lab}
