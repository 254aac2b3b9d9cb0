#!/usr/bin/busybox sh
# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# The tiny guest has no services.
