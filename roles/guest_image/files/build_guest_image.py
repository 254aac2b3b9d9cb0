# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the kernel and the initramfs of small guests from the distribution's packages.

mmdebstrap downloads and unpacks the packages with the apt sources of this host. No package scripts
are run, and the initramfs contains only the files that a guest needs. Every entry of the archive
has a fixed owner, time and position, so the same package versions result in identical bytes.

For each kind, three files are written to the output folder, each of them atomically:

    vmlinuz-KIND-KEY    the kernel
    KIND-KEY.initrd     the initramfs
    KIND-KEY.json       the manifest; written last, so its presence means that the build is complete
"""

from __future__ import annotations

import argparse
import glob
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))

# Modules that are built in or do not exist are skipped. All are loaded on demand.
MODULES = """
    virtio_pci virtio_net virtio_blk virtio_scsi virtio_console virtio-rng virtio_balloon
    virtio_input
    e1000 e1000e igb igbvf 8139cp 8139too pcnet32 ne2k-pci tulip sungem vmxnet3
    ata_piix ahci sd_mod sr_mod sg nvme floppy sym53c8xx mptspi mptsas megaraid_sas vmw_pvscsi
    am53c974 sdhci-pci mmc_block
    xhci-pci ehci-pci uhci-hcd ohci-pci usb-storage uas usbhid hid-generic
    isofs vfat nls_utf8 nls_cp437 nls_ascii nls_iso8859-1 ext4 crc32c_generic
    button evdev i6300esb iTCO_wdt ib700wdt tpm_tis tpm_crb pvpanic pvpanic-mmio pvpanic-pci
    8021q bridge dummy
""".split()
ROUTER_MODULES = """
    stp bonding macvlan veth vrf vxlan gre ip_gre ip6_gre ipip sit ip6_tunnel tun
    mpls_router mpls_iptunnel mpls_gso
    sch_netem sch_tbf sch_htb sch_ingress cls_u32 act_mirred nf_tables nft_chain_nat nft_masq
    act_police sch_fq_codel vmw_vsock_virtio_transport
""".split()

# The paths in ncurses-base up to Debian 12, and since Debian 13.
TERMINALS = [
    f"lib/terminfo/{name}|usr/share/terminfo/{name}"
    for name in ("d/dumb", "l/linux", "v/vt100", "v/vt220", "x/xterm")
]

# Before glibc 2.34, these are not in its main library.
NAME_SERVICES = [
    "?lib/*/libnss_files.so.2",
    "?lib/*/libnss_dns.so.2",
    "?lib/*/libresolv.so.2",
]

# Folders end in "/". "|" separates alternatives, of which the first existing path is used. A path
# that does not exist is an error unless it starts with "?".
KINDS: dict[str, dict[str, Any]] = {
    "tiny": {
        "packages": ["busybox-static"],
        "modules": MODULES,
        "programs": [],
        "data": [],
        "passwd": [],
        "group": [],
    },
    "frr": {
        "packages": [
            "bash",
            "busybox-static",
            "frr",
            "iproute2",
            "iputils-ping",
            "libpam-modules",
            "ncurses-base",
            "qemu-guest-agent",
        ],
        "modules": MODULES + ROUTER_MODULES,
        "programs": [
            "bin/bash",
            "usr/lib/frr/*",
            "usr/bin/vtysh",
            "bin/ip",
            "sbin/bridge",
            "sbin/tc",
            "bin/ss",
            "bin/ping",
            "usr/sbin/qemu-ga",
        ],
        "data": [
            "usr/share/yang/",
            "etc/frr/daemons",
            "etc/frr/vtysh.conf",
            "?etc/iproute2/",
            "?usr/share/iproute2/",
            *NAME_SERVICES,
            "lib/*/security/pam_permit.so",
            *TERMINALS,
        ],
        "passwd": ["frr:x:100:100::/nonexistent:/bin/false"],
        "group": ["frr:x:100:", "frrvty:x:101:frr"],
    },
    # For modules of Ansible: Python with its standard library, without documentation and tests.
    "linux": {
        "packages": [
            "bash",
            "busybox-static",
            "dropbear-bin",
            "iproute2",
            "iputils-ping",
            "ncurses-base",
            "python3",
            "qemu-guest-agent",
        ],
        "modules": MODULES,
        "programs": [
            "bin/bash",
            "bin/ip",
            "bin/ss",
            "bin/ping",
            "usr/sbin/dropbear",
            "usr/sbin/qemu-ga",
            "usr/bin/python3.*",
            "usr/lib/python3.*/lib-dynload/*.so",
        ],
        "data": [
            "usr/lib/python3.[0-9]*/",
            "?etc/iproute2/",
            "?usr/share/iproute2/",
            *NAME_SERVICES,
            *TERMINALS,
        ],
        "skip": r"/(test|tests|idlelib|lib2to3|ensurepip|turtledemo|pydoc_data|config-3[^/]*"
        r"|lib-dynload)/|\.pyc$",
        "links": {"usr/bin/python3": "python3.*"},
        "passwd": [],
        "group": [],
    },
}


class BuildError(Exception):
    """An error that is reported without a traceback."""


class Tree:
    """The unpacked packages, with or without /bin and /lib merged into /usr."""

    def __init__(self, root: str) -> None:
        self.root = root

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that match a pattern, both relative to the root."""
        plain = re.sub("^usr/(?=(s?bin|lib|lib64)/)", "", pattern)
        found: list[str] = []
        for variant in (
            {plain, "usr/" + plain} if re.match("(s?bin|lib|lib64)/", plain) else {pattern}
        ):
            found += glob.glob(os.path.join(glob.escape(self.root), variant))
        return sorted(os.path.relpath(path, self.root) for path in found)

    def find(self, pattern: str) -> str:
        """Return the first path that matches a pattern."""
        found = self.glob(pattern)
        if not found:
            raise BuildError(f"the packages have no file {pattern}")
        return found[0]

    def read(self, path: str) -> bytes:
        """Return the content of a file. Symbolic links are resolved within the tree."""
        for _level in range(8):
            full = os.path.join(self.root, path)
            if not os.path.islink(full):
                with open(full, "rb") as file:
                    return file.read()
            target = os.readlink(full)
            path = (
                target.lstrip("/")
                if target.startswith("/")
                else os.path.normpath(os.path.join(os.path.dirname(path), target))
            )
            path = self.find(path)
        raise BuildError(f"too many levels of symbolic links: {path}")

    def libraries(self, path: str) -> list[str]:
        """Return the shared libraries of a program, found by its loader without running it."""
        loader = list(self.glob("lib64/ld-linux*.so.*")) + list(self.glob("lib/ld-linux*.so.*"))
        if not loader:
            return []
        folders = [
            os.path.join(self.root, name)
            for name in self.glob("lib/*-linux-gnu*") + self.glob("lib/*-linux-gnu*/frr")
        ]
        done = subprocess.run(
            [
                os.path.join(self.root, loader[0]),
                "--inhibit-cache",
                "--library-path",
                ":".join(folders),
                "--list",
                os.path.join(self.root, path),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or "not found" in done.stdout:
            raise BuildError(f"libraries of {path}: {done.stdout}{done.stderr}")
        found = re.findall(r"=> (\S+) \(", done.stdout)
        return [
            os.path.relpath(name, self.root) for name in found if name.startswith(self.root)
        ] + loader[:1]


class Archive:
    """A cpio archive (newc) whose bytes depend only on its entries."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[int, bytes, tuple[int, int]]] = {}

    def add(
        self,
        path: str,
        data: bytes = b"",
        mode: int = 0o644,
        kind: int = stat.S_IFREG,
        device: tuple[int, int] = (0, 0),
    ) -> None:
        """Add an entry, and its parent folders."""
        path = re.sub("^(s?bin|lib|lib64)/", r"usr/\1/", path)
        parent = os.path.dirname(path)
        if parent and parent not in self.entries:
            self.folder(parent)
        self.entries[path] = (kind | mode, data, device)

    def folder(self, path: str, mode: int = 0o755) -> None:
        """Add a folder."""
        self.add(path, mode=mode, kind=stat.S_IFDIR)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self.add(path, target.encode(), 0o777, stat.S_IFLNK)

    def pack(self) -> bytes:
        """Return the archive."""
        out = []

        def entry(number: int, path: str, mode: int, data: bytes, device: tuple[int, int]) -> None:
            name = path.encode() + b"\0"
            links = 2 if stat.S_ISDIR(mode) else 1
            fields = [
                number,
                mode,
                0,
                0,
                links,
                0,
                len(data),
                0,
                0,
                device[0],
                device[1],
                len(name),
                0,
            ]
            head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
            out.append(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))

        for number, (path, (mode, data, device)) in enumerate(sorted(self.entries.items()), 1):
            entry(number, path, mode, data, device)
        entry(0, "TRAILER!!!", 0, b"", (0, 0))
        return b"".join(out)


def apt_settings() -> list[str]:
    """Return the settings of apt on this host for proxies, timeouts, checks and credentials.

    Folders, and the actions of apt after an installation, are left out.
    """
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    kept = [
        line
        for line in dump.splitlines()
        if re.match(r"Acquire::(?!IndexTargets|CompressionTypes|Changelogs)\S+ \"[^\"]", line)
    ]
    if os.path.isdir("/etc/apt/auth.conf.d"):
        kept += [
            'Dir::Etc::netrc "/etc/apt/auth.conf";',
            'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";',
        ]
    return kept


def apt_sources() -> list[str]:
    """Return the files with the apt sources of this host."""
    sources = sorted(
        glob.glob("/etc/apt/sources.list.d/*.list") + glob.glob("/etc/apt/sources.list.d/*.sources")
    )
    if os.path.exists("/etc/apt/sources.list") and os.path.getsize("/etc/apt/sources.list"):
        sources.insert(0, "/etc/apt/sources.list")
    return sources


def unpack_packages(root: str, packages: set[str], suite: str, sources: list[str]) -> None:
    """Download and unpack packages with mmdebstrap and the settings of apt on this host."""
    settings = os.path.join(os.path.dirname(root), "apt.conf")
    with open(settings, "w", encoding="utf-8") as file:
        file.write("\n".join(apt_settings()) + "\n")
    sources = sources or apt_sources()
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=extract",
        "--aptopt=" + settings,
        "--include=" + ",".join(sorted(packages)),
        suite,
        root,
    ]
    done = subprocess.run(
        command + sources,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise BuildError(
            f"{' '.join(command + sources)} ended with {done.returncode}:\n{done.stdout[-4000:]}"
        )


def release(field: str) -> str:
    """Return a field of /etc/os-release, or an empty string."""
    with open("/etc/os-release", encoding="utf-8") as file:
        found = re.search(rf'^{field}="?([\w-]+)', file.read(), re.MULTILINE)
    return found.group(1) if found else ""


def default_kernel_package() -> str:
    """Return the kernel package for virtual machines, which is small and has few drivers."""
    if release("ID") == "ubuntu":
        return "linux-image-virtual"
    done = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    )
    return "linux-image-cloud-" + done.stdout.strip()


def read_module(path: str) -> bytes:
    """Return a kernel module, uncompressed, because the archive is compressed as a whole."""
    with open(path, "rb") as file:
        data = file.read()
    if path.endswith(".xz"):
        return lzma.decompress(data)
    if path.endswith(".gz"):
        return gzip.decompress(data)
    if path.endswith(".zst"):
        return subprocess.run(["zstd", "-dcq", path], stdout=subprocess.PIPE, check=True).stdout
    return data


def without_signature(module: bytes) -> bytes:
    """Return a kernel module without its signature, which takes a sixth of a boot to verify.

    The kernel requires no signatures: a firmware with Secure Boot does not start it from a file.
    The format is that of scripts/sign-file.c and include/linux/module_signature.h of Linux.
    """
    magic = b"~Module signature appended~\n"
    if not module.endswith(magic):
        return module
    information = struct.Struct(">8xI")  # its last field is the size of the signature
    start = len(module) - len(magic) - information.size
    (size,) = information.unpack_from(module, start)
    return module[: start - size]


def kernel_modules(folder: str) -> tuple[dict[str, str], set[str]]:
    """Return the paths of the modules of a kernel, by name, and the names of the built-in ones."""
    have: dict[str, str] = {}
    for parent, _folders, names in os.walk(folder):
        for name in names:
            module = re.match(r"(.+)\.ko(\.\w+)?$", name)
            if module:
                have[module.group(1).replace("-", "_")] = os.path.join(parent, name)
    with open(os.path.join(folder, "modules.builtin"), encoding="utf-8") as file:
        builtin = {os.path.basename(line.strip())[:-3].replace("-", "_") for line in file}
    return have, builtin


def add_modules(
    archive: Archive, tree: Tree, version: str, requested: list[str], work: str
) -> list[str]:
    """Add modules and their dependencies. Return the names that this kernel does not have."""
    folder = os.path.join(tree.root, tree.find(f"lib/modules/{version}"))
    have, builtin = kernel_modules(folder)
    staged = os.path.join(work, "modules")
    shutil.rmtree(staged, ignore_errors=True)
    missing: list[str] = []
    done: set[str] = set()
    todo = list(requested)
    while todo:
        name = todo.pop().replace("-", "_")
        if name in done or name in builtin:
            continue
        if name not in have:
            missing.append(name)
            continue
        done.add(name)
        data = without_signature(read_module(have[name]))
        needs = re.search(rb"\0depends=([^\0]*)\0", data)
        todo += [need for need in needs.group(1).decode().split(",") if need] if needs else []
        path = os.path.join(
            "lib/modules",
            version,
            re.sub(r"\.ko\.\w+$", ".ko", os.path.relpath(have[name], folder)),
        )
        archive.add(path, data)
        os.makedirs(os.path.dirname(os.path.join(staged, path)), exist_ok=True)
        with open(os.path.join(staged, path), "wb") as file:
            file.write(data)
    add_module_index(archive, tree, version, staged)
    return sorted(missing)


def add_module_index(archive: Archive, tree: Tree, version: str, staged: str) -> None:
    """Add the index of the modules.

    The kernel package creates it at its installation. busybox creates the files that its own
    modprobe reads.
    """
    index = os.path.join(staged, "lib/modules", version)
    subprocess.run(
        [os.path.join(tree.root, tree.find("bin/busybox")), "depmod", "-b", staged, version],
        check=True,
    )
    for name in sorted(os.listdir(index)):
        if os.path.isfile(os.path.join(index, name)):
            with open(os.path.join(index, name), "rb") as file:
                lines = sorted(file.read().splitlines(keepends=True))
            archive.add(os.path.join("lib/modules", version, name), b"".join(lines))


def add_program(archive: Archive, tree: Tree, path: str) -> None:
    """Add a program and its shared libraries."""
    archive.add(path, tree.read(path), 0o755)
    for library in tree.libraries(path):
        archive.add(library, tree.read(library), 0o755)


def add_data(archive: Archive, tree: Tree, pattern: str, skip: str | None = None) -> None:
    """Add files that match a pattern of KINDS, without the paths that match skip."""
    found: list[str] = next(
        filter(None, (tree.glob(path.rstrip("/")) for path in pattern.lstrip("?").split("|"))), []
    )
    if not found and not pattern.startswith("?"):
        raise BuildError(f"the packages have no file {pattern}")
    for path in found:
        full = os.path.join(tree.root, path)
        for parent, _folders, names in (
            os.walk(full)
            if os.path.isdir(full)
            else [(os.path.dirname(full), [], [os.path.basename(full)])]
        ):
            for name in names:
                member = os.path.relpath(os.path.join(parent, name), tree.root)
                if skip and re.search(skip, member):
                    continue
                archive.add(member, tree.read(member))


def is_program(tree: Tree, path: str) -> bool:
    """Return whether a file is an ELF file."""
    with open(os.path.join(tree.root, path), "rb") as file:
        return file.read(4) == b"\x7fELF"


def add_folders(archive: Archive) -> None:
    """Add the folders, and the device node of the console."""
    for name in ("bin", "sbin", "lib", "lib64"):
        archive.folder("usr/" + name)
        archive.entries[name] = (stat.S_IFLNK | 0o777, b"usr/" + name.encode(), (0, 0))
    for name in (
        "proc",
        "sys",
        "dev",
        "run",
        "config",
        "mnt",
        "etc/frr",
        "var/log",
        "var/lib",
        "var/tmp",
    ):
        archive.folder(name)
    archive.folder("root", 0o700)
    archive.folder("tmp", 0o1777)
    archive.link("var/run", "/run")
    # The kernel opens the console of the first process with this node, before any mount.
    archive.add("dev/console", mode=0o600, kind=stat.S_IFCHR, device=(5, 1))


def add_busybox(archive: Archive, tree: Tree) -> None:
    """Add busybox and the links to its applets."""
    busybox = tree.find("bin/busybox")
    archive.add("bin/busybox", tree.read(busybox), 0o755)
    applets = subprocess.run(
        [os.path.join(tree.root, busybox), "--list-full"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for applet in applets:
        path = re.sub("^linuxrc$", "sbin/linuxrc", applet)
        if os.path.basename(path) != "busybox":
            archive.link(path, "/usr/bin/busybox")
    archive.link("init", "/usr/bin/busybox")


def add_programs(archive: Archive, tree: Tree, patterns: list[str]) -> None:
    """Add the programs of a kind."""
    for pattern in patterns:
        for path in [name for name in tree.glob(pattern) if is_program(tree, name)] or [
            tree.find(pattern)
        ]:
            # A program of a package replaces the applet of the same name in any folder.
            for applet in [
                name
                for name in archive.entries
                if name.startswith("usr/") and os.path.basename(name) == os.path.basename(path)
            ]:
                del archive.entries[applet]
            add_program(archive, tree, path)
    if "usr/bin/bash" in archive.entries:
        # The shell of busybox prefers its applets to programs of the same name. The boot scripts
        # still use it, because it is fast.
        archive.link("bin/sh", "/usr/bin/bash")


def build_initramfs(
    kind: str, tree: Tree, kernel_version: str, work: str
) -> tuple[Archive, list[str]]:
    """Return the initramfs of a kind, and the modules that the kernel does not have."""
    recipe = KINDS[kind]
    archive = Archive()
    add_folders(archive)
    add_busybox(archive, tree)
    add_programs(archive, tree, recipe["programs"])
    for pattern in recipe["data"]:
        add_data(archive, tree, pattern, recipe.get("skip"))
    for path, target in recipe.get("links", {}).items():
        archive.link(path, os.path.basename(tree.find(os.path.join(os.path.dirname(path), target))))
    missing = add_modules(archive, tree, kernel_version, recipe["modules"], work)

    archive.add(
        "etc/passwd",
        "\n".join(["root:x:0:0:root:/root:/bin/sh"] + recipe["passwd"] + [""]).encode(),
    )
    archive.add("etc/group", "\n".join(["root:x:0:"] + recipe["group"] + [""]).encode())
    for source, path in GUEST_FILES.items():
        with open(os.path.join(HERE, "guest", source.format(kind=kind)), "rb") as file:
            is_script = path.startswith(SCRIPTS)
            archive.add(
                path, (SHEBANG if is_script else b"") + file.read(), 0o755 if is_script else 0o644
            )
    for name in ("shutdown", "poweroff", "halt", "reboot"):
        archive.link("sbin/" + name, "/usr/lib/vlab/power")
    return archive, missing


# busybox of the guest runs them, so the files here have no interpreter line.
SCRIPTS = ("lib/vlab/", "etc/acpi/")
SHEBANG = b"#!/usr/bin/busybox sh\n"
GUEST_FILES = {
    "boot": "lib/vlab/boot",
    "functions": "lib/vlab/functions",
    "hotplug": "lib/vlab/hotplug",
    "power": "lib/vlab/power",
    "power-button": "etc/acpi/PWRF/00000080",
    "services-{kind}": "lib/vlab/services",
    "inittab": "etc/inittab",
    "profile": "etc/profile",
    "pam": "etc/pam.d/frr",
    "inputrc": "etc/inputrc",
}


def package_version(tree: Tree, package: str) -> str | None:
    """Return the version of a package, from its changelog."""
    for name in ("changelog.Debian.gz", "changelog.gz"):
        for path in tree.glob(f"usr/share/doc/{package}/{name}"):
            found = re.match(rb"\S+ \(([^)]+)\)", gzip.decompress(tree.read(path)))
            if found:
                return found.group(1).decode()
    return None


def compress(data: bytes) -> bytes:
    """Compress an archive.

    Compared with gzip, lz4 and no compression, zstd results in the smallest file and the fastest
    boot under emulation. With several threads, the bytes would depend on their number.
    """
    return subprocess.run(
        ["zstd", "-9", "-T1", "-cq"], input=data, stdout=subprocess.PIPE, check=True
    ).stdout


def memory_for(unpacked: int) -> int:
    """Return the MiB that a guest needs to boot an initramfs of this size in bytes.

    The kernel limits the initramfs to half of the memory (tmpfs, see
    Documentation/filesystems/ramfs-rootfs-initramfs.rst), and needs some memory itself.
    """
    return int(-(-(64 + 2.2 * unpacked / (1 << 20)) // 16) * 16)


def write_file(path: str, data: bytes) -> None:
    """Write a file atomically, for readers and for concurrent builds."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def build(args: argparse.Namespace) -> None:
    """Build the images."""
    os.makedirs(args.output, mode=0o755, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=args.output) as work:
        kernel_package = args.kernel_package or default_kernel_package()
        packages = {kernel_package}.union(*(KINDS[kind]["packages"] for kind in args.kinds))
        tree = Tree(os.path.join(work, "tree"))
        suite = args.suite or release("VERSION_CODENAME")
        if not suite:
            raise BuildError("/etc/os-release has no VERSION_CODENAME: set --suite to the release")
        unpack_packages(tree.root, packages, suite, args.source)
        kernel = tree.find("boot/vmlinuz-*")
        version = os.path.basename(kernel)[len("vmlinuz-") :]
        vmlinuz = tree.read(kernel)
        for kind in args.kinds:
            archive, missing = build_initramfs(kind, tree, version, work)
            unpacked = archive.pack()
            initrd = compress(unpacked)
            prefix = os.path.join(args.output, f"{kind}-{args.key}")
            write_file(os.path.join(args.output, f"vmlinuz-{kind}-{args.key}"), vmlinuz)
            write_file(prefix + ".initrd", initrd)
            manifest = {
                "kind": kind,
                "key": args.key,
                "suite": suite,
                "kernel": version,
                "packages": {
                    name: package_version(tree, name)
                    for name in sorted(set(KINDS[kind]["packages"]) | {kernel_package})
                },
                "kernel_sha256": hashlib.sha256(vmlinuz).hexdigest(),
                "initrd_sha256": hashlib.sha256(initrd).hexdigest(),
                "initrd_unpacked": len(unpacked),
                "memory": memory_for(len(unpacked)),
                "modules_not_in_kernel": missing,
            }
            write_file(
                prefix + ".json", (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
            )


def main() -> None:
    """Parse the command line and build the images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="+", choices=sorted(KINDS), help="kinds of images to build")
    parser.add_argument("--output", required=True, help="folder for the files")
    parser.add_argument("--key", required=True, help="key in the file names")
    parser.add_argument(
        "--kernel-package", default="", help="if empty, the kernel for virtual machines"
    )
    parser.add_argument(
        "--suite", default="", help="release of the packages; if empty, that of this host"
    )
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        help="apt source, as a file or a line; if none, those of this host",
    )
    try:
        build(parser.parse_args())
    except (BuildError, subprocess.CalledProcessError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
