# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several hypervisors on one machine, each a Debian release of its own.

A hypervisor is a tree made by mmdebstrap, under an overlay that is thrown away,
in namespaces of its own, with an sshd. A bridge in one more network namespace
joins them. The machine's own network namespace gets no link, address or port.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid

from layout import (
    CACHE,
    CHECKOUT,
    HERE,
    HOSTS,
    HYPERVISORS,
    IMAGES,
    INVENTORY,
    MACHINE_LOCK,
    NETNS,
    NETWORK,
    NETWORK6,
    RUNTIME,
    SSH,
    SSH_CONFIG,
    SWITCH,
    WARM,
    Failure,
    address,
    address6,
    call,
    locked,
    say,
)
from trees import build_tree, need_tools, prune, tree_path

SSHD_CONFIG = """\
ListenAddress {address}
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
AcceptEnv LANG LC_*
MaxSessions 64
MaxStartups 64
Subsystem sftp /usr/lib/openssh/sftp-server
"""


# --- Processes ---


def boot_id():
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def start_time(pid):
    """When a process started, in clock ticks; None when it is gone or a zombie."""
    try:
        fields = (
            pathlib.Path("/proc/%d/stat" % pid)
            .read_text(encoding="utf-8")
            .rpartition(")")[2]
            .split()
        )
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def state(name):
    """What was written down about a hypervisor when it was started."""
    try:
        return json.loads((RUNTIME / (name + ".json")).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def refuse_others():
    """There is one test bed on a machine. One whose processes are gone is no more, whoever made it: `stop` takes away what it left."""
    for name in HYPERVISORS:
        was = state(name)
        if alive(name) and was["checkout"] != str(CHECKOUT):
            raise Failure("the test bed of another checkout is up: %s" % was["checkout"])


def write_state(name, values):
    path = RUNTIME / (name + ".json")
    path.with_suffix(".new").write_text(json.dumps(values), encoding="utf-8")
    path.with_suffix(".new").rename(path)


def alive(name):
    was = state(name)
    return bool(
        was
        and was.get("pid")
        and was["boot_id"] == boot_id()
        and start_time(was["pid"]) == was["start_time"]
    )


def init_pid(name):
    """Process 1 of a hypervisor as the machine numbers it: the only child of the process started here."""
    pid = state(name)["pid"]
    children = (
        pathlib.Path("/proc/%d/task/%d/children" % (pid, pid)).read_text(encoding="utf-8").split()
    )
    return int(children[0]) if children else None


def inhabitants(namespace):
    """The processes in a named network namespace."""
    try:
        wanted = os.stat(NETNS / namespace)
    except FileNotFoundError:
        return []
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            here = os.stat(entry / "ns" / "net")
            if (here.st_dev, here.st_ino) == (wanted.st_dev, wanted.st_ino):
                found.append(int(entry.name))
    return found


def running_qemu(name):
    """The QEMU processes of a hypervisor, as the machine numbers them."""
    found = set()
    for pid in inhabitants("vlab-" + name):
        with contextlib.suppress(OSError):
            if (
                pathlib.Path("/proc/%d/comm" % pid)
                .read_text(encoding="utf-8")
                .startswith("qemu-system")
            ):
                found.add(pid)
    return found


def wait(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


# --- cgroups ---


def make_cgroups(name):
    """A group of its own for a hypervisor in every hierarchy, below the one this process is in."""
    mine = {}
    for line in pathlib.Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        number_, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            mine[controller] = path
    made = []
    for line in pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        what_, where, kind, options = line.split()[:4]
        if kind not in ("cgroup", "cgroup2"):
            continue
        names = [""] if kind == "cgroup2" else options.split(",")
        above = next((mine[key] for key in names if key in mine), None)
        parent = pathlib.Path(where + (above or ""))
        group = parent / ("vlab-" + name)
        if above is None or str(group) in made:
            continue
        try:
            group.mkdir(exist_ok=True)
            # An empty cpuset takes no process.
            for key in ("cpuset.cpus", "cpuset.mems"):
                if kind == "cgroup" and (group / key).exists():
                    (group / key).write_text(
                        (parent / key).read_text(encoding="utf-8"), encoding="utf-8"
                    )
        except OSError:
            continue
        made.append(str(group))
    return made


def remove_cgroups(groups):
    for group in groups:
        for folder, below_, files_ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


# --- Network ---


def up_switch():
    if (NETNS / SWITCH).exists():
        return
    call("ip", "netns", "add", SWITCH)
    call("ip", "-n", SWITCH, "link", "set", "lo", "up")
    call("ip", "-n", SWITCH, "link", "add", "br0", "type", "bridge")
    call("ip", "-n", SWITCH, "address", "add", NETWORK + "1/24", "dev", "br0")
    call("ip", "-n", SWITCH, "address", "add", NETWORK6 + "1/64", "dev", "br0", "nodad")
    call("ip", "-n", SWITCH, "link", "set", "br0", "up")
    # The hypervisors have a default route, as hosts do; what takes it is told at once that it leads nowhere.
    call("ip", "-n", SWITCH, "route", "add", "unreachable", "default")
    call(
        "nsenter",
        "--net=%s" % (NETNS / SWITCH),
        "sh",
        "-c",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
    )


def up_network(name):
    """A network namespace with one card, plugged into the switch."""
    namespace = "vlab-" + name
    call("ip", "netns", "add", namespace)
    # Both ends are made where they belong: the machine itself never sees a link. The MAC stays the
    # same over a reboot, or the neighbours would go on for seconds with the old one.
    mac = "02:57:1a:b0:00:%02x" % HYPERVISORS[name].number
    call(
        "ip",
        "link",
        "add",
        "eth0",
        "netns",
        namespace,
        "address",
        mac,
        "type",
        "veth",
        "peer",
        "name",
        name,
        "netns",
        SWITCH,
    )
    call("ip", "-n", SWITCH, "link", "set", name, "master", "br0", "up")
    call("ip", "-n", namespace, "link", "set", "lo", "up")
    call("ip", "-n", namespace, "address", "add", address(name) + "/24", "dev", "eth0")
    call("ip", "-n", namespace, "address", "add", address6(name) + "/64", "dev", "eth0", "nodad")
    call("ip", "-n", namespace, "link", "set", "eth0", "up")
    call("ip", "-n", namespace, "route", "add", "default", "via", NETWORK + "1")


# --- SSH ---


def write_if_new(path, text):
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def up_ssh(images):
    """Keys, known hosts, a configuration for ssh, and the inventory."""
    CACHE.mkdir(parents=True, exist_ok=True)
    write_if_new(CACHE / ".gitignore", "*\n")
    for folder in (SSH, RUNTIME, RUNTIME / "cp"):
        folder.mkdir(mode=0o700, exist_ok=True)
    for key in ("id", "host"):
        if not (SSH / key).exists():
            call(
                "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "testbed", "-f", str(SSH / key)
            )
    public = " ".join((SSH / "host.pub").read_text(encoding="utf-8").split()[:2])
    write_if_new(
        SSH / "known_hosts", "".join("%s %s\n" % (address(name), public) for name in HYPERVISORS)
    )

    lines = []
    for name in HYPERVISORS:
        lines += ["Host %s" % name, "  HostName %s" % address(name)]
    proxy = [
        "nsenter",
        "--net=%s" % (NETNS / SWITCH),
        sys.executable,
        "-I",
        "-S",
        str(HERE / "fdpass.py"),
    ]
    lines += [
        "Host *",
        "  User root",
        '  IdentityFile "%s"' % (SSH / "id"),
        "  IdentitiesOnly yes",
        '  UserKnownHostsFile "%s"' % (SSH / "known_hosts"),
        "  StrictHostKeyChecking yes",
        "  BatchMode yes",
        "  LogLevel ERROR",
        "  ProxyUseFdpass yes",
        "  ProxyCommand %s %%h %%p" % shlex.join(proxy),
    ]
    write_if_new(SSH_CONFIG, "\n".join(lines) + "\n")

    hosts = "".join(
        '        %s: {ansible_host: %s, testbed_qemu: "%s"}\n' % (name, address(name), me.qemu)
        for name, me in HYPERVISORS.items()
    )
    variables = {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_pipelining": True,
        "ansible_control_path_dir": str(RUNTIME / "cp"),
        "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=60s",
        "ansible_ssh_common_args": "-F " + shlex.quote(str(SSH_CONFIG)),
        "testbed_images": images,
    }
    write_if_new(
        INVENTORY,
        "---\nall:\n  children:\n    testbed:\n      hosts:\n%s      vars:\n%s"
        % (
            hosts,
            "".join(
                "        %s: %s\n" % (key, json.dumps(value)) for key, value in variables.items()
            ),
        ),
    )


# --- Hypervisors ---


def fresh_overlay(name):
    """The empty upper layer, with what makes a tree this hypervisor."""
    folder = HOSTS / name
    shutil.rmtree(folder, ignore_errors=True)
    upper = folder / "upper"
    for path, mode in (
        ("", 0o755),
        ("etc", 0o755),
        ("etc/ssh", 0o755),
        ("root", 0o700),
        ("root/.ssh", 0o700),
    ):
        (upper / path).mkdir(parents=True, exist_ok=True)
        (upper / path).chmod(mode)
    hosts = "".join(
        "%s %s\n%s %s\n" % (address(other), other, address6(other), other) for other in HYPERVISORS
    )
    files = {
        "etc/hostname": name + "\n",
        "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n" + hosts,
        "etc/resolv.conf": "# no name server\n",
        "etc/machine-id": uuid.uuid4().hex + "\n",
        "etc/ssh/sshd_config": SSHD_CONFIG.format(address=address(name)),
        "root/.ssh/authorized_keys": (SSH / "id.pub").read_text(encoding="utf-8"),
    }
    for path, text in files.items():
        (upper / path).write_text(text, encoding="utf-8")
    shutil.copy(SSH / "host", upper / "etc/ssh/ssh_host_ed25519_key")
    warm = upper / "opt/vlab-warm"
    warm.mkdir(parents=True)
    for path in ("python", "warm_python.py"):
        shutil.copy(WARM / path, warm)


def start(name, images, keep=False):
    """Boot a hypervisor; with `keep`, on the disk it had."""
    tree = tree_path(name)
    folder = HOSTS / name
    if not keep:
        fresh_overlay(name)
    for path in ("work", "root"):
        (folder / path).mkdir(exist_ok=True)
    made = {
        "checkout": str(CHECKOUT),
        "tree": str(tree),
        "images": images,
        "cgroups": make_cgroups(name),
        "boot_id": boot_id(),
    }
    # Written before and after: whatever happens in between, `stop` knows what to take away.
    write_state(name, made)
    up_network(name)
    argv = [str(HERE / "boot"), "outside", name, str(folder), str(tree), images, *made["cgroups"]]
    with open(folder / "log", "a", encoding="utf-8") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
        )
    write_state(name, dict(made, pid=process.pid, start_time=start_time(process.pid)))
    return process


def listens(name):
    """Whether sshd of a hypervisor listens: asked from the kernel, since a try would cost it a fork."""
    try:
        text = pathlib.Path("/proc/%d/net/tcp" % init_pid(name)).read_text(encoding="utf-8")
    except (OSError, TypeError):
        return False
    return any(
        line.split()[1].endswith(":0016") and line.split()[3] == "0A"
        for line in text.splitlines()[1:]
    )


def stop(name, keep=False):
    """End a hypervisor with all in it, and take away what was made for it."""
    was = state(name)
    namespace = "vlab-" + name
    if was:
        if alive(name):
            # When process 1 of a PID namespace dies, the kernel ends the rest of it.
            os.kill(init_pid(name) or was["pid"], signal.SIGKILL)
        if not wait(lambda: not alive(name) and not inhabitants(namespace), 10):
            raise Failure("%s: processes that do not end: %s" % (name, inhabitants(namespace)))
        remove_cgroups(was["cgroups"])
        if (NETNS / namespace).exists():
            call("ip", "netns", "delete", namespace)
        (RUNTIME / (name + ".json")).unlink()
    if not keep:
        shutil.rmtree(HOSTS / name, ignore_errors=True)


def close_masters():
    """End the ssh processes that keep a connection to a hypervisor open."""
    for path in (RUNTIME / "cp").glob("*"):
        subprocess.run(
            ["ssh", "-o", "ControlPath=%s" % path, "-O", "exit", "testbed"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        path.unlink(missing_ok=True)


def leftovers():
    """What of the test bed is still on the machine: empty after `down`."""
    found = ["namespace %s" % path.name for path in NETNS.glob("vlab-*")]
    found += [
        "process %d in %s" % (pid, path.name)
        for path in NETNS.glob("vlab-*")
        for pid in inhabitants(path.name)
    ]
    text = pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    found += ["mount %s" % line.split()[4] for line in text.splitlines() if str(CACHE) in line]
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            argv = (entry / "cmdline").read_bytes().split(b"\0")
            if any(arg.startswith((str(HOSTS).encode(), str(RUNTIME).encode())) for arg in argv):
                found.append(
                    "process %s: %s" % (entry.name, b" ".join(argv).decode(errors="replace")[:100])
                )
    for link in json.loads(call("ip", "-json", "link")):
        if link["ifname"] in HYPERVISORS or link["ifname"].startswith("vlab-"):
            found.append("link %s" % link["ifname"])
    groups = pathlib.Path("/sys/fs/cgroup")
    found += ["cgroup %s" % path for name in HYPERVISORS for path in groups.glob("**/vlab-" + name)]
    found += [str(path) for path in (RUNTIME, HOSTS) if path.exists()]
    return found


# --- Commands ---


def build(names):
    """Build the trees that are not there."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(build_tree, names))


def up(names, images=None):
    """Bring hypervisors up; those that are up are left alone. Returns the names it started."""
    need_tools()
    images = str(pathlib.Path(images or os.environ.get("VLAB_TESTBED_IMAGES") or IMAGES).resolve())
    # Minutes at first, in which another checkout may come and go.
    build(names)
    with locked(MACHINE_LOCK):
        refuse_others()
        up_ssh(images)
        down_now = [name for name in names if not alive(name)]
        for name in set(names) - set(down_now):
            if state(name)["tree"] != str(tree_path(name)):
                say(
                    "%s: runs a tree of an older recipe; `down` and `up` give it the new one" % name
                )
        pathlib.Path(images).mkdir(parents=True, exist_ok=True)
        up_switch()
        processes = {}
        for name in down_now:
            stop(name)
            processes[name] = start(name, images)
        wait_for(processes)
        prune(
            {tree_path(name).name for name in HYPERVISORS}
            | {pathlib.Path(state(name)["tree"]).name for name in HYPERVISORS if state(name)}
        )
    return down_now


def wait_for(processes):
    for name, process in processes.items():
        if (
            not wait(
                lambda name=name, process=process: process.poll() is not None or listens(name), 20
            )
            or process.poll() is not None
        ):
            log = (HOSTS / name / "log").read_text(encoding="utf-8", errors="replace")
            raise Failure("%s: did not come up\n%s" % (name, log.strip()[-2000:]))


def down(names):
    with locked(MACHINE_LOCK):
        refuse_others()
        if sorted(names) == sorted(HYPERVISORS):
            close_masters()
        for name in names:
            stop(name)
        if not any(map(state, HYPERVISORS)):
            close_masters()
            if (NETNS / SWITCH).exists():
                call("ip", "netns", "delete", SWITCH)
            shutil.rmtree(HOSTS, ignore_errors=True)
            shutil.rmtree(RUNTIME, ignore_errors=True)
            # ssh ends by itself once its hypervisor is gone.
            wait(lambda: not leftovers(), 3)
            left = leftovers()
            if left:
                raise Failure("still there:\n  " + "\n  ".join(left))


def reboot(name):
    """What a power cut does to a hypervisor: its processes and /run go, its disk stays."""
    with locked(MACHINE_LOCK):
        if not alive(name):
            raise Failure("%s is not up" % name)
        images = state(name)["images"]
        stop(name, keep=True)
        wait_for({name: start(name, images, keep=True)})


def status():
    all_up = True
    for name, me in HYPERVISORS.items():
        if alive(name):
            print(
                "%s  up    %-9s %s  process %d, %d running QEMU"
                % (name, me.release, address(name), init_pid(name), len(running_qemu(name)))
            )
        else:
            all_up = False
            print(
                "%s  down  %-9s %s"
                % (name, me.release, "tree built" if tree_path(name).exists() else "no tree")
            )
    return all_up


def main():
    parser = argparse.ArgumentParser(
        prog="testbed", description="Several hypervisors on one machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command, text in (
        ("up", "start hypervisors, building their trees first when needed"),
        ("down", "end hypervisors and remove all that was made for them"),
        ("reboot", "start hypervisors again after a power cut; their disks stay"),
    ):
        sub = commands.add_parser(command, help=text)
        sub.add_argument("names", nargs="*", metavar="NAME", help=", ".join(HYPERVISORS))
        if command == "up":
            sub.add_argument(
                "--images",
                help="folder of guest images, seen read-only by all (default %s)" % IMAGES,
            )
    commands.add_parser("build", help="build the trees only")
    commands.add_parser("status", help="what is up; exit code 1 when not all is")
    commands.add_parser("inventory", help="print the inventory")
    sub = commands.add_parser("exec", help="run a command on a hypervisor over SSH")
    sub.add_argument("name", choices=list(HYPERVISORS))
    sub.add_argument("argv", nargs=argparse.REMAINDER, metavar="CMD")
    args = parser.parse_args()

    names = getattr(args, "names", None) or list(HYPERVISORS)
    unknown = [name for name in names if name not in HYPERVISORS]
    if unknown:
        parser.error(
            "no hypervisor %s; there are %s" % (", ".join(unknown), ", ".join(HYPERVISORS))
        )
    if args.command == "up":
        up(names, args.images)
        status()
    elif args.command == "build":
        need_tools()
        build(names)
    elif args.command == "down":
        down(names)
    elif args.command == "reboot":
        for name in names:
            reboot(name)
    elif args.command == "status":
        return 0 if status() else 1
    elif args.command == "inventory":
        if not INVENTORY.exists():
            raise Failure("there is no inventory before the first `up`")
        print(INVENTORY.read_text(encoding="utf-8"), end="")
    elif args.command == "exec":
        # One word is a shell's line, several are a command and its arguments.
        command = args.argv if len(args.argv) < 2 else [shlex.join(args.argv)]
        os.execvp("ssh", ["ssh", "-F", str(SSH_CONFIG), args.name, "--", *command])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit("testbed: %s" % failure)
