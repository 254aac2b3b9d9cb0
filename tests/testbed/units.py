# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Define which targets run on the test bed, where and how, from their files `aliases`."""

from __future__ import annotations

import typing

from layout import CHECKOUT, HERE, Failure

TARGETS = CHECKOUT / "tests" / "integration" / "targets"
# The check of the test bed itself. It runs first: if it fails, everything else would fail.
SELF = "testbed_itself"
# Targets that test processes and sessions. They run modules with the plain interpreter.
PLAIN = (SELF, "kill", "vm_detached")
STEPS, STEPS_ANY, EACH, ANY, ACROSS = "steps", "steps-any", "each", "any", "across"
ALIASES = {
    "testbed/steps": STEPS,
    "testbed/steps-any": STEPS_ANY,
    "testbed": EACH,
    "testbed/any": ANY,
}


class Unit(typing.NamedTuple):
    """Targets that one process runs. `hosts` is empty if any hypervisor will do."""

    how: str
    targets: tuple[str, ...]
    hosts: tuple[str, ...]


def how_to_run(target: str) -> str:
    """Return how a target is run.

    `steps`: in process, on every hypervisor; `steps-any`: in process, on one.
    `each`: by ansible-playbook, on every hypervisor; `any`: by ansible-playbook, on one.
    `across`: by its own playbook, on all hypervisors together.
    Empty: not on the test bed.
    """
    if target == SELF:
        return EACH
    text = (TARGETS / target / "aliases").read_text(encoding="utf-8")
    found = [
        ALIASES[word]
        for word in (line.partition("#")[0].strip() for line in text.splitlines())
        if word in ALIASES
    ]
    if len(found) > 1:
        raise Failure("%s: aliases: use only one of %s" % (target, ", ".join(ALIASES)))
    if found and (TARGETS / target / "testbed.yml").exists():
        return ACROSS
    return found[0] if found else ""


def all_targets() -> dict[str, str]:
    """Return every target of the test bed, with how it is run."""
    found = {SELF: EACH}
    for aliases in sorted(TARGETS.glob("*/aliases")):
        how = how_to_run(aliases.parent.name)
        if how:
            found[aliases.parent.name] = how
    return found


def playbook_of(target: str) -> str:
    """Return the playbook that runs a target."""
    if target == SELF:
        return str(HERE / "check.yml")
    own = TARGETS / target / "testbed.yml"
    return str(own if own.exists() else HERE / "targets.yml")


def make_units(targets: dict[str, str], hosts: list[str]) -> list[Unit]:
    """Return the units in the order of their start.

    Units of one hypervisor come first, those that need all hypervisors last.
    """
    by_how = {
        how: [target for target in targets if targets[target] == how]
        for how in (STEPS, STEPS_ANY, EACH, ANY, ACROSS)
    }
    # Distributed in turn. The oldest QEMU is the slowest and comes last.
    shares = {
        host: by_how[STEPS_ANY][number :: len(hosts)] for number, host in enumerate(reversed(hosts))
    }
    steps = [
        Unit(STEPS, (*by_how[STEPS], *shares[host]), (host,))
        for host in hosts
        if by_how[STEPS] or shares[host]
    ]
    # Alone, before all others.
    first = [Unit(EACH, (SELF,), tuple(hosts))] if SELF in by_how[EACH] else []
    on_all = [
        Unit(targets[target], (target,), tuple(hosts))
        for target in by_how[EACH] + by_how[ACROSS]
        if target != SELF
    ]
    return first + steps + [Unit(ANY, (target,), ()) for target in by_how[ANY]] + on_all
