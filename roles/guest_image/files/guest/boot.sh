#!/usr/bin/busybox sh
# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Run once by init: from nothing to a machine with drivers, a configuration and links.
export PATH=/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /run/vlab
mount -t devpts devpts /dev/pts

. /usr/lib/vlab/functions

load_drivers
uevent /usr/lib/vlab/hotplug >/dev/null 2>&1 &
# Only a firmware that offers ACPI has a power button.
[ -d /sys/class/input/event0 ] && acpid -l /dev/null -p /run/acpid.pid 2>/dev/null

mount_config
[ -f /config/files.tar ] && tar -xf /config/files.tar -C /
[ -s /config/hostname ] && read -r name </config/hostname
hostname "${name:-vlab}"

ip link set lo up
name_links
: >/run/vlab/links
for device in /sys/class/net/*; do
  link_up "${device##*/}"
done

if [ -f /config/start.sh ]; then
  (cd /config && /bin/sh ./start.sh) || say "start.sh failed with $?"
fi
. /usr/lib/vlab/services
say ready
