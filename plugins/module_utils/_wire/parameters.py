# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The options of an impairment: units, presets, and what they need of each other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import shown
from ansible_collections.vlab.qemu.plugins.module_utils._wire.engine import (
    BURST_DEFAULTS,
    DISTRIBUTIONS,
    LIMITS,
)

if TYPE_CHECKING:
    from ansible_collections.vlab.qemu.plugins.module_utils._wire.engine import Parameters

# What one direction of typical links does to its frames, in ms, % and kbit/s.
PRESETS: dict[str, Parameters] = {
    "wan": {"delay": 40, "jitter": 2, "loss": 0.01, "rate": 100000},
    "cable": {"delay": 10, "jitter": 3, "loss": 0.05, "rate": 50000, "limit": 500},
    "dsl": {"delay": 15, "jitter": 2, "loss": 0.1, "rate": 8000, "limit": 100},
    "wifi": {"delay": 3, "jitter": 4, "loss": 1, "rate": 30000, "limit": 300},
    "lte": {"delay": 25, "jitter": 10, "loss": 0.5, "rate": 20000, "limit": 200},
    "3g": {"delay": 100, "jitter": 30, "loss": 1, "rate": 1000, "limit": 50},
    "edge": {"delay": 300, "jitter": 50, "loss": 1.5, "rate": 200, "limit": 20},
    "dialup": {"delay": 95, "jitter": 10, "loss": 0.5, "rate": 40, "limit": 10},
    "leo": {"delay": 25, "jitter": 8, "loss": 0.5, "rate": 50000, "limit": 500},
    "satellite": {"delay": 270, "jitter": 5, "loss": 0.5, "rate": 10000, "limit": 500},
}

_PROBABILITIES = ("loss", "loss_correlation", "duplicate", "corrupt", "reorder")

SPEC: dict[str, dict[str, Any]] = {
    "preset": {"type": "str", "choices": sorted(PRESETS)},
    "delay": {"type": "str"},
    "jitter": {"type": "str"},
    "distribution": {"type": "str", "choices": list(DISTRIBUTIONS)},
    "loss": {"type": "str"},
    "loss_correlation": {"type": "str"},
    "burst_loss": {
        "type": "dict",
        "options": {name: {"type": "str"} for name in BURST_DEFAULTS},
    },
    "duplicate": {"type": "str"},
    "corrupt": {"type": "str"},
    "reorder": {"type": "str"},
    "rate": {"type": "str"},
    "limit": {"type": "int"},
    "seed": {"type": "int"},
}

_TIMES = {"": 1.0, "us": 0.001, "ms": 1.0, "s": 1000.0}
_RATES = {"": 1.0, "bit": 0.001, "kbit": 1.0, "mbit": 1000.0, "gbit": 1000000.0}
_PERCENT = {"": 1.0, "%": 1.0}
_QUANTITY = re.compile(r"\s*(\d{1,12}(?:\.\d{1,12})?)\s*([a-z%]*)\s*", re.IGNORECASE | re.ASCII)


def normalise(path: str, given: dict[str, Any]) -> Parameters:
    """Return the impairment of one direction in ms, % and kbit/s, empty if it is none.

    given: of SPEC, None for an omitted option. Raises OptionError naming the option.
    """
    parameters: Parameters = {}
    preset = given.get("preset")
    if preset is not None:
        if preset not in PRESETS:
            raise OptionError(
                path + ".preset", "%s is none of %s" % (shown(preset), ", ".join(sorted(PRESETS)))
            )
        parameters.update(PRESETS[preset])
    for name, value in given.items():
        if name == "preset" or value in (None, ""):
            continue
        parameters[name] = _value("%s.%s" % (path, name), name, value)
    if given.get("burst_loss") and given.get("loss") is None:
        parameters.pop("loss", None)  # of the preset
    _check_combinations(path, parameters, given)
    return {
        name: value
        for name, value in parameters.items()
        if value != 0 or name in ("seed", "burst_loss")
    }


def is_impaired(parameters: Parameters) -> bool:
    """Return whether parameters change anything."""
    return bool(set(parameters) - {"seed", "limit", "distribution"})


def _value(path: str, name: str, value: Any) -> Any:
    if name == "distribution":
        if value not in DISTRIBUTIONS:
            raise OptionError(path, "%s is none of %s" % (shown(value), ", ".join(DISTRIBUTIONS)))
        return value
    if name == "burst_loss":
        return _burst_loss(path, value)
    if name in ("delay", "jitter"):
        return _quantity(path, name, value, _TIMES, "a time, such as 20ms or 1.5s")
    if name == "rate":
        return _quantity(path, name, value, _RATES, "a rate, such as 512kbit or 10Mbit")
    if name in _PROBABILITIES:
        return _quantity(path, name, value, _PERCENT, "a percentage, such as 1.5%")
    return _in_range(path, name, value)


def _burst_loss(path: str, value: dict[str, Any]) -> dict[str, Any]:
    burst: dict[str, Any] = {}
    for name, default in BURST_DEFAULTS.items():
        one = value.get(name)
        if one in (None, ""):
            if default is None:
                raise OptionError("%s.%s" % (path, name), "burst_loss requires it")
            one = default
        option = "%s.%s" % (path, name)
        burst[name] = _quantity(option, "loss", one, _PERCENT, "a percentage, such as 1.5%")
    return burst


def _quantity(path: str, name: str, value: Any, units: dict[str, float], what: str) -> float:
    match = _QUANTITY.fullmatch(str(value))
    unit = match.group(2).lower() if match else None
    if match is None or unit not in units:
        raise OptionError(path, "%s is not %s" % (shown(value), what))
    number = round(float(match.group(1)) * units[unit], 6)
    checked: float = _in_range(path, name, int(number) if number == int(number) else number)
    return checked


def _in_range(path: str, name: str, value: Any) -> Any:
    least, most, _whole = LIMITS[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        unit = {"delay": " ms", "jitter": " ms", "rate": " kbit/s"}.get(name, "")
        unit = " %" if name in _PROBABILITIES else unit
        raise OptionError(path, "%s is not from %d to %d%s" % (shown(value), least, most, unit))
    return value


def _check_combinations(path: str, parameters: Parameters, given: dict[str, Any]) -> None:
    """Remove what has no effect; raise OptionError if it was given, or excludes another one."""
    for name, needed in (
        ("loss_correlation", "loss"),
        ("reorder", "delay"),
        ("distribution", "jitter"),
        ("limit", "rate"),
    ):
        if parameters.get(name) and not parameters.get(needed):
            if given.get(name) is not None:
                raise OptionError("%s.%s" % (path, name), "it has no effect without %s" % needed)
            del parameters[name]
    if parameters.get("loss") and "burst_loss" in parameters:
        raise OptionError(path + ".burst_loss", "it cannot be combined with loss")
