# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the kernel and the initramfs of small guests from the distribution's packages.

The packages are fetched and unpacked by mmdebstrap with this host's own apt sources. None of their scripts is run, and
only the files a guest needs go into its initramfs. Every entry of the archive has a fixed owner, time and place, so
the same package versions give the same bytes.

For each kind three files are written to the output folder, each whole or not at all:

    vmlinuz-KIND-KEY    the kernel
    KIND-KEY.initrd     the initramfs
    KIND-KEY.json       what they were made of; written last, so its presence means that the build is complete
"""

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
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))

# A module that the kernel has built in, or does not have, is passed over. All are loaded on demand.
MODULES = """
    virtio_pci virtio_net virtio_blk virtio_scsi virtio_console virtio-rng virtio_balloon virtio_input
    e1000 e1000e igb igbvf 8139cp 8139too pcnet32 ne2k-pci tulip sungem vmxnet3
    ata_piix ahci sd_mod sr_mod sg nvme floppy sym53c8xx mptspi mptsas megaraid_sas vmw_pvscsi am53c974 sdhci-pci mmc_block
    xhci-pci ehci-pci uhci-hcd ohci-pci usb-storage uas usbhid hid-generic
    isofs vfat nls_utf8 nls_cp437 nls_ascii nls_iso8859-1 ext4 crc32c_generic
    button evdev i6300esb iTCO_wdt ib700wdt tpm_tis tpm_crb pvpanic pvpanic-pci
    8021q bridge dummy
""".split()
ROUTER_MODULES = """
    stp bonding macvlan veth vrf vxlan gre ip_gre ip6_gre ipip sit ip6_tunnel tun mpls_router mpls_iptunnel mpls_gso
    sch_netem sch_tbf sch_htb sch_ingress cls_u32 act_mirred nf_tables nft_chain_nat nft_masq
    act_police sch_fq_codel vmw_vsock_virtio_transport
""".split()

# Where ncurses-base has them up to Debian 12, and since then.
TERMINALS = [
    f"lib/terminfo/{name}|usr/share/terminfo/{name}"
    for name in ("d/dumb", "l/linux", "v/vt100", "v/vt220", "x/xterm")
]

# Folders end in "/". Of several paths with "|" between them the first that there is counts. A path that does not exist is an error
# unless it starts with "?".
KINDS = {
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
            "?lib/*/libnss_files.so.2",
            "lib/*/security/pam_permit.so",
            *TERMINALS,
        ],
        "passwd": ["frr:x:100:100::/nonexistent:/bin/false"],
        "group": ["frr:x:100:", "frrvty:x:101:frr"],
    },
    # What Ansible's modules need: Python with its whole standard library, but none of its documentation and tests.
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
            "?lib/*/libnss_files.so.2",
            *TERMINALS,
        ],
        "skip": r"/(test|tests|idlelib|lib2to3|ensurepip|turtledemo|pydoc_data|config-3[^/]*|lib-dynload)/|\.pyc$",
        "links": {"usr/bin/python3": "python3.*"},
        "passwd": [],
        "group": [],
    },
}


class BuildError(Exception):
    """Said to the user without a traceback."""


class Tree:
    """The unpacked packages. Files are found whether or not the release has /bin and /lib merged into /usr."""

    def __init__(self, root):
        self.root = root

    def glob(self, pattern):
        """Paths relative to the root that match a pattern relative to it."""
        plain = re.sub("^usr/(?=(s?bin|lib|lib64)/)", "", pattern)
        found = []
        for variant in (
            {plain, "usr/" + plain} if re.match("(s?bin|lib|lib64)/", plain) else {pattern}
        ):
            found += glob.glob(os.path.join(glob.escape(self.root), variant))
        return sorted(os.path.relpath(path, self.root) for path in found)

    def find(self, pattern):
        found = self.glob(pattern)
        if not found:
            raise BuildError(f"the packages have no file {pattern}")
        return found[0]

    def read(self, path):
        """The content of a file; a link is followed inside the tree, never out of it."""
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
        raise BuildError(f"too many links at {path}")

    def libraries(self, path):
        """The shared libraries of a program, as its own loader finds them, without running the program."""
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
    """A cpio archive (newc) whose bytes depend on its entries only."""

    def __init__(self):
        self.entries = {}

    def add(self, path, data=b"", mode=0o644, kind=stat.S_IFREG, device=(0, 0)):
        path = re.sub("^(s?bin|lib|lib64)/", r"usr/\1/", path)
        parent = os.path.dirname(path)
        if parent and parent not in self.entries:
            self.folder(parent)
        self.entries[path] = (kind | mode, data, device)

    def folder(self, path, mode=0o755):
        self.add(path, mode=mode, kind=stat.S_IFDIR)

    def link(self, path, target):
        self.add(path, target.encode(), 0o777, stat.S_IFLNK)

    def pack(self):
        out = []

        def entry(number, path, mode, data, device):
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


def unpack_packages(root, packages, suite, sources):
    """Let mmdebstrap fetch and unpack packages with the settings apt has on this host."""
    work = os.path.dirname(root)
    settings = os.path.join(work, "apt.conf")
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    # Proxies, time-outs, checks and credentials; not folders, and nothing of what apt does after an installation.
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
    with open(settings, "w", encoding="utf-8") as file:
        file.write("\n".join(kept) + "\n")
    if not sources:
        sources = sorted(
            glob.glob("/etc/apt/sources.list.d/*.list")
            + glob.glob("/etc/apt/sources.list.d/*.sources")
        )
        if os.path.exists("/etc/apt/sources.list") and os.path.getsize("/etc/apt/sources.list"):
            sources.insert(0, "/etc/apt/sources.list")
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


def release(field):
    with open("/etc/os-release", encoding="utf-8") as file:
        found = re.search(rf'^{field}="?([\w-]+)', file.read(), re.MULTILINE)
    return found.group(1) if found else ""


def default_kernel_package():
    """The kernel made for virtual machines: it is small and has few drivers to look for devices with."""
    if release("ID") == "ubuntu":
        return "linux-image-virtual"
    done = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    )
    return "linux-image-cloud-" + done.stdout.strip()


def read_module(path):
    """A kernel module, uncompressed: the guest has no time to spare and the archive is compressed as a whole."""
    with open(path, "rb") as file:
        data = file.read()
    if path.endswith(".xz"):
        return lzma.decompress(data)
    if path.endswith(".gz"):
        return gzip.decompress(data)
    if path.endswith(".zst"):
        return subprocess.run(["zstd", "-dcq", path], stdout=subprocess.PIPE, check=True).stdout
    return data


def add_modules(archive, tree, version, wanted, work):
    """Add the wanted modules and those they need. Returns the names that this kernel does not have at all."""
    folder = os.path.join(tree.root, tree.find(f"lib/modules/{version}"))
    have = {}
    for parent, _folders, names in os.walk(folder):
        for name in names:
            module = re.match(r"(.+)\.ko(\.\w+)?$", name)
            if module:
                have[module.group(1).replace("-", "_")] = os.path.join(parent, name)
    with open(os.path.join(folder, "modules.builtin"), encoding="utf-8") as file:
        builtin = {os.path.basename(line.strip())[:-3].replace("-", "_") for line in file}

    staged = os.path.join(work, "modules")
    shutil.rmtree(staged, ignore_errors=True)
    missing, done, todo = [], set(), list(wanted)
    while todo:
        name = todo.pop().replace("-", "_")
        if name in done or name in builtin:
            continue
        if name not in have:
            missing.append(name)
            continue
        done.add(name)
        data = read_module(have[name])
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

    # Debian's kernel package leaves the index to the installation. busybox makes the very files that its modprobe reads.
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
    return sorted(missing)


def add_program(archive, tree, path):
    archive.add(path, tree.read(path), 0o755)
    for library in tree.libraries(path):
        archive.add(library, tree.read(library), 0o755)


def add_data(archive, tree, pattern, skip=None):
    found = next(
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


def is_program(tree, path):
    with open(os.path.join(tree.root, path), "rb") as file:
        return file.read(4) == b"\x7fELF"


def build_initramfs(kind, tree, kernel_version, work):
    recipe = KINDS[kind]
    archive = Archive()
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
    # The kernel gives its console to the first process by this node, before anything is mounted.
    archive.add("dev/console", mode=0o600, kind=stat.S_IFCHR, device=(5, 1))

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

    for pattern in recipe["programs"]:
        for path in [name for name in tree.glob(pattern) if is_program(tree, name)] or [
            tree.find(pattern)
        ]:
            # The package's own program takes the place of the applet, wherever busybox would have put it.
            for applet in [
                name
                for name in archive.entries
                if name.startswith("usr/") and os.path.basename(name) == os.path.basename(path)
            ]:
                del archive.entries[applet]
            add_program(archive, tree, path)
    if "usr/bin/bash" in archive.entries:
        # busybox's shell prefers its own applets to the programs of the same name. The boot scripts use it all the same: it is fast.
        archive.link("bin/sh", "/usr/bin/bash")
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


# Run by the guest's busybox, so they have no first line of their own here.
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


def package_version(tree, package):
    for name in ("changelog.Debian.gz", "changelog.gz"):
        for path in tree.glob(f"usr/share/doc/{package}/{name}"):
            found = re.match(rb"\S+ \(([^)]+)\)", gzip.decompress(tree.read(path)))
            if found:
                return found.group(1).decode()
    return None


def compress(data):
    # Of gzip, lz4, zstd and nothing at all, zstd gives the smallest file and the fastest boot under emulation.
    # One thread: with more, the bytes would depend on how many.
    return subprocess.run(
        ["zstd", "-9", "-T1", "-cq"], input=data, stdout=subprocess.PIPE, check=True
    ).stdout


def memory_for(unpacked):
    """MiB that a guest needs to boot an initramfs of so many bytes.

    The kernel lets it have half of the memory (tmpfs, Documentation/filesystems/ramfs-rootfs-initramfs.rst), and needs some itself.
    """
    return -(-(64 + 2.2 * unpacked / (1 << 20)) // 16) * 16


def write_file(path, data):
    """Whole or not at all: a reader, or a second build at the same time, never sees half a file."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def build(args):
    os.makedirs(args.output, mode=0o755, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=args.output) as work:
        kernel_package = args.kernel_package or default_kernel_package()
        packages = {kernel_package}.union(*(KINDS[kind]["packages"] for kind in args.kinds))
        tree = Tree(os.path.join(work, "tree"))
        suite = args.suite or release("VERSION_CODENAME")
        if not suite:
            raise BuildError(
                "/etc/os-release has no VERSION_CODENAME: say which release to use with --suite"
            )
        unpack_packages(tree.root, packages, suite, args.source)
        kernel = tree.find("boot/vmlinuz-*")
        version = os.path.basename(kernel)[len("vmlinuz-") :]
        vmlinuz = tree.read(kernel)
        for kind in args.kinds:
            archive, missing = build_initramfs(kind, tree, version, work)
            plain = archive.pack()
            initrd = compress(plain)
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
                "initrd_unpacked": len(plain),
                "memory": int(memory_for(len(plain))),
                "modules_not_in_kernel": missing,
            }
            write_file(
                prefix + ".json", (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="+", choices=sorted(KINDS), help="what to build")
    parser.add_argument("--output", required=True, help="folder for the files")
    parser.add_argument("--key", required=True, help="goes into the files' names")
    parser.add_argument(
        "--kernel-package", default="", help="the release's kernel for virtual machines if empty"
    )
    parser.add_argument(
        "--suite", default="", help="release to take the packages from; this host's own if empty"
    )
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        help="an apt source: a file or a line; this host's own if none",
    )
    try:
        build(parser.parse_args())
    except (BuildError, subprocess.CalledProcessError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
