# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configure Sphinx for the files that scripts/docs writes. The build needs no network."""

from __future__ import annotations

from typing import Any, Optional

from docutils import nodes

project = "vlab.qemu"
author = "vlab.qemu contributors"
project_copyright = author

extensions = ["myst_parser", "sphinx_antsibull_ext"]
myst_heading_anchors = 4
nitpicky = True
highlight_language = "YAML+Jinja"
# The changelog is empty before the first release.
suppress_warnings = ["toc.no_title"]
# Keep identifiers such as --diff unchanged.
smartquotes = False

antsibull_ext_color_scheme = "default-autodark"

html_theme = "furo"
html_title = "vlab.qemu"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]

# Targets in Ansible's own documentation to which the generated pages refer.
ANSIBLE = "https://docs.ansible.com/projects/ansible/latest/"
BUILTIN = "ansible_collections.ansible.builtin."
LABELS = {
    "action_plugins": "plugins/action.html",
    "ansible_configuration_settings": "reference_appendices/config.html",
    "common_return_values": "reference_appendices/common_return_values.html",
    "connection_plugins": "plugins/connection.html",
    "inventory_plugins": "plugins/inventory.html",
    "list_of_collections": "collections/index.html",
}


def ansible_reference(_app: Any, _env: Any, node: Any, content: Any) -> Optional[nodes.reference]:
    """Resolve a reference to Ansible's own documentation."""
    target = node.get("reftarget", "")
    page = LABELS.get(target)
    if target.startswith(BUILTIN):
        page = f"collections/ansible/builtin/{target.removeprefix(BUILTIN)}.html"
    if node.get("reftype") == "envvar" and target.startswith("ANSIBLE_"):
        page = f"{LABELS['ansible_configuration_settings']}#envvar-{target}"
    if page is None:
        return None
    return nodes.reference("", "", content, internal=False, refuri=ANSIBLE + page)


def setup(app: Any) -> None:
    """Register the resolver."""
    app.connect("missing-reference", ansible_reference)
