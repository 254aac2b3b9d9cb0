#!/usr/bin/busybox sh
# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# poweroff, halt, reboot and shutdown (as the guest agent calls it) in one: at once, with disks written back.
case "${0##*/} $*" in
  reboot* | *" -r"*) action=reboot ;;
  halt* | *" -H"*) action=halt ;;
  *) action=poweroff ;;
esac
sync
umount -ar 2>/dev/null
exec busybox "$action" -f
