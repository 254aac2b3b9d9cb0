# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose lab it is: when two origins are those of one topology."""

from __future__ import annotations

import pytest

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import OptionError
from ansible_collections.vlab.qemu.plugins.module_utils._lab.origin import Ownership, ownership_of

FILE, REPOSITORY = "/builds/1/lab.yml", "git.example/acme/labs/"


@pytest.mark.parametrize(
    "recorded, given, vms, named, is_own, kept",
    [
        (None, None, "a", "a", True, None),
        (None, FILE, "", "a", True, FILE),
        (None, FILE, "ab", "b", True, FILE),
        (None, FILE, "ab", "c", False, None),
        (FILE, None, "a", "", True, FILE),
        (FILE, FILE, "ab", "c", True, FILE),
        (FILE, "/other/x.yml", "", "a", True, "/other/x.yml"),
        (FILE, "/other/x.yml", "a", "a", False, FILE),
        # Another checkout of a file, which names all that there is; or does not.
        (FILE, "/builds/2/lab.yml", "ab", "abc", True, "/builds/2/lab.yml"),
        (FILE, "/builds/2/lab.yml", "ab", "a", False, FILE),
        (FILE, REPOSITORY + "lab.yml", "ab", "ab", True, REPOSITORY + "lab.yml"),
        # The folder of a playbook, and files in it.
        ("/builds/", FILE, "ab", "c", True, "/builds/"),
        (FILE, "/builds/1/", "ab", "c", True, FILE),
        (FILE, "/build/", "ab", "ab", False, FILE),
        ("/builds/1", FILE, "ab", "ab", False, "/builds/1"),
        ("/builds/2/", "/builds/1/", "ab", "ab", False, "/builds/2/"),
        (REPOSITORY, REPOSITORY + "x/lab.yml", "ab", "c", True, REPOSITORY),
        (REPOSITORY + "y/lab.yml", REPOSITORY + "x/lab.yml", "ab", "c", False, None),
        # Owners are compared as they are.
        ("owner a/b", "owner a/b", "ab", "c", True, "owner a/b"),
        ("owner a/b", "owner c/b", "ab", "ab", False, "owner a/b"),
        ("owner a/", "owner a/b", "ab", "ab", False, "owner a/"),
        ("owner x/lab.yml", FILE, "ab", "ab", False, "owner x/lab.yml"),
    ],
)
def test_whose_lab_it_is(recorded, given, vms, named, is_own, kept):
    owned = Ownership("x", recorded, given, frozenset(vms), frozenset(named), False)
    assert owned.is_own == is_own
    assert owned.origin == (kept or recorded)
    assert owned.changes == []
    taken = owned._replace(allowed=True)
    assert bool(taken.changes) == (not is_own) and (is_own or taken.origin == given)
    taken.check({"remove": ["a"]})
    if is_own:
        owned.check({"remove": ["a"]})
    else:
        with pytest.raises(OptionError) as caught:
            owned.check({"remove": ["a"], "change": [], "add": ["b"]})
        adds = recorded is not None
        assert caught.value.facts["affected"] == (["a", "b"] if adds else ["a"])
        assert ("would remove a; add b." if adds else "would remove a.") in caught.value.message


def test_what_the_controller_knows_of_the_lab_is_added():
    params = {
        "origin": FILE,
        "placed": {"a": "hv1", "b": "hv2"},
        "queried_lab": {"origin": "/x/", "vms": ["z"]},
        "allow_takeover": True,
    }
    found = ownership_of("lab1", None, frozenset("a"), frozenset("c"), params)
    assert found == Ownership("lab1", "/x/", FILE, frozenset("az"), frozenset("abc"), True)
    assert ownership_of("lab1", FILE, frozenset(), frozenset(), params).recorded == FILE
    assert ownership_of("lab1", None, frozenset("a"), frozenset(), {}).given is None
