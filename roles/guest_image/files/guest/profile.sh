# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
export PATH=/usr/sbin:/usr/bin HOME=/root TERM=vt220
PS1="$(hostname)# "
cd /root || true
