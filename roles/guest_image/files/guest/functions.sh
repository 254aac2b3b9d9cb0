#!/usr/bin/busybox sh
# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Shared by the boot script and the hot plug handler.

say() {
  echo "vlab: $*" >/dev/console
}

# Load what the devices ask for, until no new device has come up: a bus has to be there before its devices are.
load_drivers() {
  before=
  for _ in 1 2 3 4; do
    aliases=$(cat /sys/bus/acpi/devices/*/modalias /sys/bus/pci/devices/*/modalias /sys/bus/virtio/devices/*/modalias \
      /sys/bus/scsi/devices/*/modalias /sys/bus/usb/devices/*/modalias /sys/bus/hid/devices/*/modalias \
      /sys/class/input/*/modalias 2>/dev/null)
    [ "$aliases" = "$before" ] && break
    before=$aliases
    # Some have stars in them.
    set -f
    # shellcheck disable=SC2086
    modprobe -qab $aliases 2>/dev/null
    set +f
  done
}

# Look for a file system labelled "config" and mount it. busybox's findfs does not know ISO 9660.
find_config() {
  for device in /dev/sr* /dev/vd* /dev/sd* /dev/nvme*n* /dev/fd[0-9]; do
    [ -b "$device" ] || continue
    for place in iso9660:32808:32 vfat:43:11 vfat:71:11 ext4:1144:16; do
      at=${place#*:}
      label=$(dd if="$device" bs=1 skip="${at%:*}" count="${at#*:}" 2>/dev/null | tr -d '\000 ')
      case $label in
        config | CONFIG) mount -t "${place%%:*}" -o ro "$device" /config && return 0 ;;
      esac
    done
  done
  return 1
}

# Waits for the drive only when the kernel was told to expect one.
mount_config() {
  deadline=0
  case " $(cat /proc/cmdline) " in
    *" vlab.config=1 "*) deadline=30 ;;
  esac
  until find_config; do
    read -r now _ </proc/uptime
    if [ "${now%.*}" -ge "$deadline" ]; then
      [ "$deadline" = 0 ] || say "no config drive after $deadline s"
      return 0
    fi
    sleep 0.1
  done
  # Lines "MAC NAME": the shell cannot change the case of letters by itself.
  [ -f /config/interfaces ] && awk 'NF >= 2 && !/^#/ { print tolower($2), $1 }' /config/interfaces >/run/vlab/names
  return 0
}

# The name that the configuration has for the NIC $1, or its present one, in $wanted.
wanted_name() {
  wanted=$1
  read -r address <"/sys/class/net/$1/address" 2>/dev/null || return 0
  [ -f /run/vlab/names ] || return 0
  while read -r mac name _; do
    [ "$mac" = "$address" ] && wanted=$name && return 0
  done </run/vlab/names
  return 0
}

# Move the NIC that has the name $1, and that nobody asked to be called so, to the next free ethN.
free_name() {
  [ -d "/sys/class/net/$1" ] || return 0
  number=0
  while [ -d "/sys/class/net/eth$number" ] || grep -q " eth$number\$" /run/vlab/names; do
    number=$((number + 1))
  done
  ip link set dev "$1" down
  ip link set dev "$1" name "eth$number" && link_up "eth$number"
}

# Two passes, so that names can be swapped.
name_links() {
  [ -f /run/vlab/names ] || return 0
  moved=
  count=0
  for device in /sys/class/net/*; do
    device=${device##*/}
    wanted_name "$device"
    [ "$wanted" = "$device" ] && continue
    ip link set dev "$device" down
    ip link set dev "$device" name "vlab$count" && moved="$moved vlab$count:$wanted"
    count=$((count + 1))
  done
  for pair in $moved; do
    free_name "${pair#*:}"
    ip link set dev "${pair%%:*}" name "${pair#*:}" || say "${pair#*:}: not a name for a NIC"
  done
}

link_up() {
  ip link set dev "$1" up
  [ -f "/proc/sys/net/mpls/conf/$1/input" ] && echo 1 >"/proc/sys/net/mpls/conf/$1/input"
  return 0
}

# Start the guest agent on its port, when the guest has an agent and the machine has the port.
start_agent() {
  command -v qemu-ga >/dev/null || return 0
  for port in /sys/class/virtio-ports/*; do
    read -r name 2>/dev/null <"$port/name" || continue
    if [ "$name" = org.qemu.guest_agent.0 ] && ! pidof qemu-ga >/dev/null; then
      qemu-ga -d -m virtio-serial -p "/dev/${port##*/}" -t /run -f /run/qemu-ga.pid
    fi
  done
}
