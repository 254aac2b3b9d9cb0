# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""The programs on this host: which QEMU binary, for which guest architecture, and the tools beside it. Starts no process."""

from __future__ import annotations

import os
import platform
import re

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError

# Every target that qemu-system-* was ever built for, up to QEMU 10.0: older releases have some that newer ones dropped.
ARCHITECTURES = (
    "aarch64",
    "alpha",
    "arm",
    "avr",
    "cris",
    "hppa",
    "i386",
    "lm32",
    "loongarch64",
    "m68k",
    "microblaze",
    "microblazeel",
    "mips",
    "mips64",
    "mips64el",
    "mipsel",
    "moxie",
    "nios2",
    "or1k",
    "ppc",
    "ppc64",
    "riscv32",
    "riscv64",
    "rx",
    "s390x",
    "sh4",
    "sh4eb",
    "sparc",
    "sparc64",
    "tricore",
    "unicore32",
    "x86_64",
    "xtensa",
    "xtensaeb",
)

# What kernels and distributions call them.
_ALIASES = {
    "amd64": "x86_64",
    "x64": "x86_64",
    "x86-64": "x86_64",
    "x86": "i386",
    "arm64": "aarch64",
    "armhf": "arm",
    "parisc": "hppa",
    "ppc64le": "ppc64",
    "ppc64el": "ppc64",
    "powerpc": "ppc",
    "powerpc64": "ppc64",
    "loong64": "loongarch64",
}

# Debian's and Ubuntu's packages; whatever is not here is in qemu-system-misc.
_PACKAGES = {
    "i386": "x86",
    "x86_64": "x86",
    "aarch64": "arm",
    "arm": "arm",
    "mips": "mips",
    "mips64": "mips",
    "mips64el": "mips",
    "mipsel": "mips",
    "ppc": "ppc",
    "ppc64": "ppc",
    "sparc": "sparc",
    "sparc64": "sparc",
    "s390x": "s390x",
    "riscv32": "riscv",
    "riscv64": "riscv",
}

_PROGRAM_FOLDERS = (
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/opt/qemu/bin",
)
# RHEL keeps qemu-kvm here. Debian keeps here what its wrappers in /usr/bin call.
_LIBEXEC = "/usr/libexec"

_KVM_NAMES = ("qemu-kvm", "kvm")


def host_architecture():
    """The QEMU name of this host's architecture, such as x86_64 for amd64."""
    return normalise_architecture(platform.machine())


def normalise_architecture(name):
    """The QEMU name for what a kernel or a distribution calls an architecture: i686 is i386. Unknown names come back as they are."""
    name = name.lower()
    if re.fullmatch(r"i[3-6]86", name):
        return "i386"
    if re.fullmatch(r"armv[4-8].*", name):
        return "arm"
    return _ALIASES.get(name, name)


def find_qemu(arch=None, binary=None):
    """Find the QEMU binary; return (absolute path, architecture of its guests).

    arch: default is the architecture that the binary's name tells, or the host's. binary: an absolute path, or a name that is
    looked for in PATH and the usual folders; default is qemu-system-ARCH, or qemu-kvm for the host's own architecture.
    Raises OptionError naming qemu_binary (not found, not a file, not executable) or arch (unknown, not installed, not the binary's).
    """
    wanted = _known(arch) if arch else None
    if not binary:
        wanted = wanted or _known(host_architecture())
        path = find_program("qemu-system-" + wanted) or (
            _find_kvm() if wanted == host_architecture() else None
        )
        if not path:
            raise OptionError(
                "arch",
                "this host has no QEMU for %s: install the package %s, or name the binary by qemu_binary"
                % (wanted, package_for(wanted)),
            )
        return path, wanted
    path = _locate(binary)
    derived = architecture_of(path)
    if not derived and not wanted:
        raise OptionError(
            "arch",
            "the name of %s does not tell the architecture of its guests: give arch, one of %s"
            % (path, ", ".join(ARCHITECTURES)),
        )
    if derived and wanted and derived != wanted:
        raise OptionError(
            "arch",
            "%s was asked for, but %s is for %s: leave out one of arch and qemu_binary"
            % (wanted, path, derived),
        )
    return path, derived or wanted


def architecture_of(path):
    """The guest architecture that a QEMU binary's name tells (or the name of what it links to); None when it tells nothing.

    qemu-system-ARCH may carry an ending, such as qemu-system-x86_64-microvm; qemu-kvm is for the host's architecture.
    Raises OptionError for qemu-system- with an unknown architecture.
    """
    for name in (os.path.basename(path), os.path.basename(os.path.realpath(path))):
        if name in _KVM_NAMES:
            return host_architecture()
        if name.startswith("qemu-system-"):
            rest = name[len("qemu-system-") :]
            return _known(rest if rest in ARCHITECTURES else re.split(r"[-.]", rest)[0])
    return None


def package_for(arch):
    """The package that holds qemu-system-ARCH, as text for a message."""
    text = "qemu-system-%s" % _PACKAGES.get(arch, "misc")
    if arch in ("riscv32", "riscv64", "s390x"):
        text += " (qemu-system-misc before Debian 13)"
    return text + (" (qemu-kvm on RHEL)" if arch == host_architecture() else "")


def find_program(name):
    """The absolute path of an executable file in PATH or the usual folders, those of the administrator's programs too; or None."""
    for folder in _folders():
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def find_qemu_img(qemu_path=None):
    """The qemu-img beside the QEMU binary (or beside what that links to), else the one in PATH. Raises HostError when there is none."""
    if qemu_path:
        for folder in (os.path.dirname(qemu_path), os.path.dirname(os.path.realpath(qemu_path))):
            path = os.path.join(folder, "qemu-img")
            if os.path.isfile(path) and os.access(path, os.X_OK):
                return path
    path = find_program("qemu-img")
    if not path:
        raise HostError(
            "this host has no qemu-img: install the package qemu-utils (Debian, Ubuntu) or qemu-img (Fedora, RHEL)"
        )
    return path


def list_binaries():
    """Every QEMU system emulator on this host: a list of (absolute path, architecture), in the order they are looked for."""
    found, seen = [], set()
    for folder in _folders() + [_LIBEXEC]:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            path = os.path.join(folder, name)
            if not (name == "qemu-kvm" or name.startswith("qemu-system-") and folder != _LIBEXEC):
                continue
            real = os.path.realpath(path)
            if real in seen or not os.path.isfile(path) or not os.access(path, os.X_OK):
                continue
            try:
                found.append((path, architecture_of(path)))
            except OptionError:
                continue
            seen.add(real)
    return found


def _folders():
    path = [
        folder for folder in os.environ.get("PATH", "").split(os.pathsep) if os.path.isabs(folder)
    ]
    return list(dict.fromkeys(path + list(_PROGRAM_FOLDERS)))


def _find_kvm():
    path = os.path.join(_LIBEXEC, "qemu-kvm")
    return path if os.path.isfile(path) and os.access(path, os.X_OK) else find_program("qemu-kvm")


def _known(arch):
    name = normalise_architecture(arch)
    if name not in ARCHITECTURES:
        raise OptionError(
            "arch",
            "%s is not an architecture that QEMU knows, which are %s"
            % (arch, ", ".join(ARCHITECTURES)),
        )
    return name


def _locate(binary):
    """The absolute path of a binary given by path or name. Three different errors tell what is wrong."""
    if os.path.isabs(binary):
        places = [binary]
    elif os.sep in binary:
        raise OptionError("qemu_binary", "%s is neither an absolute path nor a plain name" % binary)
    else:
        places = [os.path.join(folder, binary) for folder in _folders() + [_LIBEXEC]]
    problem = "%s was not found%s" % (
        binary,
        "" if os.path.isabs(binary) else ", neither in PATH nor where QEMU is usually installed",
    )
    for path in places:
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            problem = "%s is not executable" % path
        elif os.path.exists(path):
            problem = "%s is not a file" % path
    raise OptionError("qemu_binary", problem)
