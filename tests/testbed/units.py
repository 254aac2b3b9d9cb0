# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is run on the test bed: which targets, on which hypervisors, and how. A target says so in its file `aliases`."""

from __future__ import annotations

import typing

from layout import CHECKOUT, HERE, Failure

TARGETS = CHECKOUT / "tests" / "integration" / "targets"
# The check of the test bed itself comes first: what fails there fails everywhere.
SELF = "testbed_itself"
# Targets that test processes and sessions: modules are run by the plain interpreter.
PLAIN = (SELF, "kill", "vm_detached")
STEPS, STEPS_ANY, EACH, ANY, ACROSS = "steps", "steps-any", "each", "any", "across"
ALIASES = {
    "testbed/steps": STEPS,
    "testbed/steps-any": STEPS_ANY,
    "testbed": EACH,
    "testbed/any": ANY,
}


class Unit(typing.NamedTuple):
    """Targets that are run by one process. `hosts` is empty for one that takes any hypervisor."""

    how: str
    targets: tuple[str, ...]
    hosts: tuple[str, ...]


def how_to_run(target: str) -> str:
    """`steps`: in process, on every hypervisor. `steps-any`: in process, on one. `each`: by ansible-playbook, on every one.
    `any`: by ansible-playbook, on one. `across`: by a playbook of its own, on all of them together. Empty: not on the test bed."""
    if target == SELF:
        return EACH
    text = (TARGETS / target / "aliases").read_text(encoding="utf-8")
    found = [
        ALIASES[word]
        for word in (line.partition("#")[0].strip() for line in text.splitlines())
        if word in ALIASES
    ]
    if len(found) > 1:
        raise Failure("%s: aliases: one of %s" % (target, ", ".join(ALIASES)))
    if found and (TARGETS / target / "testbed.yml").exists():
        return ACROSS
    return found[0] if found else ""


def all_targets() -> dict[str, str]:
    """Every target of the test bed, with how it is run."""
    found = {SELF: EACH}
    for aliases in sorted(TARGETS.glob("*/aliases")):
        how = how_to_run(aliases.parent.name)
        if how:
            found[aliases.parent.name] = how
    return found


def playbook_of(target: str) -> str:
    if target == SELF:
        return str(HERE / "check.yml")
    own = TARGETS / target / "testbed.yml"
    return str(own if own.exists() else HERE / "targets.yml")


def make_units(targets: dict[str, str], hosts: list[str]) -> list[Unit]:
    """In the order in which they are started: first what leaves two hypervisors to others, last what needs all of them."""
    of = {
        how: [target for target in targets if targets[target] == how]
        for how in (STEPS, STEPS_ANY, EACH, ANY, ACROSS)
    }
    # Dealt out in turn, the oldest QEMU last: it is the slowest.
    dealt = {
        host: of[STEPS_ANY][number :: len(hosts)] for number, host in enumerate(reversed(hosts))
    }
    steps = [
        Unit(STEPS, (*of[STEPS], *dealt[host]), (host,))
        for host in hosts
        if of[STEPS] or dealt[host]
    ]
    # Alone, and before all others.
    first = [Unit(EACH, (SELF,), tuple(hosts))] if SELF in of[EACH] else []
    on_all = [
        Unit(targets[target], (target,), tuple(hosts))
        for target in of[EACH] + of[ACROSS]
        if target != SELF
    ]
    return first + steps + [Unit(ANY, (target,), ()) for target in of[ANY]] + on_all
