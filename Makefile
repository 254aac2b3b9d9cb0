# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The front door. Nothing else is needed beforehand than python3, make and, for what is missing, apt.

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

RUN_TESTS := .venv/bin/python scripts/run_tests.py

.PHONY: help setup setup-dev demo demo-down test test-fast test-nightly bench lint sanity units integration testbed docs docs-lint site build clean distclean

help:
	@echo 'make demo         a lab of routers on this machine, from nothing to a ping'
	@echo 'make demo-down    remove what the demo made'
	@echo 'make test         every test; the last line is "N passed, N failed"'
	@echo 'make test-fast    the quick ones, without the test bed: five minutes'
	@echo 'make test-nightly all of it: every target by ansible-playbook on every hypervisor, every page of examples'
	@echo 'make bench        measure how long things take'
	@echo 'make setup        .venv with ansible-core, and a link so that vlab.qemu is found from here'
	@echo 'make lint         ansible-lint, yamllint, shellcheck, licence headers, layers'
	@echo 'make sanity       ansible-test sanity'
	@echo 'make units        unit tests'
	@echo 'make integration  integration targets with real QEMU (TARGETS="one two" for some of them)'
	@echo 'make testbed      every integration target on three hypervisors, QEMU 5.2, 7.2 and 10.0'
	@echo 'make docs         the documentation site, in .cache/site/html'
	@echo 'make docs-lint    documentation and changelog'
	@echo 'make site         the documentation site, as a test: a warning is an error'
	@echo 'make build        dist/vlab-qemu-VERSION.tar.gz'
	@echo 'make clean        remove what builds and tests left; distclean also removes .venv and .cache'

setup:
	@scripts/setup

setup-dev:
	@scripts/setup dev

demo: setup
	@scripts/demo

demo-down: setup
	@scripts/demo down

bench: setup
	@.venv/bin/python scripts/bench

test:
	@scripts/test

test-fast:
	@scripts/test fast

test-nightly:
	@VLAB_TEST_LIMIT=36000 VLAB_PORT_RACES=200 VLAB_HOSTILE_IMPORTS=2000 scripts/test nightly

docs:
	@scripts/setup docs
	@.venv/bin/python scripts/docs

lint sanity units docs-lint site testbed: setup-dev
	@$(RUN_TESTS) $@

integration: setup-dev
	@$(RUN_TESTS) integration $(TARGETS)

build: setup
	@.venv/bin/ansible-galaxy collection build --force --output-path dist

clean:
	rm -rf .ansible .cache/test .pytest_cache dist tests/output
	find plugins roles scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Also what the demo and the test bed keep for the next time; not while they are up.
distclean: clean
	@if grep -qF ' $(CURDIR)/.cache/' /proc/self/mountinfo; then echo 'something is mounted below .cache: see tests/testbed/README.md'; exit 1; fi
	rm -rf --one-file-system .cache .collections .venv
