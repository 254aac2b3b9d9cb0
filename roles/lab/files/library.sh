# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Functions for the assertions of a lab. On failure, each prints what it found.

# reaches ADDRESS...: every address answers a ping; with source=ADDRESS, from that address.
reaches() {
  for to; do
    ping -q -c 1 -W 1 ${source:+-I "$source"} "$to" >/dev/null || { echo "no answer from $to"; return 1; }
  done
}

# passes N TO ADDRESS: hop N on the path to TO has this address.
passes() {
  answer=$(ping -n -c 1 -W 1 -t "$1" "$2" 2>&1)
  case "$answer" in *"rom $3 "* | *"rom $3:"*) return 0 ;; esac
  echo "$answer" | grep 'rom ' || echo "no answer"
  return 1
}

# ospf_full N: the FRR router has N neighbours in state Full.
ospf_full() {
  table=$(vtysh -c 'show ip ospf neighbor' 2>&1)
  echo "$table"
  [ "$(echo "$table" | grep -c ' Full/')" -eq "$1" ]
}

# bgp_established N: the FRR router has N established IPv4 sessions. Then the tenth column of the summary, the state, is the number
# of prefixes received, or (Policy). A vtysh takes a third of a second in an emulated guest, so wait for N TCP connections first; not
# for long, because another network namespace has its own.
bgp_established() {
  for _ in 1 2 3 4 5 6 7 8; do
    [ "$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -cE ':00B3( [^ ]+)? 01 ')" -lt "$1" ] || break
    sleep 0.25
  done
  table=$(vtysh -c 'show bgp ipv4 summary' 2>&1)
  [ "$(echo "$table" | grep -cE '^[^ ]+( +[0-9]+){7} +[^ ]+ +[0-9(]')" -eq "$1" ] || { echo "$table"; return 1; }
}
