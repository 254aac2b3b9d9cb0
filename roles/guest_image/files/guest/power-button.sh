#!/usr/bin/busybox sh
# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# The power button: a lab guest has nothing to save but what is on mounted disks.
exec /usr/lib/vlab/power off
