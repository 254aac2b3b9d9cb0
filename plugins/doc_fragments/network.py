# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import textwrap

# Suboptions of qemu_vm's nics, and options of qemu_nic. "@" stands for the path of the NIC.
# The topology reference and RETURN use the first sentence of each.
_NIC = r"""
model:
  description:
    - The model of the network card, as QEMU names it, such as V(virtio), V(e1000), V(rtl8139) or
      V(vmxnet3).
      M(vlab.qemu.qemu_host_info) lists the models of each QEMU.
      Default of a new NIC is V(virtio-net-pci).
    - A model for a bus that the machine does not have is an error, which lists the models of the
      machine. For V(usb-net), the machine gets a USB controller.
    - Changes need a restart.
  type: str
mac:
  description:
    - The MAC address. Default of a new NIC is a locally administered address that is derived from
      the names of lab, VM and NIC. It is the same on every host and in every run.
    - A NIC keeps its address. An empty string restores the default.
    - Quote the address, because YAML reads some addresses as numbers.
    - Changes need a restart.
  type: str
link:
  description:
    - What the NIC is connected to. Given as a whole, unless only O(@link.impair) is given, which
      then changes the impairment of the link that the NIC has. Default of a new NIC is
      O(@link.type=none).
    - Changes are made live. The guest keeps its card and sees the carrier go down and up.
    - A change to or from a link with O(@link.vhost), or with more than one of O(@link.queues),
      needs a restart.
  type: dict
  suboptions:
<LINK>
link_down:
  description:
    - Whether the guest sees no carrier although the NIC has a link. A NIC without a link never has
      a carrier. Default of a new NIC is V(false).
    - Changes are made live.
  type: bool
capture:
  description:
    - A capture of every frame of the NIC to a pcap file. Given as a whole; a new NIC has no
      capture.
    - Each start of a capture begins a new file. An earlier file is kept as C(NAME.1.pcap) and so
      on.
    - Not possible without a link, or on a link with O(@link.vhost) or more than one of
      O(@link.queues).
    - Changes are made live.
  type: dict
  suboptions:
    enabled:
      description: Whether to capture. V(false) stops the capture and keeps the file.
      type: bool
      default: true
    path:
      description:
        - The path of the file, which only the owner of QEMU can read. Default is
          C(captures/NAME.pcap) in the VM's folder.
      type: path
    snaplen:
      description: The number of bytes to keep of each frame. Default is QEMU's, 65536.
      type: int
    size:
      description:
        - The size at which another file begins, such as V(100M), at least V(256K). A number without
          a suffix is bytes. The full file is kept as C(NAME.1.pcap), that one as C(NAME.2.pcap)
          and so on, so that the highest number is the oldest. Each one is a complete pcap file. By
          default, the file grows without a limit.
        - A process of the VM copies the frames, and releases the space behind them. The file system
          of the VM's folder must be able to release parts of a file (ext4, XFS, Btrfs and tmpfs
          can).
        - A change of O(@capture.size) or O(@capture.count) continues the capture.
      type: str
    count:
      description:
        - How many files to keep with O(@capture.size), with the one that is written, up to
          V(10000). Default is V(10). C(NAME.1.pcap) and so on of earlier captures are counted, and
          the oldest are removed.
      type: int
mtu:
  description:
    - The MTU that a virtio NIC reports to the guest. V(0), the default of a new NIC, reports none.
    - Only virtio models support it.
    - Changes need a restart.
  type: int
rx_queue_size:
  description:
    - The number of frames that each receive queue of a virtio NIC holds. A larger queue drops fewer
      frames in bursts. Default of a new NIC is V(256).
    - Only virtio models support another value.
    - Changes need a restart.
  type: int
  choices: [256, 512, 1024]
index:
  description:
    - The number of the NIC, from V(0), which determines its PCI slot. A guest finds its cards in
      this order. Default of a new NIC is the number at the end of its name, up to V(63) or the
      number of NICs of the VM, else the first free number. V(-1) restores the default.
    - Changes need a restart.
  type: int
boot_index:
  description:
    - The position in the boot order, lowest first. Default of a new NIC is V(-1), which excludes it
      from the boot order.
    - Changes need a restart.
  type: int
boot_rom:
  description:
    - Whether a PCI card has the ROM that boots from the network. A card with O(@boot_index) always
      has it. Default of a new NIC is V(false).
    - Changes need a restart.
  type: bool
properties:
  description:
    - Further properties of the device, as QEMU names them. Given as a whole; default of a new NIC
      is V({}).
    - Changes need a restart.
  type: dict
"""

_LINK = r"""
type:
  description:
    - V(none) is no link. V(user) is QEMU's own network with NAT, DHCP and DNS.
    - V(udp) is a cable to one other QEMU on the same or another host. Either side can start first
      and restart at any time.
    - V(unix), a pair of UNIX datagram sockets (QEMU 7.2 or later), and V(stream), a connection, are
      also cables. V(mcast) is a segment of any number of QEMUs.
    - V(tap) is an interface of the hypervisor. V(bridge) is a bridge of the hypervisor, which needs
      QEMU's helper and C(/etc/qemu/bridge.conf).
    - V(vde) is a port of a VDE switch. V(passt) is user networking by the program passt; QEMU 10.1
      or later can start it.
    - Default is V(udp) with O(@link.peer), else V(none).
  type: str
  choices: [none, user, udp, unix, stream, mcast, tap, bridge, vde, passt]
peer:
  description:
    - The NIC at the other end of a V(udp) cable, as C(VM:NIC), in the same lab on the same
      hypervisor. The other NIC must name this one. Ports are allocated automatically and kept.
  type: str
local_address:
  description:
    - The address to listen on, for V(udp), V(stream) and V(mcast). Default is V(127.0.0.1).
  type: str
local_port:
  description:
    - The port to listen on. Required for V(udp) without O(@link.peer). For V(stream) it makes this
      side the listener and may be V(auto).
  type: str
remote_address:
  description:
    - The address of the other side, for V(udp) and V(stream). Default is V(127.0.0.1).
  type: str
remote_port:
  description:
    - The port of the other side. Required for V(udp) without O(@link.peer). For V(stream) it makes
      this side the one that connects.
  type: str
path:
  description:
    - The path of a socket. For V(unix), the socket of this side. For V(stream), the socket to
      listen on, or with O(@link.reconnect) the one to connect to. For V(vde), the folder of the
      switch. For V(passt), the socket of a passt that already runs.
  type: path
remote_path:
  description: The socket of the other side, for V(unix).
  type: path
reconnect:
  description:
    - Seconds between two attempts to connect a V(stream). Requires QEMU 8.0 or later.
  type: int
group:
  description: The multicast group of an V(mcast) segment, such as V(230.0.0.1).
  type: str
port:
  description: The UDP port of an V(mcast) segment, or the port number on a V(vde) switch.
  type: int
network:
  description: The network of a V(user) link. Default is QEMU's, V(10.0.2.0/24).
  type: str
host_address:
  description:
    - The address of the hypervisor within a V(user) network. Default is the second address of the
      network.
  type: str
dhcp_start:
  description:
    - The first address that DHCP assigns in a V(user) network. Default is the fifteenth address of
      the network.
  type: str
dns:
  description:
    - The address of the DNS server within a V(user) network. Default is the third address of the
      network.
  type: str
hostname:
  description: The host name that DHCP assigns in a V(user) network.
  type: str
domain:
  description: The domain that DHCP assigns in a V(user) network.
  type: str
dns_search:
  description: The DNS search list that DHCP assigns in a V(user) network.
  type: list
  elements: str
restrict:
  description:
    - Whether to isolate a V(user) network from the hypervisor and the outside, except for
      O(@link.forwards).
  type: bool
tftp:
  description: A folder of the hypervisor that a V(user) network serves read-only by TFTP.
  type: path
bootfile:
  description:
    - The boot file that DHCP announces in a V(user) network, in the field of BOOTP. For clients
      that want option 67, set it in O(@link.dhcp_options).
  type: str
dhcp_options:
  description:
    - Further options of the DHCP replies of a V(user) network, by code, such as V(67), the boot
      file. A value is a text, bytes as hexadecimal digits after C(0x), or for an option with
      addresses, such as V(150), IPv4 addresses with commas.
    - QEMU cannot send them, so a process of the VM adds them to the replies of QEMU. All frames for
      the guest on this link pass through it. If it dies, the guest receives nothing on this link
      until the next run starts it again.
    - Options that other suboptions set, such as V(12), and those of the protocol are rejected.
  type: dict
ipv6:
  description: Whether a V(user) network has IPv6. Default is QEMU's, V(true).
  type: bool
forwards:
  description:
    - Ports of the hypervisor to forward to the guest, for V(user), and for V(passt) when QEMU
      starts it. RV(vlab.qemu.qemu_vm#module:vm.forwards) returns the ports.
  type: list
  elements: dict
  suboptions:
    protocol:
      description: The protocol.
      type: str
      choices: [tcp, udp]
      default: tcp
    host_address:
      description:
        - The address to listen on; V(*) means all IPv4 addresses. V(user) listens on IPv4 addresses
          only.
        - A port belongs to its address, so that V(127.0.0.2) and V(127.0.0.3) can have the same
          one, also for the same port of the guest.
      type: str
      default: 127.0.0.1
    host_port:
      description:
        - The port to listen on. V(auto) chooses a free port and keeps it. A port that is in use is
          an error, and so is one below 1024 if QEMU is not run by root.
      type: str
      default: auto
    guest_address:
      description:
        - The address of the guest, for V(user). Default is the first address that DHCP assigns.
      type: str
    guest_port:
      description: The port of the guest.
      type: int
      required: true
interface:
  description: The V(tap) interface. If it does not exist, it is created, which requires root.
  type: str
script:
  description: The script that configures a V(tap) interface. By default, no script is run.
  type: path
down_script:
  description: The script that deconfigures a V(tap) interface. By default, no script is run.
  type: path
vhost:
  description:
    - Whether the kernel forwards the frames of a V(tap) link. Such a link cannot be changed live or
      captured.
  type: bool
queues:
  description:
    - The number of queues of a V(tap) link, for virtio NICs. A link with more than one queue cannot
      be changed live or captured.
  type: int
bridge:
  description: The bridge of a V(bridge) link.
  type: str
options:
  description:
    - Options of QEMU's backend that no suboption stands for, by QEMU's name, such as C(sndbuf) or
      C(vhostforce) of a V(tap), or C(smb) or C(guestfwd) of a V(user) network. Names and types are
      checked by what the QEMU binary reports. Not for V(none).
  type: dict
helper:
  description: The helper program that connects to the V(bridge). Default is QEMU's.
  type: path
vde_group:
  description: The group that may use the port of a V(vde) switch.
  type: str
mode:
  description: The permissions of the port of a V(vde) switch, in octal digits.
  type: str
impair:
  description:
    - What becomes of the frames that this end sends on an V(udp) link; what it receives is for the
      other end to say. By default, a link is not impaired, and no process runs for it.
    - Times are in V(us), V(ms) or V(s), a plain number is in ms. Probabilities are in percent, with
      or without V(%). Rates are in V(bit), V(kbit), V(Mbit) or V(Gbit) per second, a plain number
      is in kbit/s. V(0) is nothing.
    - Changes are made live. The guest keeps its card and its carrier; it stands still for some
      milliseconds when a link becomes impaired, or ceases to be.
    - RV(vlab.qemu.qemu_vm#module:vm.nics[].impairment) returns what was measured.
  type: dict
  suboptions:
    preset:
      description:
        - A typical link, whose values the other suboptions replace. The documentation of the
          collection lists them.
      type: str
      choices: [3g, cable, dialup, dsl, edge, leo, lte, satellite, wan, wifi]
    delay:
      description: The time that each frame is delayed, at most 60 seconds.
      type: str
    jitter:
      description:
        - How much O(@link.impair.delay) varies, in the way of O(@link.impair.distribution). Frames
          keep their order, so that a frame waits for the one before it, unless
          O(@link.impair.reorder) is set.
      type: str
    distribution:
      description:
        - How O(@link.impair.jitter) is distributed. V(uniform) stays within the jitter; for the
          others, the jitter is the standard deviation. Default is V(uniform).
      type: str
      choices: [uniform, normal, pareto, paretonormal]
    loss:
      description: The probability that a frame is lost. V(100%) cuts the link.
      type: str
    loss_correlation:
      description:
        - How much the loss of a frame depends on the one before it, below 100 percent. It makes
          losses come together, and not more of them.
      type: str
    burst_loss:
      description:
        - Losses in bursts, by the model of Gilbert and Elliott. It cannot be combined with
          O(@link.impair.loss).
      type: dict
      suboptions:
        begin:
          description: The probability that a burst begins with a frame. It is required.
          type: str
        end:
          description: The probability that a burst ends with a frame. It is required.
          type: str
        loss:
          description: The probability that a frame within a burst is lost. Default is V(100%).
          type: str
        loss_between:
          description: The probability that a frame between bursts is lost. Default is V(0%).
          type: str
    duplicate:
      description: The probability that a frame arrives twice.
      type: str
    corrupt:
      description: The probability that a frame arrives with one wrong bit.
      type: str
    reorder:
      description:
        - The probability that a frame is not delayed, and so overtakes others. It needs
          O(@link.impair.delay).
      type: str
    rate:
      description:
        - How much passes per second, counted in bytes of Ethernet frames without preamble and
          checksum.
      type: str
    limit:
      description:
        - The number of frames that wait for the O(@link.impair.rate); when there are more, further
          ones are dropped. Default is V(1000).
      type: int
    seed:
      description:
        - A number that makes the same random decisions each time. By default, they differ.
      type: int
"""


def _under(text, depth, where):
    return textwrap.indent(text.replace("@", where), "  " * depth)


# The options of qemu_migrate that have links.
_MOVED = (
    r"""
options:
  nics:
    description:
      - What NICs are connected to on the target. Other NICs keep their links. On one hypervisor,
        links to peers become links of type V(udp) with the addresses and ports that they have.
    type: list
    elements: dict
    suboptions:
      name:
        description: The name of a NIC of the VM.
        type: str
        required: true
      link:
        description: The link, as O(vlab.qemu.qemu_vm#module:nics[].link) describes it.
        type: dict
        suboptions:
"""
    + _under(_LINK, 5, "nics[].")
    + r"""
      link_down:
        description: Whether the guest sees no carrier although the NIC has a link.
        type: bool
  neighbours:
    description:
      - NICs of other VMs that are to be connected to the VM on the target, right after it
        continues there. Links whose addresses do not change need no entry.
    type: list
    elements: dict
    suboptions:
      hypervisor:
        description: The inventory name of the hypervisor of the other VM; by default the origin.
        type: str
      root:
        description: The folder of all labs there; by default O(root).
        type: path
      lab:
        description: The lab of the other VM; by default O(lab).
        type: str
      vm:
        description: The name of the other VM.
        type: str
        required: true
      nic:
        description: The name of its NIC.
        type: str
        required: true
      link:
        description: The link, as O(vlab.qemu.qemu_vm#module:nics[].link) describes it.
        type: dict
        required: true
        suboptions:
"""
    + _under(_LINK, 5, "neighbours[].")
)
_TEXT = _NIC.replace("<LINK>", textwrap.indent(_LINK, "    ").strip("\n"))


class ModuleDocFragment:
    MOVED: str = _MOVED

    # Annotated, because ansible-test's yamllint checks each plain assignment here, but cannot
    # compute text. The options of plugins/module_utils/_vm/parts/network.
    DOCUMENTATION: str = (
        r"""
options:
  nics:
    description:
      - Network cards, identified by name. Suboptions that you omit keep their values, and so do
        NICs that you omit, see O(purge_nics).
      - The number at the end of a NIC's name, else the order of the list, numbers the NICs and
        determines their PCI slots. A VM has 255 NICs at most.
      - Adding and removing NICs are changes that are made live if the machine has a free slot;
        otherwise they need a restart.
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
      - The MAC address that the NICs of the VM count up from, each by its number. By default, MAC
        addresses are derived from names.
      - It applies to NICs without O(nics[].mac). NICs whose MAC address was derived or counted
        follow a change, which requires a restart of a running VM. Without such NICs, changes do
        not concern a running VM.
    type: str
  mac_copy_from:
    description:
      - Another VM of the lab. NICs that have no MAC address yet take the one of its NIC of the same
        name.
      - Changes do not concern a running VM.
    type: str
  purge_nics:
    description: Remove the NICs that O(nics) does not name. It has no effect without O(nics).
    type: bool
    default: false
"""
    )

    NIC: str = "options:\n" + _under(_TEXT, 1, "")

    # What qemu_vm returns about it; scripts/return_docs.py writes it into the modules.
    RESULT: str = r"""
nics:
  description: The NICs. A suboption that is not returned has its default value.
  returned: always
  type: list
  elements: dict
  contains: NIC_RESULT
forwards:
  description: The forwarded ports of all NICs.
  returned: always
  type: list
  elements: dict
  contains:
    nic:
      description: The NIC.
      returned: always
      type: str
      sample: eth0
    protocol:
      description: V(tcp) or V(udp).
      returned: always
      type: str
      sample: tcp
    host_address:
      description: The address that the hypervisor listens on.
      returned: always
      type: str
      sample: 127.0.0.1
    host_port:
      description: The port that the hypervisor listens on.
      returned: always
      type: int
      sample: 20002
    guest_address:
      description: The address of the guest.
      returned: when it was set
      type: str
      sample: 10.0.2.15
    guest_port:
      description: The port of the guest.
      returned: always
      type: int
      sample: 22
"""

    # Results that differ from the option of the same name, and those that are no option. The script
    # adds the other suboptions.
    NIC_RESULT: str = r"""
name:
  description: The name of the NIC.
  returned: always
  type: str
  sample: eth0
model:
  description: The model of the network card.
  returned: always
  type: str
  sample: virtio-net-pci
mac:
  description: The MAC address.
  returned: always
  type: str
  sample: fa:d8:f8:b5:d4:c0
link:
  description: The link, with the suboptions that were set.
  returned: always
  type: dict
  sample: {type: udp, peer: 'r2:eth0'}
link_down:
  description: Whether the carrier was taken away.
  returned: always
  type: bool
  sample: false
impairment:
  description:
    - The impairment of what the NIC sends, as asked and as measured since its last
      change.
  returned: for an impaired link of a running VM
  type: dict
  contains:
    status:
      description:
        - V(running), or V(ended) if the process has died, which cuts the link until the
          next run.
      returned: always
      type: str
      sample: running
    pid:
      description: The process of all impaired links of the VM.
      returned: always
      type: int
      sample: 4712
    exit_code:
      description: The exit code of a process that has died.
      returned: always
      type: int
    log:
      description: Its log.
      returned: always
      type: str
      sample: /var/lib/vlab/default/r1/wires/log
    asked:
      description:
        - The impairment in force, with times in ms, probabilities in % and rates in
          kbit/s.
      returned: always
      type: dict
      sample: {delay: 20, loss: 1.5, rate: 10000}
    measured:
      description:
        - What was measured, null if the process does not run. C(delay_p50) and
          C(delay_p99) are the median and the 99th percentile of the latest 2048 frames,
          in ms. C(rate) is of the latest second with frames, and C(peak_rate) of the
          busiest one, in kbit/s. C(lost) is what the impairment lost, and C(dropped) what
          had no space in the queue.
      returned: always
      type: dict
      sample:
        seconds: 61.2
        frames_in: 20000
        bytes_in: 20000000
        frames_out: 19702
        bytes_out: 19702000
        lost: 298
        duplicated: 0
        corrupted: 0
        reordered: 0
        dropped: 0
        send_errors: 0
        delay_p50: 20.1
        delay_p99: 21.4
        rate: 2573.1
        peak_rate: 2604.8
capture:
  description:
    - The configured capture, with C(path) and C(snaplen); none without a capture.
    - With a size, also C(size) in bytes, C(count), and for a running VM C(rotation), the
      process that copies the frames, with C(status), C(pid), C(exit_code) and C(log).
      Its C(status) is V(ended) if it has died; no frame is lost by that, and the next run
      starts it again.
  returned: always
  type: dict
  sample:
    path: /var/lib/vlab/default/r1/captures/eth0.pcap
    snaplen: 128
    size: 104857600
    count: 10
    rotation:
      status: running
      pid: 4713
      exit_code: null
      log: /var/lib/vlab/default/r1/rotations/log
interface:
  description: The interface on the hypervisor, also if QEMU has chosen its name.
  returned: when the link is a C(tap) and the VM runs
  type: str
  sample: tap0
carrier:
  description: Whether the guest currently sees a carrier.
  returned: always
  type: bool
  sample: true
slot:
  description: The number of the NIC, which determines its PCI slot.
  returned: always
  type: int
  sample: 0
addresses:
  description: The known addresses at which the guest can be reached through this NIC.
  returned: always
  type: list
  elements: dict
  contains:
    address:
      description: The IP address.
      returned: always
      type: str
      sample: 127.0.0.1
    port:
      description: The port at this address; none if all ports lead to the guest.
      returned: always
      type: int
      sample: 20002
    guest_port:
      description: The port of the guest.
      returned: for a forwarded port
      type: int
      sample: 22
    source:
      description:
        - V(forward), V(neighbours) (the hypervisor's neighbour table), or V(agent) from
          M(vlab.qemu.qemu_vm_info).
      returned: always
      type: str
      sample: forward
"""

    # Only qemu_vm_info asks the guest.
    NIC_RESULT_OF_GUEST: str = r"""
guest_name:
  description: The name of the NIC in the guest.
  returned: when O(ask_agent) was set and the guest agent answered
  type: str
  sample: ens16
"""
