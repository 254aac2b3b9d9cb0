# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run integration targets on all hypervisors of the test bed at once.

The targets are those whose file `aliases` has a line `testbed`. One that has a
playbook `testbed.yml` beside its `tasks` is run by that, with all hypervisors in
one play, which is what a lab over several hosts needs.
"""
from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import testbed
from layout import CACHE, CHECKOUT, HERE, HYPERVISORS, INVENTORY, Failure

TARGETS = CHECKOUT / 'tests' / 'integration' / 'targets'
LOGS = CACHE / 'logs'
# The check of the test bed itself comes first: what fails there fails everywhere.
SELF = 'testbed_itself'
EACH = HERE / 'targets.yml'
RECAP = re.compile(r'^(\S+)\s+: ok=\d+ .*unreachable=(\d+)\s+failed=(\d+)', re.MULTILINE)


def all_targets():
    for aliases in sorted(TARGETS.glob('*/aliases')):
        words = [line.partition('#')[0].strip() for line in aliases.read_text(encoding='utf-8').splitlines()]
        if 'testbed' in words:
            yield aliases.parent.name


def playbook_of(target):
    if target == SELF:
        return HERE / 'check.yml'
    own = TARGETS / target / 'testbed.yml'
    return own if own.exists() else EACH


def ansible_playbook():
    ours = CHECKOUT / '.venv' / 'bin' / 'ansible-playbook'
    found = str(ours) if ours.exists() else shutil.which('ansible-playbook')
    if not found:
        raise Failure('no ansible-playbook: run `make setup` first')
    return found


def collections():
    """A path that ends as the loader wants it, whatever the checkout is called."""
    link = CACHE / 'collections' / 'ansible_collections' / 'vlab' / 'qemu'
    if not link.is_symlink() or link.resolve() != CHECKOUT:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(CHECKOUT)
    return str(link.parents[2])


def environment():
    env = {key: value for key, value in os.environ.items() if not key.startswith('ANSIBLE_')}
    env.update({
        'ANSIBLE_CONFIG': str(CHECKOUT / 'ansible.cfg'),
        'ANSIBLE_COLLECTIONS_PATH': collections(),
        'ANSIBLE_ROLES_PATH': str(TARGETS),
        'ANSIBLE_NOCOLOR': '1',
        'LC_ALL': 'C.UTF-8',
    })
    return env


def play(target, hosts, verbose):
    """Run one target; return the hypervisors it failed on, each with why."""
    argv = [ansible_playbook(), '-i', str(INVENTORY), '--limit', ','.join(hosts),
            '-e', 'testbed_target=' + target, str(playbook_of(target))]
    config = TARGETS.parent / 'integration_config.yml'
    if config.exists():
        argv += ['-e', '@%s' % config]
    if verbose:
        argv.append('-' + 'v' * verbose)
    before = {name: testbed.running_qemu(name) for name in hosts}
    log = LOGS / (target + '.log')
    with open(log, 'w', encoding='utf-8') as output:
        process = subprocess.Popen(argv, env=environment(), cwd=CHECKOUT, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
        for line in process.stdout:
            output.write(line)
            if verbose:
                print(line, end='', flush=True)
        process.wait()
    recap = {name: (int(unreachable), int(failed)) for name, unreachable, failed
             in RECAP.findall(log.read_text(encoding='utf-8', errors='replace'))}
    wrong = {}
    for name in hosts:
        left = testbed.running_qemu(name) - before[name]
        if name not in recap:
            wrong[name] = 'did not run'
        elif any(recap[name]):
            wrong[name] = 'unreachable' if recap[name][0] else 'failed'
        elif left:
            wrong[name] = 'left %d QEMU running' % len(left)
    if process.returncode and not wrong:
        wrong = dict.fromkeys(hosts, 'exit code %d' % process.returncode)
    return wrong


def run(targets, hosts, verbose):
    LOGS.mkdir(parents=True, exist_ok=True)
    passed = failed = 0
    again = []
    width = max(map(len, targets))
    for target in targets:
        started = time.monotonic()
        wrong = play(target, hosts, verbose)
        if wrong:
            # Guests under emulation can be late where the machine is busy with something else: what fails twice has failed.
            show(target, verbose)
            print('%s: a second try on %s, which said: %s' % (target, ', '.join(wrong), ', '.join(wrong.values())), flush=True)
            # A playbook of its own has all hypervisors in one play: none can be left out.
            wrong = play(target, list(wrong) if playbook_of(target) == EACH else hosts, verbose)
            again.append(target)
        results = ['%s %s' % (name, wrong.get(name, 'ok')) for name in hosts]
        print('%-*s  %5.1f s  %s' % (width, target, time.monotonic() - started, ', '.join(results)), flush=True)
        failed += len(wrong)
        passed += len(hosts) - len(wrong)
        if wrong:
            show(target, verbose)
    if again:
        print('tried twice: %s' % ', '.join(again))
    return passed, failed


def show(target, verbose):
    """The end of a target's log, and the tasks that failed."""
    log = LOGS / (target + '.log')
    text = log.read_text(encoding='utf-8', errors='replace')
    if not verbose:
        for failure in list(re.finditer(r'^(fatal|failed): \[', text, re.MULTILINE))[-4:]:
            print(text[max(0, failure.start() - 400):failure.start() + 1500])
            print('    ...')
        print(text[-1500:])
    print('    see %s' % log.relative_to(CHECKOUT), flush=True)


def main():
    parser = argparse.ArgumentParser(prog='run', description='Run integration targets on the test bed.')
    parser.add_argument('targets', nargs='*', metavar='TARGET', help='default: every target with the alias `testbed`')
    parser.add_argument('--limit', metavar='NAME[,NAME]', help='only these hypervisors (default: all)')
    parser.add_argument('--list', action='store_true', help='print the targets and end')
    parser.add_argument('--keep', action='store_true', help='leave the test bed up')
    parser.add_argument('-v', action='count', default=0, dest='verbose', help='show what Ansible prints; more for more')
    args = parser.parse_args()

    hosts = args.limit.split(',') if args.limit else list(HYPERVISORS)
    unknown = [name for name in hosts if name not in HYPERVISORS]
    unknown += [name for name in args.targets if name != SELF and not (TARGETS / name).is_dir()]
    if unknown:
        parser.error('unknown: %s' % ', '.join(unknown))
    targets = args.targets or [SELF, *all_targets()]
    if args.list:
        print('\n'.join(targets))
        return 0

    # So that a run that is told to end takes the test bed down as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = testbed.up(hosts)
    try:
        passed, failed = run(targets, hosts, args.verbose)
    finally:
        if started and not args.keep:
            testbed.down(started)
    print('%d passed, %d failed' % (passed, failed))
    return 1 if failed else 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit('testbed: %s' % failure)
