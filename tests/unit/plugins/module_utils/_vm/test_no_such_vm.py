# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._vm.folder import existing


@pytest.mark.parametrize(
    "names, hint",
    [
        ([], "it has none"),
        (["spine1", "router1"], "did you mean router1?"),
        (["a", "b"], "it has a, b"),
        (
            ["n%02d" % number for number in range(12)],
            "it has n00, n01, n02, n03, n04, n05, n06, n07, n08, n09, ...",
        ),
    ],
)
def test_an_unknown_vm_is_an_error_that_names_others(tmp_path, names, hint):
    for name in names:
        (tmp_path / "lab1" / name).mkdir(parents=True)
        (tmp_path / "lab1" / name / "vm.json").write_text("{}", encoding="utf-8")
    (tmp_path / "lab1" / "no-vm").mkdir(parents=True)
    with pytest.raises(OptionError) as caught:
        existing(str(tmp_path), "lab1", "rooter1")
    assert caught.value.option == "vm"
    assert caught.value.reason == "the lab lab1 has no VM rooter1 under %s: %s" % (tmp_path, hint)
