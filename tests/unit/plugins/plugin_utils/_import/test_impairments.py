# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Impaired links of other tools."""

from __future__ import annotations

import pytest
from ansible_collections.vlab.qemu.plugins.plugin_utils._import import impairments
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.fields import Fields
from ansible_collections.vlab.qemu.plugins.plugin_utils._import.report import Report


@pytest.mark.parametrize(
    "table, given, impair, kept",
    [
        (impairments.GNS3, {"delay": [10, 2]}, {"delay": "10ms", "jitter": "2ms"}, {}),
        (impairments.GNS3, {"packet_loss": [5], "bpf": ["x"]}, {"loss": "5%"}, {"bpf": ["x"]}),
        (impairments.GNS3, {"delay": []}, {}, {}),
        (impairments.GNS3, {"packet_loss": [500]}, {}, {"packet_loss": [500]}),
        (
            impairments.NETLAB,
            {"delay": 1.5, "rate": 100},
            {"delay": "1.5ms", "rate": "100kbit"},
            {},
        ),
        (impairments.NETLAB, {"loss": "2%"}, {"loss": "2%"}, {}),
        (impairments.NETLAB, {"delay": "x"}, {}, {"delay": "x"}),
        (impairments.CML, {"latency": 3, "gap": 1}, {"delay": "3ms"}, {"gap": 1}),
        (impairments.CML, {"latency": 0}, {}, {"latency": 0}),
    ],
)
def test_fields_of_other_tools(table, given, impair, kept):
    report = Report("lab")
    fields = Fields(report, "link", given)
    assert impairments.impairment(fields, table) == impair
    assert fields.close() == kept
    assert set(report.entries) == {"link." + key for key in given}


def test_a_cut_link():
    assert impairments.is_cut({"frequency_drop": [-1]})
    assert not impairments.is_cut({"frequency_drop": [3]})
