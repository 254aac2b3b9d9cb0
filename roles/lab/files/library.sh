# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# What the assertions of a lab may use. Each says what it saw when it does not hold.

# reaches ADDRESS...: each answers a ping. source=ADDRESS reaches ...: from there.
reaches() {
  for to; do
    ping -q -c 1 -W 1 ${source:+-I "$source"} "$to" >/dev/null || { echo "no answer from $to"; return 1; }
  done
}

# passes N TO ADDRESS: what answers N hops on the way to TO has this address.
passes() {
  answer=$(ping -n -c 1 -W 1 -t "$1" "$2" 2>&1)
  case "$answer" in *"rom $3 "* | *"rom $3:"*) return 0 ;; esac
  echo "$answer" | grep 'rom ' || echo "no answer"
  return 1
}

# ospf_full N: an FRR router has N neighbours that are Full.
ospf_full() {
  table=$(vtysh -c 'show ip ospf neighbor' 2>&1)
  echo "$table"
  [ "$(echo "$table" | grep -c ' Full/')" -eq "$1" ]
}

# bgp_established N: an FRR router has N sessions for IPv4 that are up.
bgp_established() {
  [ "$(vtysh -c 'show bgp ipv4 summary json' | grep -c '"state":"Established"')" -eq "$1" ] || { vtysh -c 'show bgp ipv4 summary'; return 1; }
}
