# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How Sphinx builds the site, from what scripts/docs has laid out for it. Nothing is fetched from the network."""

from __future__ import annotations

from docutils import nodes

project = "vlab.qemu"
author = "vlab.qemu contributors"
project_copyright = author

extensions = ["myst_parser", "sphinx_antsibull_ext"]
myst_heading_anchors = 4
nitpicky = True
highlight_language = "YAML+Jinja"
# The page of changes is empty before the first release.
suppress_warnings = ["toc.no_title"]
# An identifier is no prose: --diff stays as it is.
smartquotes = False

antsibull_ext_color_scheme = "default-autodark"

html_theme = "furo"
html_title = "vlab.qemu"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]

# What the generated pages refer to in Ansible's own documentation.
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


def ansible_reference(_app, _env, node, content):
    target = node.get("reftarget", "")
    page = LABELS.get(target)
    if target.startswith(BUILTIN):
        page = f"collections/ansible/builtin/{target.removeprefix(BUILTIN)}.html"
    if node.get("reftype") == "envvar" and target.startswith("ANSIBLE_"):
        page = f"{LABELS['ansible_configuration_settings']}#envvar-{target}"
    if page is None:
        return None
    return nodes.reference("", "", content, internal=False, refuri=ANSIBLE + page)


def setup(app):
    app.connect("missing-reference", ansible_reference)
