#!/usr/bin/busybox sh
# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Run by "uevent" for each event of the kernel, with the event's data in the environment.
export PATH=/usr/sbin:/usr/bin
[ "$ACTION" = add ] || exit 0
. /usr/lib/vlab/functions
[ -n "$MODALIAS" ] && modprobe -qb "$MODALIAS"
case $SUBSYSTEM in
  net)
    # Until the boot script has named the links, it is the one that brings them up.
    [ -f /run/vlab/links ] && [ -d "/sys/class/net/$INTERFACE" ] || exit 0
    wanted_name "$INTERFACE"
    if [ "$wanted" != "$INTERFACE" ]; then
      free_name "$wanted"
      ip link set dev "$INTERFACE" name "$wanted" && INTERFACE=$wanted
    fi
    link_up "$INTERFACE"
    ;;
  virtio-ports)
    start_agent
    ;;
esac
