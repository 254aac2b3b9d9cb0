#!/usr/bin/busybox sh
# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Start FRR by hand: in a lab nothing has to watch over it, and its own scripts need more programs and more time.
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
start_agent

[ -f /config/frr.conf ] && cp /config/frr.conf /etc/frr/frr.conf
[ -f /etc/frr/frr.conf ] || : >/etc/frr/frr.conf
. /etc/frr/daemons
if [ -f /config/daemons ]; then
  cp /config/daemons /etc/frr/daemons
  . /etc/frr/daemons
else
  # Nobody said which daemons: those that the configuration speaks to.
  while read -r first second _; do
    case "$first $second" in
      "router bgp") bgpd=yes ;;
      "router ospf") ospfd=yes ;;
      "router ospf6") ospf6d=yes ;;
      "router isis") isisd=yes ;;
      "router rip") ripd=yes ;;
      "router ripng") ripngd=yes ;;
      "router eigrp") eigrpd=yes ;;
      "router babel") babeld=yes ;;
      "router openfabric") fabricd=yes ;;
      "mpls ldp") ldpd=yes ;;
      "bfd ") bfdd=yes ;;
      "ip pim" | "router pim") pimd=yes ;;
      "ipv6 pim" | "router pim6") pim6d=yes ;;
      "ip nhrp" | "ipv6 nhrp") nhrpd=yes ;;
      "pbr-map "*) pbrd=yes ;;
      "vrrp "*) vrrpd=yes ;;
      "segment-routing ") pathd=yes ;;
    esac
  done </etc/frr/frr.conf
fi

if [ "$ldpd" = yes ] || grep -q '^ *mpls ' /etc/frr/frr.conf; then
  modprobe -qa mpls_router mpls_iptunnel
  echo 100000 >/proc/sys/net/mpls/platform_labels
  for device in /sys/class/net/*; do
    link_up "${device##*/}"
  done
fi

mkdir -p /run/frr /var/lib/frr /var/tmp/frr /var/log/frr
chown frr:frr /run/frr /var/lib/frr /var/tmp/frr /var/log/frr /etc/frr/frr.conf
# shellcheck disable=SC2034
mgmtd=yes zebra=yes staticd=yes
for daemon in mgmtd zebra bgpd ripd ripngd ospfd ospf6d isisd babeld pimd pim6d ldpd nhrpd eigrpd pbrd staticd bfdd fabricd vrrpd pathd; do
  eval "start=\$$daemon options=\${${daemon}_options}"
  # shellcheck disable=SC2154,SC2086
  if [ "$start" = yes ] && [ -x "/usr/lib/frr/$daemon" ]; then
    /usr/lib/frr/$daemon -d -F "${frr_profile:-traditional}" $options || say "$daemon failed with $?"
  fi
done
# Reads the whole configuration into the daemons; that it connects to them is the proof that they answer.
vtysh -b || say "vtysh -b failed with $?"
