# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run several hypervisors on one machine, each with another Debian release.

A hypervisor is a tree built by mmdebstrap below a temporary overlay, in its own namespaces, with
an sshd. A bridge in another network namespace connects the hypervisors. The network namespace of
the machine itself gets no link, address or port.
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
import typing
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


def boot_id() -> str:
    """Return the boot ID of this machine."""
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def start_time(pid: int) -> typing.Optional[int]:
    """Return the start time of a process in clock ticks; None for a zombie or no process."""
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


def state(name: str) -> typing.Optional[dict[str, typing.Any]]:
    """Return the record that `start` wrote about a hypervisor, or None."""
    try:
        text = (RUNTIME / (name + ".json")).read_text(encoding="utf-8")
        record: dict[str, typing.Any] = json.loads(text)
        return record
    except (FileNotFoundError, ValueError):
        return None


def refuse_others() -> None:
    """Raise Failure if the test bed of another checkout is up.

    One whose processes have ended does not count: `stop` removes its remains.
    """
    for name in HYPERVISORS:
        record = state(name)
        if record and alive(name) and record["checkout"] != str(CHECKOUT):
            raise Failure("the test bed of another checkout is up: %s" % record["checkout"])


def write_state(name: str, values: dict[str, typing.Any]) -> None:
    """Write the record of a hypervisor, atomically."""
    path = RUNTIME / (name + ".json")
    path.with_suffix(".new").write_text(json.dumps(values), encoding="utf-8")
    path.with_suffix(".new").rename(path)


def alive(name: str) -> bool:
    """Return whether a hypervisor is up."""
    record = state(name)
    return bool(
        record
        and record.get("pid")
        and record["boot_id"] == boot_id()
        and start_time(record["pid"]) == record["start_time"]
    )


def init_pid(name: str) -> typing.Optional[int]:
    """Return the machine's PID of a hypervisor's process 1: the only child of `boot`."""
    record = state(name)
    if record is None:
        return None
    pid = record["pid"]
    children = (
        pathlib.Path("/proc/%d/task/%d/children" % (pid, pid)).read_text(encoding="utf-8").split()
    )
    return int(children[0]) if children else None


def processes_in(namespace: str) -> list[int]:
    """Return the PIDs of the processes in a named network namespace."""
    try:
        network = os.stat(NETNS / namespace)
    except FileNotFoundError:
        return []
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            other = os.stat(entry / "ns" / "net")
            if (other.st_dev, other.st_ino) == (network.st_dev, network.st_ino):
                found.append(int(entry.name))
    return found


def running_qemu(name: str) -> set[int]:
    """Return the machine's PIDs of a hypervisor's QEMU processes."""
    found = set()
    for pid in processes_in("vlab-" + name):
        with contextlib.suppress(OSError):
            command = pathlib.Path("/proc/%d/comm" % pid).read_text(encoding="utf-8")
            if command.startswith("qemu-system"):
                found.add(pid)
    return found


def wait(condition: typing.Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds; return False at the timeout."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


# --- cgroups ---


def own_cgroups() -> dict[str, str]:
    """Return the cgroup of this process for each controller."""
    found = {}
    for line in pathlib.Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _number, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def make_cgroups(name: str) -> list[str]:
    """Create a cgroup for a hypervisor in every hierarchy, below that of this process."""
    own = own_cgroups()
    made: list[str] = []
    for line in pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _device, where, kind, options = line.split()[:4]
        if kind not in ("cgroup", "cgroup2"):
            continue
        names = [""] if kind == "cgroup2" else options.split(",")
        above = next((own[key] for key in names if key in own), None)
        parent = pathlib.Path(where + (above or ""))
        group = parent / ("vlab-" + name)
        if above is None or str(group) in made:
            continue
        try:
            group.mkdir(exist_ok=True)
            # A cpuset without CPUs and memory nodes does not accept processes.
            for key in ("cpuset.cpus", "cpuset.mems"):
                if kind == "cgroup" and (group / key).exists():
                    (group / key).write_text(
                        (parent / key).read_text(encoding="utf-8"), encoding="utf-8"
                    )
        except OSError:
            continue
        made.append(str(group))
    return made


def remove_cgroups(groups: list[str]) -> None:
    """Remove cgroups and those below them."""
    for group in groups:
        for folder, _folders, _files in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


# --- Network ---


def up_switch() -> None:
    """Create the network namespace with the bridge, if it does not exist."""
    if (NETNS / SWITCH).exists():
        return
    call("ip", "netns", "add", SWITCH)
    call("ip", "-n", SWITCH, "link", "set", "lo", "up")
    call("ip", "-n", SWITCH, "link", "add", "br0", "type", "bridge")
    call("ip", "-n", SWITCH, "address", "add", NETWORK + "1/24", "dev", "br0")
    call("ip", "-n", SWITCH, "address", "add", NETWORK6 + "1/64", "dev", "br0", "nodad")
    call("ip", "-n", SWITCH, "link", "set", "br0", "up")
    # The hypervisors have a default route, as hosts do. It leads here, where every packet is
    # rejected at once.
    call("ip", "-n", SWITCH, "route", "add", "unreachable", "default")
    enter = ("nsenter", "--net=%s" % (NETNS / SWITCH))
    call(*enter, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")


def up_network(name: str) -> None:
    """Create a network namespace with one NIC that is connected to the switch."""
    namespace = "vlab-" + name
    call("ip", "netns", "add", namespace)
    # Both ends are created in their namespaces: the machine itself never has a link. The MAC stays
    # the same after a reboot, because the neighbours keep the old one for seconds.
    mac = "02:57:1a:b0:00:%02x" % HYPERVISORS[name].number
    peer = ("peer", "name", name, "netns", SWITCH)
    # After a reboot, the kernel removes the link of the former namespace some time later.
    with contextlib.suppress(Failure):
        call("ip", "-n", SWITCH, "link", "delete", name)
    call("ip", "link", "add", "eth0", "netns", namespace, "address", mac, "type", "veth", *peer)
    call("ip", "-n", SWITCH, "link", "set", name, "master", "br0", "up")
    call("ip", "-n", namespace, "link", "set", "lo", "up")
    call("ip", "-n", namespace, "address", "add", address(name) + "/24", "dev", "eth0")
    call("ip", "-n", namespace, "address", "add", address6(name) + "/64", "dev", "eth0", "nodad")
    call("ip", "-n", namespace, "link", "set", "eth0", "up")
    call("ip", "-n", namespace, "route", "add", "default", "via", NETWORK + "1")


# --- SSH ---


def write_if_changed(path: pathlib.Path, text: str) -> None:
    """Write a file unless it has this text."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def up_ssh(images: str) -> None:
    """Write the keys, the known hosts, the ssh configuration and the inventory."""
    CACHE.mkdir(parents=True, exist_ok=True)
    write_if_changed(CACHE / ".gitignore", "*\n")
    for folder in (SSH, RUNTIME, RUNTIME / "cp"):
        folder.mkdir(mode=0o700, exist_ok=True)
    for key in ("id", "host"):
        if not (SSH / key).exists():
            options = ("-q", "-t", "ed25519", "-N", "", "-C", "testbed")
            call("ssh-keygen", *options, "-f", str(SSH / key))
    public = " ".join((SSH / "host.pub").read_text(encoding="utf-8").split()[:2])
    known = "".join("%s %s\n" % (address(name), public) for name in HYPERVISORS)
    write_if_changed(SSH / "known_hosts", known)
    write_if_changed(SSH_CONFIG, ssh_config())
    write_if_changed(INVENTORY, inventory(images))


def ssh_config() -> str:
    """Return the ssh configuration."""
    lines = []
    for name in HYPERVISORS:
        lines += ["Host %s" % name, "  HostName %s" % address(name)]
    enter = ["nsenter", "--net=%s" % (NETNS / SWITCH)]
    proxy = [*enter, sys.executable, "-I", "-S", str(HERE / "fdpass.py")]
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
    return "\n".join(lines) + "\n"


def inventory(images: str) -> str:
    """Return the inventory."""
    hosts = "".join(
        '        %s: {ansible_host: %s, testbed_qemu: "%s"}\n'
        % (name, address(name), hypervisor.qemu)
        for name, hypervisor in HYPERVISORS.items()
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
    lines = "".join(
        "        %s: %s\n" % (key, json.dumps(value)) for key, value in variables.items()
    )
    head = "---\nall:\n  children:\n    testbed:\n      hosts:\n"
    return head + hosts + "      vars:\n" + lines


# --- Hypervisors ---


def make_overlay(name: str) -> None:
    """Create the upper layer of a hypervisor with its own files only."""
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


def start(name: str, images: str, keep: bool = False) -> subprocess.Popen[bytes]:
    """Boot a hypervisor; with `keep`, on its existing disk."""
    tree = tree_path(name)
    folder = HOSTS / name
    if not keep:
        make_overlay(name)
    for path in ("work", "root"):
        (folder / path).mkdir(exist_ok=True)
    cgroups = make_cgroups(name)
    record = {
        "checkout": str(CHECKOUT),
        "tree": str(tree),
        "images": images,
        "cgroups": cgroups,
        "boot_id": boot_id(),
    }
    # Written twice, so that `stop` can clean up after an error in between.
    write_state(name, record)
    up_network(name)
    argv = [str(HERE / "boot"), "outside", name, str(folder), str(tree), images, *cgroups]
    with open(folder / "log", "a", encoding="utf-8") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
        )
    write_state(name, dict(record, pid=process.pid, start_time=start_time(process.pid)))
    return process


def listens(name: str) -> bool:
    """Return whether sshd of a hypervisor listens, from /proc: a connection would cost a fork."""
    pid = init_pid(name)
    try:
        text = pathlib.Path("/proc/%s/net/tcp" % pid).read_text(encoding="utf-8")
    except OSError:
        return False
    return any(
        line.split()[1].endswith(":0016") and line.split()[3] == "0A"
        for line in text.splitlines()[1:]
    )


def stop(name: str, keep: bool = False) -> None:
    """Stop a hypervisor and remove what was created for it; with `keep`, not its disk."""
    record = state(name)
    namespace = "vlab-" + name
    if record:
        if alive(name):
            # The kernel ends a PID namespace together with its process 1.
            os.kill(init_pid(name) or record["pid"], signal.SIGKILL)
        if not wait(lambda: not alive(name) and not processes_in(namespace), 10):
            raise Failure("%s: these processes do not end: %s" % (name, processes_in(namespace)))
        remove_cgroups(record["cgroups"])
        if (NETNS / namespace).exists():
            call("ip", "netns", "delete", namespace)
        (RUNTIME / (name + ".json")).unlink()
    if not keep:
        shutil.rmtree(HOSTS / name, ignore_errors=True)


def close_masters() -> None:
    """End the ssh processes that keep connections to hypervisors open."""
    for path in (RUNTIME / "cp").glob("*"):
        subprocess.run(
            ["ssh", "-o", "ControlPath=%s" % path, "-O", "exit", "testbed"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        path.unlink(missing_ok=True)


def leftovers() -> list[str]:
    """Return what the test bed left on the machine; after `down` the list is empty."""
    found = ["namespace %s" % path.name for path in NETNS.glob("vlab-*")]
    found += [
        "process %d in %s" % (pid, path.name)
        for path in NETNS.glob("vlab-*")
        for pid in processes_in(path.name)
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


def build(names: list[str]) -> None:
    """Build the trees that do not exist."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(build_tree, names))


def up(names: list[str], images: typing.Optional[str] = None) -> list[str]:
    """Start the hypervisors that are down; return their names."""
    need_tools()
    images = str(pathlib.Path(images or os.environ.get("VLAB_TESTBED_IMAGES") or IMAGES).resolve())
    # Outside the lock: the first build takes minutes.
    build(names)
    with locked(MACHINE_LOCK):
        refuse_others()
        up_ssh(images)
        stopped = [name for name in names if not alive(name)]
        for name in set(names) - set(stopped):
            if (state(name) or {}).get("tree") != str(tree_path(name)):
                say("%s: runs a tree of an older recipe; use `down` and `up` to update it" % name)
        pathlib.Path(images).mkdir(parents=True, exist_ok=True)
        up_switch()
        processes = {}
        for name in stopped:
            stop(name)
            processes[name] = start(name, images)
        wait_for(processes)
        records = filter(None, map(state, HYPERVISORS))
        in_use = {pathlib.Path(record["tree"]).name for record in records}
        prune({tree_path(name).name for name in HYPERVISORS} | in_use)
    return stopped


def wait_for(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Wait until the sshd of each hypervisor listens."""
    for name, process in processes.items():

        def settled(name: str = name, process: subprocess.Popen[bytes] = process) -> bool:
            return process.poll() is not None or listens(name)

        if not wait(settled, 20) or process.poll() is not None:
            log = (HOSTS / name / "log").read_text(encoding="utf-8", errors="replace")
            raise Failure("%s: did not come up\n%s" % (name, log.strip()[-2000:]))


def down(names: list[str]) -> None:
    """Stop hypervisors; with the last one, remove the switch and all files."""
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
            # ssh ends by itself after its hypervisor.
            wait(lambda: not leftovers(), 3)
            left = leftovers()
            if left:
                raise Failure("not removed:\n  " + "\n  ".join(left))


def reboot(name: str) -> None:
    """Restart a hypervisor as after a power failure: its disk is kept, not /run."""
    with locked(MACHINE_LOCK):
        record = state(name)
        if not record or not alive(name):
            raise Failure("%s is not up" % name)
        images = record["images"]
        stop(name, keep=True)
        wait_for({name: start(name, images, keep=True)})


def status() -> bool:
    """Print the state of all hypervisors; return whether all are up."""
    all_up = True
    for name, hypervisor in HYPERVISORS.items():
        if alive(name):
            pid, count = init_pid(name), len(running_qemu(name))
            text = "up    %-9s %s  process %s, %d running QEMU" % (
                hypervisor.release,
                address(name),
                pid,
                count,
            )
        else:
            all_up = False
            tree = "tree built" if tree_path(name).exists() else "no tree"
            text = "down  %-9s %s" % (hypervisor.release, tree)
        print("%s  %s" % (name, text))
    return all_up


def parse() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        prog="testbed", description="Run several hypervisors on one machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command, text in (
        ("up", "start hypervisors; build their trees if needed"),
        ("down", "stop hypervisors and remove everything created for them"),
        ("reboot", "restart hypervisors as after a power failure; their disks are kept"),
    ):
        sub = commands.add_parser(command, help=text)
        sub.add_argument("names", nargs="*", metavar="NAME", help=", ".join(HYPERVISORS))
        if command == "up":
            sub.add_argument(
                "--images",
                help="folder of guest images, read-only for all hypervisors (default %s)" % IMAGES,
            )
    commands.add_parser("build", help="build the trees only")
    commands.add_parser("status", help="show the state; exit code 1 unless all are up")
    commands.add_parser("inventory", help="print the inventory")
    sub = commands.add_parser("exec", help="run a command on a hypervisor over SSH")
    sub.add_argument("name", choices=list(HYPERVISORS))
    sub.add_argument("argv", nargs=argparse.REMAINDER, metavar="CMD")
    args = parser.parse_args()
    args.names = getattr(args, "names", None) or list(HYPERVISORS)
    unknown = [name for name in args.names if name not in HYPERVISORS]
    if unknown:
        parser.error("unknown hypervisor %s; use %s" % (", ".join(unknown), ", ".join(HYPERVISORS)))
    return args


def print_inventory() -> None:
    """Print the inventory."""
    if not INVENTORY.exists():
        raise Failure("the inventory does not exist before the first `up`")
    print(INVENTORY.read_text(encoding="utf-8"), end="")


def run_on(name: str, words: list[str]) -> None:
    """Replace this process with a command on a hypervisor, or a shell."""
    # One word is a line for the shell, several are a command and its arguments.
    command = words if len(words) < 2 else [shlex.join(words)]
    os.execvp("ssh", ["ssh", "-F", str(SSH_CONFIG), name, "--", *command])


def main() -> int:
    """Run the command of the command line; return the exit code."""
    args = parse()
    if args.command == "up":
        up(args.names, args.images)
        status()
    elif args.command == "build":
        need_tools()
        build(args.names)
    elif args.command == "down":
        down(args.names)
    elif args.command == "reboot":
        for name in args.names:
            reboot(name)
    elif args.command == "status":
        return 0 if status() else 1
    elif args.command == "inventory":
        print_inventory()
    elif args.command == "exec":
        run_on(args.name, args.argv)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit("testbed: %s" % failure)
