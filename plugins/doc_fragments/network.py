# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import textwrap

# Suboptions of qemu_vm's nics, and options of qemu_nic. "@" stands for where they are.
_NIC = r"""
model:
  description:
    - The card that the guest sees, by its name in QEMU, such as V(virtio), V(e1000), V(rtl8139) or V(vmxnet3).
      M(vlab.qemu.qemu_host_info) lists what each QEMU has. Default of a new NIC is V(virtio).
    - Changes need a restart.
  type: str
mac:
  description:
    - The MAC address. Default of a new NIC is one that is derived from lab, VM and NIC, locally administered and the same on every
      host and run. A MAC that was given once stays; the empty text goes back to the default.
    - Put it in quotes, as YAML takes some for numbers.
    - Changes need a restart.
  type: str
link:
  description:
    - What the other side of the NIC is plugged into. Given as a whole; default of a new NIC is O(@link.type=none).
    - Changes are made live and the guest keeps its card, whose carrier goes down and up.
      But to or from a link with O(@link.vhost) or several O(@link.queues) they need a restart.
  type: dict
  suboptions:
<LINK>
link_down:
  description:
    - Whether the guest sees no carrier although there is a link. A NIC without a link never has a carrier.
      Default of a new NIC is V(false).
    - Changes are made live.
  type: bool
capture:
  description:
    - Write every frame of the NIC to a pcap file. Given as a whole; default of a new NIC is not to.
    - Each start of a capture begins a new file; an earlier one is kept as C(NAME.1.pcap) and so on.
    - Impossible without a link, and on a link with O(@link.vhost) or several O(@link.queues).
    - Changes are made live.
  type: dict
  suboptions:
    enabled:
      description: Whether to capture. V(false) stops it and keeps the file.
      type: bool
      default: true
    path:
      description: The file. Default is C(captures/NAME.pcap) in the VM's folder.
      type: path
    snaplen:
      description: How many bytes of each frame are kept. Default is QEMU's, 65536.
      type: int
mtu:
  description:
    - The MTU that a virtio NIC tells the guest, V(0) for none. Other models do not have it. Default of a new NIC is none.
    - Changes need a restart.
  type: int
index:
  description:
    - The card's number among the machine's places for NICs, from V(0); guests that count their cards find them in this order.
      Default of a new NIC is the number at the end of its name, or the next that is free. V(-1) takes back what was said.
    - Changes need a restart.
  type: int
boot_index:
  description:
    - The place in the boot order, the lowest first. Default of a new NIC is V(-1), to be in none.
    - Changes need a restart.
  type: int
boot_rom:
  description:
    - Whether a PCI card has its ROM to boot from the network. With a O(@boot_index) it has. Default of a new NIC is V(false).
    - Changes need a restart.
  type: bool
properties:
  description:
    - Further properties of the card, as QEMU has them. Given as a whole; default of a new NIC is V({}).
    - Changes need a restart.
  type: dict
"""

_LINK = r"""
type:
  description:
    - V(none) is no link, V(user) a network of QEMU's own with NAT, DHCP and DNS.
    - V(udp) is a cable to one other QEMU on this or another host. Either side may start first and may restart.
    - V(unix) (a pair of UNIX datagram sockets, from QEMU 7.2) and V(stream) (a connection) are cables, too.
      V(mcast) is a segment of any number of QEMUs.
    - V(tap) is an interface of the hypervisor, V(bridge) a bridge there, which needs QEMU's helper and C(/etc/qemu/bridge.conf).
    - V(vde) is a port of a VDE switch. V(passt) is user networking by the program passt, by itself from QEMU 10.1.
    - Default is V(udp) with O(@link.peer), else V(none).
  type: str
  choices: [none, user, udp, unix, stream, mcast, tap, bridge, vde, passt]
peer:
  description:
    - The NIC at the other end of a V(udp) cable, as C(VM:NIC), in the same lab on the same hypervisor. The other NIC names this one
      in turn. Ports are found and kept.
  type: str
local_address:
  description: The address to listen on, for V(udp), V(stream) and V(mcast). Default is V(127.0.0.1).
  type: str
local_port:
  description: The port to listen on. Needed for V(udp) without O(@link.peer). For V(stream) it makes this side the listener and may be V(auto).
  type: str
remote_address:
  description: The address of the other side, for V(udp) and V(stream). Default is V(127.0.0.1).
  type: str
remote_port:
  description: The port of the other side. Needed for V(udp) without O(@link.peer). For V(stream) it makes this side the one that connects.
  type: str
path:
  description:
    - The socket. For V(unix) the one of this side; for V(stream) the one to listen on, with O(@link.reconnect) the one to connect to;
      for V(vde) the folder of the switch; for V(passt) the socket of a passt that runs already.
  type: path
remote_path:
  description: The socket of the other side, for V(unix).
  type: path
reconnect:
  description: Seconds between two tries to connect a V(stream). Needs QEMU 8.0.
  type: int
group:
  description: The multicast group of an V(mcast) segment, such as V(230.0.0.1).
  type: str
port:
  description: The UDP port of an V(mcast) segment, or the number of the port on a V(vde) switch.
  type: int
network:
  description: The network of a V(user) link. Default is QEMU's, V(10.0.2.0/24).
  type: str
host_address:
  description: The address of the hypervisor within a V(user) network. Default is the second of the network.
  type: str
dhcp_start:
  description: The first address that DHCP gives in a V(user) network. Default is the fifteenth of the network.
  type: str
dns:
  description: The address of the DNS server within a V(user) network. Default is the third of the network.
  type: str
hostname:
  description: The host name that DHCP gives in a V(user) network.
  type: str
domain:
  description: The domain that DHCP gives in a V(user) network.
  type: str
dns_search:
  description: The search list that DHCP gives in a V(user) network.
  type: list
  elements: str
restrict:
  description: Whether a V(user) network is cut off from the hypervisor and the outside, but for O(@link.forwards).
  type: bool
tftp:
  description: A folder of the hypervisor that a V(user) network offers by TFTP, read only.
  type: path
bootfile:
  description: The boot file that DHCP names in a V(user) network.
  type: str
ipv6:
  description: Whether a V(user) network has IPv6. Default is QEMU's, V(true).
  type: bool
forwards:
  description:
    - Ports of the hypervisor that lead into the guest, for V(user), and for a V(passt) that QEMU starts itself.
      RV(vlab.qemu.qemu_vm#module:vm.forwards) tells the ports.
  type: list
  elements: dict
  suboptions:
    protocol:
      description: The protocol.
      type: str
      choices: [tcp, udp]
      default: tcp
    host_address:
      description: The IPv4 address to listen on; V(*) is for all.
      type: str
      default: 127.0.0.1
    host_port:
      description: The port to listen on, or V(auto) for one that is free and then kept. One that is taken is an error.
      type: str
      default: auto
    guest_address:
      description: The address of the guest. Default is the first that DHCP gives.
      type: str
    guest_port:
      description: The port of the guest.
      type: int
      required: true
interface:
  description: The V(tap) interface. One that does not exist is made, which needs root.
  type: str
script:
  description: The script that sets a V(tap) up. Default is to run none.
  type: path
down_script:
  description: The script that takes a V(tap) down. Default is to run none.
  type: path
vhost:
  description: Whether the kernel moves the frames of a V(tap). Such a link is not re-wired live and not captured.
  type: bool
queues:
  description: The number of queues of a V(tap), for virtio NICs. A link with several is not re-wired live and not captured.
  type: int
bridge:
  description: The bridge of a V(bridge) link.
  type: str
helper:
  description: The program that plugs into the V(bridge). Default is QEMU's.
  type: path
vde_group:
  description: The group that may use the port of a V(vde) switch.
  type: str
mode:
  description: The permissions of the port of a V(vde) switch, in octal digits.
  type: str
"""


def _under(text, depth, where):
    return textwrap.indent(text.replace("@", where), "  " * depth)


_TEXT = _NIC.replace("<LINK>", textwrap.indent(_LINK, "    ").strip("\n"))


class ModuleDocFragment:
    # Annotated, because ansible-test's yamllint reads every plain assignment here and knows no computed text.
    # The options of plugins/module_utils/_vm/parts/network.py.
    DOCUMENTATION: str = (
        r"""
options:
  nics:
    description:
      - Network cards, each known by its name. What is said of a NIC is changed, suboption by suboption; what is not said stays as it is.
        NICs that are not named stay as they are, see O(purge_nics).
      - NICs are numbered, and addressed on the PCI bus, by the number at the end of their names, else in the order in which they come;
        255 at most.
      - Adding and removing a NIC is made live when the machine has a free place; else it needs a restart.
    type: list
    elements: dict
    suboptions:
      name:
        description: The name of the NIC.
        type: str
        required: true
"""
        + _under(_TEXT, 3, "nics[].")
        + r"""
  mac_base:
    description:
      - The MAC address that the NICs of the VM count up from, each by its number. Default of a new VM is to derive MACs from names.
      - For NICs that have no MAC yet, so a change concerns new ones only.
      - Changes do not concern a running VM.
    type: str
  mac_copy_from:
    description:
      - Another VM of the lab, whose NICs of the same names have the MACs to take. For NICs that have no MAC yet.
      - Changes do not concern a running VM.
    type: str
  purge_nics:
    description: Remove the NICs that O(nics) does not name. Without O(nics) it does nothing.
    type: bool
    default: false
"""
    )

    NIC: str = "options:\n" + _under(_TEXT, 1, "")
