# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What a switch does with a frame: a pure function of its ports, the frames before, and time.

The program of the switch runs by itself on the hypervisor, so this module imports only the standard
library.
"""

from __future__ import annotations

# Of typing, see the engine.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    # The VLANs of a port. Empty: every frame passes as it is, in a network without VLANs.
    #   access: the VLAN of its frames, which have no tag.
    #   qinq: the VLAN of its frames, whose own tags are left as they are.
    #   trunk: the VLANs of tagged frames as text, such as "10,20-29", or "all"; native: that of
    #   frames without a tag; tag: the protocol of the tags.
    Vlans = dict[str, Any]

TAGS = {"802.1q": b"\x81\x00", "802.1ad": b"\x88\xa8"}
DEFAULT_TAG = "802.1q"
DEFAULT_AGEING = 300  # seconds, IEEE 802.1Q
MAX_AGEING = 1000000
LAST_VLAN = 4094
ALL = "all"
MAX_ADDRESSES = 16384  # of a switch
MAX_PORT_ADDRESSES = 4096
MAX_LISTED = 256  # addresses in a report
_NO_VLAN = 0
_HEADER, _TAG = 14, 4  # bytes
_ZERO = bytes(6)
_SWEEP_INTERVAL = 1  # seconds between two searches for old addresses in a full table


def vlan_ranges(text: str) -> list[tuple[int, int]]:
    """Return the ranges of a text such as "10,20-29". Raises ValueError."""
    ranges = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        numbers = (first, last if dash else first)
        if not all(number.isascii() and number.isdigit() and len(number) < 5 for number in numbers):
            raise ValueError("%.40r is not a VLAN or a range of VLANs, such as 20-29" % part)
        low, high = map(int, numbers)
        if not 1 <= low <= high <= LAST_VLAN:
            raise ValueError("%.40r is not within 1 and %d" % (part, LAST_VLAN))
        ranges.append((low, high))
    return ranges


def check(vlans: Any) -> Vlans:
    """Return the VLANs that a port can work with. Raises ValueError for any other."""
    if not isinstance(vlans, dict):
        raise ValueError("the VLANs of a port are a dictionary")
    kinds = [kind for kind in ("access", "trunk", "qinq") if kind in vlans]
    allowed = {"native", "tag", "trunk"} if kinds == ["trunk"] else set(kinds)
    if len(kinds) > 1 or set(vlans) - allowed:
        raise ValueError("a port has access, qinq, or trunk with native and tag")
    for name in ("access", "qinq", "native"):
        number = vlans.get(name, 1)
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= LAST_VLAN:
            raise ValueError("%s is a number from 1 to %d" % (name, LAST_VLAN))
    if "trunk" in vlans:
        if not isinstance(vlans["trunk"], str):
            raise ValueError("trunk is a text")
        if vlans["trunk"] != ALL:
            vlan_ranges(vlans["trunk"])
        if vlans.get("tag", DEFAULT_TAG) not in TAGS:
            raise ValueError("tag is one of %s" % ", ".join(TAGS))
    return vlans


def check_ageing(seconds: Any) -> float:
    """Return the time after which an address is forgotten. Raises ValueError."""
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not 1 <= seconds <= MAX_AGEING:
        raise ValueError("ageing is a number of seconds from 1 to %d" % MAX_AGEING)
    return float(seconds)


class Port:
    """A port of a switch, and what became of its frames."""

    COUNTERS = (
        "frames_in",
        "bytes_in",
        "frames_out",
        "bytes_out",
        "flooded",
        "wrong_vlan",
        "malformed",
        "send_errors",
    )

    def __init__(self, name: str, vlans: Vlans) -> None:
        self.name = name
        self.frames_in = self.bytes_in = self.frames_out = self.bytes_out = 0
        # flooded: frames that had to be sent to all. wrong_vlan: frames that the port does not
        # accept.
        self.flooded = self.wrong_vlan = self.malformed = self.send_errors = 0
        self.addresses = 0  # that were learned here
        self.set_vlans(vlans)

    def set_vlans(self, vlans: Vlans) -> None:
        """Change the VLANs. Raises ValueError."""
        self.vlans = check(vlans)
        self.is_trunk = "trunk" in vlans
        self.refuses_tags = "access" in vlans
        # That of frames without a tag; None if they are not accepted.
        self.vlan: int | None = vlans.get("access", vlans.get("qinq", _NO_VLAN))
        if self.is_trunk:
            self.vlan = vlans.get("native")
        self.tag = TAGS[vlans.get("tag", DEFAULT_TAG)]
        self._allowed = frozenset(
            vlan for low, high in _allowed_ranges(vlans) for vlan in range(low, high + 1)
        )

    def is_in(self, vlan: int) -> bool:
        """Return whether the port has frames of a VLAN."""
        return vlan == self.vlan or vlan in self._allowed

    def classify(self, frame: bytes) -> tuple[int, int, bytes] | None:
        """Return the VLAN of a frame, its priority, and it without the tag of that VLAN.

        None if it is dropped.
        """
        ethertype = frame[12:14]
        vlan, priority = self.vlan, 0
        is_tag = ethertype == self.tag if self.is_trunk else ethertype in TAGS.values()
        if is_tag and (self.is_trunk or self.refuses_tags):
            if len(frame) < _HEADER + _TAG:
                self.malformed += 1
                return None
            control = frame[14] << 8 | frame[15]
            priority, number = control & 0xF000, control & 0x0FFF
            if number:  # 0: the tag has a priority only
                vlan = number if self.is_trunk and self.is_in(number) else None
            frame = frame[:12] + frame[16:]
        if vlan is None:
            self.wrong_vlan += 1
            return None
        return vlan, priority, frame

    def tagged(self, vlan: int, priority: int, frame: bytes) -> bytes:
        """Return a frame of a VLAN as it leaves here."""
        # A tag within the native VLAN would be taken for one of another VLAN.
        if vlan == self.vlan and not (self.is_trunk and frame[12:14] == self.tag):
            return frame
        return frame[:12] + self.tag + (priority | vlan).to_bytes(2, "big") + frame[12:]

    def report(self) -> dict[str, int]:
        """Return the counters."""
        counters = {name: getattr(self, name) for name in self.COUNTERS}
        return dict(counters, addresses=self.addresses)


def _allowed_ranges(vlans: Vlans) -> list[tuple[int, int]]:
    trunk = vlans.get("trunk")
    if trunk is None:
        return []
    return [(1, LAST_VLAN)] if trunk == ALL else vlan_ranges(trunk)


class Switch:
    """The ports of a switch, and the addresses that it has learned."""

    def __init__(self) -> None:
        self.ports: dict[str, Port] = {}
        self.ageing: float = DEFAULT_AGEING
        # {VLAN: {MAC: [port, when it was seen last]}}
        self._tables: dict[int, dict[bytes, list[Any]]] = {}
        self._members: dict[int, list[Port]] = {}  # {VLAN: ports}, as far as it was needed
        self.addresses = 0
        self._swept_at = 0.0

    # Settings.

    def configure(self, ports: dict[str, Vlans], ageing: float) -> None:
        """Have these ports. Where a port changes, its addresses are forgotten.

        ports: of check. ageing: of check_ageing.
        """
        self.ageing = ageing
        changed = {port for name, port in self.ports.items() if ports.get(name) != port.vlans}
        if changed:
            self._keep(lambda entry: entry[0] not in changed)
        for port in changed:
            if port.name in ports:
                port.set_vlans(ports[port.name])
        self.ports = {
            name: self.ports.get(name) or Port(name, vlans) for name, vlans in ports.items()
        }
        self._members.clear()

    # Frames.

    def forward(self, port: Port, frame: bytes, now: float) -> list[tuple[Port, bytes]]:
        """Return where a frame goes that arrives at a port: [(port, frame)]."""
        port.frames_in += 1
        port.bytes_in += len(frame)
        source = frame[6:12]
        if len(frame) < _HEADER or source[0] & 1 or source == _ZERO:
            port.malformed += 1
            return []
        classified = port.classify(frame)
        if classified is None:
            return []
        vlan, priority, frame = classified
        self._learn(vlan, source, port, now)
        destination = frame[:6]
        if not destination[0] & 1:
            found = self._find(vlan, destination, now)
            if found is port:
                return []
            if found is not None:
                return [(found, found.tagged(vlan, priority, frame))]
        port.flooded += 1
        return [
            (other, other.tagged(vlan, priority, frame))
            for other in self._ports_of(vlan)
            if other is not port
        ]

    def _ports_of(self, vlan: int) -> list[Port]:
        members = self._members.get(vlan)
        if members is None:
            members = [port for port in self.ports.values() if port.is_in(vlan)]
            self._members[vlan] = members
        return members

    def _find(self, vlan: int, address: bytes, now: float) -> Port | None:
        entry = self._tables[vlan].get(address) if vlan in self._tables else None
        if entry is None or now - entry[1] > self.ageing:
            return None
        port: Port = entry[0]
        return port

    def _learn(self, vlan: int, address: bytes, port: Port, now: float) -> None:
        table = self._tables.setdefault(vlan, {})
        entry = table.get(address)
        if entry is not None and entry[0] is port:
            entry[1] = now
            return
        if port.addresses >= MAX_PORT_ADDRESSES or (
            entry is None and self.addresses >= MAX_ADDRESSES
        ):
            if now - self._swept_at < _SWEEP_INTERVAL:
                return  # frames to this address are sent to all
            self.sweep(now)
            if port.addresses >= MAX_PORT_ADDRESSES or self.addresses >= MAX_ADDRESSES:
                return
            table = self._tables.setdefault(vlan, {})
            entry = table.get(address)
        if entry is not None:
            entry[0].addresses -= 1
        else:
            self.addresses += 1
        port.addresses += 1
        table[address] = [port, now]

    def sweep(self, now: float) -> None:
        """Forget the addresses that were not seen for the ageing time."""
        self._swept_at = now
        self._keep(lambda entry: now - entry[1] <= self.ageing)

    def _keep(self, is_kept: Callable[[list[Any]], bool]) -> None:
        for port in self.ports.values():
            port.addresses = 0
        self.addresses = 0
        for vlan, table in list(self._tables.items()):
            table = {address: entry for address, entry in table.items() if is_kept(entry)}
            for entry in table.values():
                entry[0].addresses += 1
            self.addresses += len(table)
            if table:
                self._tables[vlan] = table
            else:
                del self._tables[vlan]

    # Report.

    def listed(self, now: float) -> list[dict[str, Any]]:
        """Return the addresses that were learned, 256 at most."""
        found = [
            {
                "vlan": vlan or None,
                "mac": ":".join("%02x" % byte for byte in address),
                "port": entry[0].name,
                "age": int(now - entry[1]),
            }
            for vlan, table in sorted(self._tables.items())
            for address, entry in sorted(table.items(), key=lambda item: item[0])
            if now - entry[1] <= self.ageing
        ]
        return found[:MAX_LISTED]
