# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Impaired links of other tools as those of a topology."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._wire import parameters
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields

# The fields of each tool: (its name, the option, the unit of a plain number).
GNS3 = (("delay", "delay", "ms"), ("packet_loss", "loss", "%"), ("corrupt", "corrupt", "%"))
NETLAB = (
    ("delay", "delay", "ms"),
    ("jitter", "jitter", "ms"),
    ("loss", "loss", "%"),
    ("corrupt", "corrupt", "%"),
    ("duplicate", "duplicate", "%"),
    ("reorder", "reorder", "%"),
    ("rate", "rate", "kbit"),
)
CML = (
    ("latency", "delay", "ms"),
    ("jitter", "jitter", "ms"),
    ("loss", "loss", "%"),
    ("duplicate", "duplicate", "%"),
    ("corrupt_prob", "corrupt", "%"),
    ("reorder_prob", "reorder", "%"),
    ("bandwidth", "rate", "kbit"),
)


def impairment(fields: Fields, table: tuple[tuple[str, str, str], ...]) -> dict[str, str]:
    """Return the impairment of a link, empty if it has none that is possible here.

    fields: of the file; those that are not used are kept.
    """
    given: dict[str, str] = {}
    for key, option, unit in table:
        value = fields.data.get(key)
        values = value if isinstance(value, list) else [value]
        if values and _is_amount(values[0]):
            given[option] = _amount(values[0], unit)
        if option == "delay" and len(values) > 1 and _is_amount(values[1]):
            given["jitter"] = _amount(values[1], unit)
    try:
        if not parameters.normalise("impair", given):
            return {}
    except OptionError as error:
        fields.report.warn("%s: %s; it is kept in vars.imported" % (fields.path, error))
        return {}
    for key, option, _unit in table:
        if option in given:
            fields.mapped(key, "impair." + option)
    return given


def is_cut(filters: Mapping[str, Any]) -> bool:
    """Return whether the filters of GNS3 let no frame through."""
    return filters.get("frequency_drop") in (-1, [-1])


def _is_amount(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return False
    return value not in (0, "0", "")


def _amount(value: Any, unit: str) -> str:
    """Return a number with its unit, unless the text has one."""
    text = str(value).strip()
    return text if text[-1:].isalpha() or text.endswith("%") else text + unit
