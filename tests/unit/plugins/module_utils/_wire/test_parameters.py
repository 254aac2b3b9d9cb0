# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of an impairment: units, presets, and errors that name the option."""

from __future__ import annotations

import pytest
from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._wire.engine import Direction, check
from ansible_collections.vlab.qemu.plugins.module_utils._wire.parameters import (
    PRESETS,
    is_impaired,
    normalise,
)

BURST = {"begin": "1%", "end": 25}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"delay": None, "loss": ""}, {}),
        ({"delay": "20ms"}, {"delay": 20}),
        ({"delay": "20"}, {"delay": 20}),
        ({"delay": 20.0}, {"delay": 20}),
        ({"delay": " 1.5 S "}, {"delay": 1500}),
        ({"delay": "250us"}, {"delay": 0.25}),
        ({"delay": "0"}, {}),
        ({"loss": "1.5%"}, {"loss": 1.5}),
        ({"loss": "0.01"}, {"loss": 0.01}),
        ({"loss": "100 %"}, {"loss": 100}),
        ({"rate": "10Mbit"}, {"rate": 10000}),
        ({"rate": "512kbit"}, {"rate": 512}),
        ({"rate": "64000bit"}, {"rate": 64}),
        ({"rate": "1Gbit"}, {"rate": 1000000}),
        ({"rate": "300", "limit": 20}, {"rate": 300, "limit": 20}),
        ({"loss": "1", "seed": 0}, {"loss": 1, "seed": 0}),
        ({"preset": "dsl"}, PRESETS["dsl"]),
        ({"preset": "dsl", "loss": "0"}, {k: v for k, v in PRESETS["dsl"].items() if k != "loss"}),
        (
            {"preset": "dsl", "rate": "0"},
            {k: v for k, v in PRESETS["dsl"].items() if k not in ("rate", "limit")},
        ),
        (
            {"burst_loss": BURST},
            {"burst_loss": {"begin": 1, "end": 25, "loss": 100, "loss_between": 0}},
        ),
        (
            {"preset": "dialup", "burst_loss": BURST, "rate": "0", "jitter": "0"},
            {"delay": 95, "burst_loss": {"begin": 1, "end": 25, "loss": 100, "loss_between": 0}},
        ),
        (
            {"delay": "5", "jitter": "1", "distribution": "pareto", "reorder": "3%"},
            {"delay": 5, "jitter": 1, "distribution": "pareto", "reorder": 3},
        ),
    ],
)
def test_normal_form(given, expected):
    parameters = normalise("impair", given)
    assert parameters == expected
    check(parameters)
    # What is returned can be given again.
    assert normalise("impair", parameters) == parameters


@pytest.mark.parametrize(
    ("given", "option", "reason"),
    [
        ({"delay": "20 m"}, "delay", "'20 m' is not a time, such as 20ms"),
        ({"delay": "-1"}, "delay", "is not a time"),
        ({"delay": "nan"}, "delay", "is not a time"),
        ({"delay": "61s"}, "delay", "61000 is not from 0 to 60000 ms"),
        ({"loss": "101%"}, "loss", "101 is not from 0 to 100 %"),
        ({"loss": "1ms"}, "loss", "is not a percentage"),
        ({"rate": "10MB"}, "rate", "is not a rate, such as"),
        ({"rate": "10Mbps"}, "rate", "is not a rate, such as"),
        ({"rate": "1", "limit": 0}, "limit", "0 is not from 1"),
        ({"seed": -1}, "seed", "-1 is not from 0"),
        ({"preset": "vdsl"}, "preset", "is none of 3g, cable"),
        ({"delay": "1", "jitter": "1", "distribution": "flat"}, "distribution", "is none of uni"),
        ({"jitter": "1", "distribution": "normal", "reorder": "1"}, "reorder", "without delay"),
        ({"delay": "1", "distribution": "normal"}, "distribution", "without jitter"),
        ({"loss_correlation": "10"}, "loss_correlation", "without loss"),
        ({"limit": 10}, "limit", "without rate"),
        ({"loss": "1", "burst_loss": BURST}, "burst_loss", "cannot be combined with loss"),
        ({"burst_loss": {"begin": "1"}}, "burst_loss.end", "requires it"),
        ({"burst_loss": dict(BURST, loss="200")}, "burst_loss.loss", "200 is not from 0 to 100"),
    ],
)
def test_errors_name_the_option(given, option, reason):
    with pytest.raises(OptionError) as caught:
        normalise("nics[eth0].link.impair", given)
    assert caught.value.message.startswith("nics[eth0].link.impair.%s: " % option)
    assert reason in caught.value.message


def test_presets_work():
    for name, parameters in PRESETS.items():
        assert Direction(check(parameters), 0).parameters == parameters, name
        assert is_impaired(parameters)
    assert not is_impaired({"seed": 1})
