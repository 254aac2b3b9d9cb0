# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Find the programs on this host: QEMU binaries by guest architecture, and their tools.

No process is started.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
from typing import Iterable, Sequence

from ansible_collections.vlab.qemu.plugins.module_utils._common.errors import HostError, OptionError

# All targets of qemu-system-* up to QEMU 10.0: newer releases dropped some of older ones.
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

# Names that kernels and distributions use.
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

# Packages of Debian and Ubuntu; all other architectures are in qemu-system-misc.
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
# RHEL has qemu-kvm here. Debian has the programs here that its wrappers in /usr/bin call.
_LIBEXEC = "/usr/libexec"

_KVM_NAMES = ("qemu-kvm", "kvm")


def host_architecture() -> str:
    """Return the QEMU name of this host's architecture, such as x86_64 for amd64."""
    return normalise_architecture(platform.machine())


def normalise_architecture(name: str) -> str:
    """Return the QEMU name of an architecture: i386 for i686. Unknown names are not changed."""
    name = name.lower()
    if re.fullmatch(r"i[3-6]86", name):
        return "i386"
    if re.fullmatch(r"armv[4-8].*", name):
        return "arm"
    return _ALIASES.get(name, name)


def find_qemu(arch: str | None = None, binary: str | None = None) -> tuple[str, str]:
    """Find the QEMU binary; return (absolute path, architecture of its guests).

    arch: default: the architecture in the binary's name, or the host's.
    binary: an absolute path, or a name to find in PATH and the usual folders; default:
    qemu-system-ARCH, or qemu-kvm for the host's own architecture.
    Raises OptionError naming qemu_binary (not found, not a file, not executable) or arch (unknown,
    not installed, different from the binary's).
    """
    requested = _check_architecture(arch) if arch else None
    if not binary:
        requested = requested or _check_architecture(host_architecture())
        path = find_program("qemu-system-" + requested) or (
            _find_kvm() if requested == host_architecture() else None
        )
        if not path:
            raise OptionError(
                "arch",
                "this host has no QEMU for %s: install the package %s, or set qemu_binary"
                % (requested, package_for(requested)),
            )
        return path, requested
    path = _locate(binary)
    derived = architecture_of(path)
    result = derived or requested
    if not result:
        raise OptionError(
            "arch",
            "the name of %s does not include the architecture of its guests: give arch, one of %s"
            % (path, ", ".join(ARCHITECTURES)),
        )
    if derived and requested and derived != requested:
        raise OptionError(
            "arch",
            "%s was asked for, but %s is for %s: leave out one of arch and qemu_binary"
            % (requested, path, derived),
        )
    return path, result


def first_binary(candidates: Sequence[str]) -> str | None:
    """Return the first candidate that find_qemu can use, None without candidates.

    Raises OptionError if no candidate exists.
    """
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    problems = []
    for candidate in candidates:
        try:
            return _locate(candidate)
        except OptionError as error:
            problems.append(error.reason)
    raise OptionError("qemu_binary", "; ".join(problems))


def architecture_of(path: str) -> str | None:
    """Return the guest architecture in the name of a QEMU binary, or of the file it links to.

    None if neither name has one. qemu-system-ARCH may have a suffix, such as
    qemu-system-x86_64-microvm; qemu-kvm is for the host's architecture.
    Raises OptionError for qemu-system- with an unknown architecture.
    """
    for name in (os.path.basename(path), os.path.basename(os.path.realpath(path))):
        if name in _KVM_NAMES:
            return host_architecture()
        if name.startswith("qemu-system-"):
            rest = name[len("qemu-system-") :]
            return _check_architecture(
                rest if rest in ARCHITECTURES else re.split(r"[-.]", rest)[0]
            )
    return None


def package_for(arch: str) -> str:
    """Return the package with qemu-system-ARCH, as text for a message."""
    text = "qemu-system-%s" % _PACKAGES.get(arch, "misc")
    if arch in ("riscv32", "riscv64", "s390x"):
        text += " (qemu-system-misc before Debian 13)"
    return text + (" (qemu-kvm on RHEL)" if arch == host_architecture() else "")


def find_program(name: str) -> str | None:
    """Return the absolute path of a program in PATH or the usual folders, also sbin; or None."""
    return _first_program(os.path.join(folder, name) for folder in _folders())


def _first_program(paths: Iterable[str]) -> str | None:
    return next((path for path in paths if _is_program(path)), None)


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def find_qemu_img(qemu_path: str | None = None) -> str:
    """Return the qemu-img beside the QEMU binary (or the file it links to), else that in PATH.

    Raises HostError if it is missing.
    """
    beside = [qemu_path, os.path.realpath(qemu_path)] if qemu_path else []
    path = _first_program(os.path.join(os.path.dirname(binary), "qemu-img") for binary in beside)
    path = path or find_program("qemu-img")
    if not path:
        raise HostError(
            "this host has no qemu-img: install the package qemu-utils (Debian, Ubuntu) or "
            "qemu-img (Fedora, RHEL)"
        )
    return path


def list_binaries() -> list[tuple[str, str]]:
    """Return (absolute path, architecture) of each QEMU system emulator, in order of search."""
    found: list[tuple[str, str]] = []
    real_paths: set[str] = set()
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
            if real in real_paths or not _is_program(path):
                continue
            with contextlib.suppress(OptionError):
                architecture = architecture_of(path)
                if architecture:
                    found.append((path, architecture))
                    real_paths.add(real)
    return found


def _folders() -> list[str]:
    path = [
        folder for folder in os.environ.get("PATH", "").split(os.pathsep) if os.path.isabs(folder)
    ]
    return list(dict.fromkeys(path + list(_PROGRAM_FOLDERS)))


def _find_kvm() -> str | None:
    return _first_program([os.path.join(_LIBEXEC, "qemu-kvm")]) or find_program("qemu-kvm")


def _check_architecture(arch: str) -> str:
    name = normalise_architecture(arch)
    if name not in ARCHITECTURES:
        raise OptionError(
            "arch",
            "%s is not an architecture that QEMU supports, which are %s"
            % (arch, ", ".join(ARCHITECTURES)),
        )
    return name


def _locate(binary: str) -> str:
    """Return the absolute path of a binary that is given by path or name.

    Raises OptionError: not found, not a file, or not executable.
    """
    if os.path.isabs(binary):
        candidates = [binary]
    elif os.sep in binary:
        raise OptionError("qemu_binary", "%s is neither an absolute path nor a plain name" % binary)
    else:
        candidates = [os.path.join(folder, binary) for folder in _folders() + [_LIBEXEC]]
    problem = "%s was not found%s" % (
        binary,
        "" if os.path.isabs(binary) else ", neither in PATH nor in the usual folders",
    )
    for path in candidates:
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            problem = "%s is not executable" % path
        elif os.path.exists(path):
            problem = "%s is not a file" % path
    raise OptionError("qemu_binary", problem)
