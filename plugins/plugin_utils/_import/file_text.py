# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""A file to import, whose text is parsed once: to recognise its format, and to import it."""

from __future__ import annotations

import functools
from typing import Any

from ansible_collections.vlab.qemu.plugins.plugin_utils._import import parsing, xml_tree


class FileText:
    """The text of a file. file: its name, for messages.

    yaml, json, xml: its data, which is not to be changed. They raise LabFileError.
    """

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text

    @property
    def is_json(self) -> bool:
        """Whether the text looks like JSON, which is YAML, too, but is read much faster."""
        return self.text.lstrip().startswith("{")

    @functools.cached_property
    def yaml(self) -> Any:
        """The data in YAML."""
        return parsing.parse_yaml(self.file, self.text)

    @functools.cached_property
    def json(self) -> Any:
        """The data in JSON."""
        return parsing.parse_json(self.file, self.text)

    @functools.cached_property
    def xml(self) -> xml_tree.Element:
        """The root of the document."""
        return xml_tree.parse_xml(self.file, self.text)
