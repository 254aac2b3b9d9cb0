# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Python for Ansible's modules that has started already. For tests only; see README.md.

Run as: warm_python.py PYTHON [ARGUMENT...]. PYTHON is the interpreter that it stands in for.
A module is run in a fork of a server that has imported the standard library; everything else is
run by PYTHON itself. The first call starts the server, which ends when nobody has used it for
some minutes.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import sys

if "--serve" in sys.argv[1:2]:
    # The client starts once for each task: what it does not need costs time.
    import atexit
    import gc
    import hashlib
    import importlib
    import importlib.machinery
    import marshal
    import selectors
    import shutil
    import signal
    import traceback
    import types
    import zipfile
    import zipimport

# Seconds without a call after which a server ends.
IDLE_TIMEOUT = 60
# What AnsiballZ and most modules import.
PRELOAD = (
    "__future__ _sitebuiltins array ast atexit base64 bisect codecs collections.abc"
    " concurrent.futures contextlib copy ctypes dataclasses datetime decimal difflib email.utils"
    " encodings.ascii encodings.idna encodings.latin_1 enum errno fcntl fnmatch functools"
    " getpass glob grp gzip hashlib heapq hmac importlib.machinery importlib.metadata"
    " importlib.resources importlib.util inspect io ipaddress itertools json linecache locale"
    " logging marshal numbers operator os pathlib pickle pkgutil platform posixpath pprint pwd"
    " queue random re resource runpy secrets select selectors shlex shutil signal socket stat"
    " string struct subprocess sys syslog tempfile textwrap threading time traceback types typing"
    " unicodedata urllib.error urllib.parse urllib.request uuid warnings weakref zipfile"
    " zipimport zlib"
).split()


# --- The client ---


def is_module(arguments: list[str]) -> bool:
    """Return whether Ansible runs a module: on standard input, or from a file that it has sent."""
    if not arguments:
        return not os.isatty(0)
    return len(arguments) == 1 and os.path.basename(arguments[0]).startswith("AnsiballZ_")


def own_folder(name: str) -> str:
    """Return a private folder of this user, made if it is missing. Raises PermissionError."""
    path = "/tmp/%s-%d" % (name, os.geteuid())
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    state = os.lstat(path)
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o77:
        raise PermissionError(path)
    return path


def connected(path: str) -> socket.socket | None:
    """Return a connection to the server, or None if there is no server."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return connection


def start_server(python: str, path: str) -> None:
    """Start a server and return when it listens."""
    done, ready = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.set_inheritable(ready, True)
        log = os.open(path + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        words = [python, os.path.abspath(__file__), "--serve", path, str(ready)]
        os.execv(python, words)
    os.close(ready)
    os.read(done, 1)
    os.close(done)


def call(python: str, arguments: list[str]) -> int:
    """Run a module in a fork of the server; return its exit code."""
    path = os.path.join(own_folder("vlab-warm"), python.strip("/").replace("/", "-") + ".sock")
    connection = connected(path)
    if connection is None:
        with open(path + ".lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            connection = connected(path)
            if connection is None:
                start_server(python, path)
                connection = connected(path)
    if connection is None:
        raise ConnectionError(path)
    umask = os.umask(0)
    os.umask(umask)
    request = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "umask": umask,
    }
    data = json.dumps(request).encode("ascii")
    socket.send_fds(connection, [b"%08d" % len(data)], [0, 1, 2])
    connection.sendall(data)
    answer = b""
    while True:
        piece = connection.recv(64)
        if not piece:
            return int(answer) if answer else 1
        answer += piece


# --- The server ---


def checksums_of(archive: str) -> dict[str, int]:
    """Return the checksum of each file of an archive."""
    with zipfile.ZipFile(archive) as opened:
        return {entry.filename: entry.CRC for entry in opened.infolist()}


class Preloaded:
    """Modules of Ansible that the server has imported from an archive, for its forks.

    A fork uses them if its own archive holds the same files, else it imports its own.
    """

    NAMES = ("ansible.module_utils._internal._ansiballz._loader", "ansible.module_utils.basic")

    def __init__(self, archive: str) -> None:
        self.archive = archive
        self.modules: dict[str, types.ModuleType] = {}
        self.checksums: dict[str, int] = {}
        self.entered: dict[str, types.ModuleType] = {}

    def load(self) -> None:
        """Import what the archive has of Ansible. Do nothing if no module has left one yet."""
        if self.modules or not os.path.exists(self.archive):
            return
        before = set(sys.modules)
        sys.path.insert(0, self.archive)
        files = checksums_of(self.archive)
        for name in self.NAMES:
            importlib.import_module(name)
        del sys.path[0]
        for name in sorted(set(sys.modules) - before):
            path = name.replace(".", "/")
            found = next((f for f in (path + ".py", path + "/__init__.py") if f in files), None)
            if found:
                self.modules[name] = sys.modules.pop(name)
                self.checksums[found] = files[found]

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> object:
        """Enter all modules at the first import of one; return its spec, or None for others."""
        modules, self.modules = self.modules, {}
        if name not in modules:
            self.modules = modules
            return None
        files = checksums_of(sys.path[0])
        if any(files.get(path) != checksum for path, checksum in self.checksums.items()):
            return None
        for each, module in modules.items():
            if each != name:  # Python enters that one
                sys.modules[each] = module
            if hasattr(module, "__path__"):
                module.__path__ = [os.path.join(sys.path[0], *each.split("."))]
        self.entered = modules
        return importlib.machinery.ModuleSpec(
            name, self, is_package=hasattr(modules[name], "__path__")
        )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return self.entered[spec.name]

    @staticmethod
    def exec_module(module: types.ModuleType) -> None:
        """The module has run in the server."""


def cache_compiled_code(archive: str) -> None:
    """Keep the code of what is imported from archives: Python compiles it again in each process.

    The first archive from which a module is imported is kept, too: for Preloaded.
    """
    folder = own_folder("vlab-warm")
    compile_source = zipimport._compile_source  # type: ignore[attr-defined]

    def cached(path: str, source: bytes) -> object:
        name = hashlib.sha256(source + sys.version.encode("ascii")).hexdigest()
        kept = os.path.join(folder, name)
        if not os.path.exists(archive) and os.path.isfile(sys.path[0]):
            shutil.copyfile(sys.path[0], "%s.%d" % (archive, os.getpid()))
            os.replace("%s.%d" % (archive, os.getpid()), archive)
        try:
            with open(kept, "rb") as stream:
                return marshal.load(stream)
        except (OSError, EOFError, ValueError, TypeError):
            pass  # it is not there yet, or damaged
        code = compile_source(path, source)
        temporary = "%s.%d" % (kept, os.getpid())
        with open(temporary, "wb") as stream:
            marshal.dump(code, stream)
        os.replace(temporary, kept)
        return code

    zipimport._compile_source = cached  # type: ignore[attr-defined]


def receive(connection: socket.socket) -> tuple[dict, list[int]]:
    """Return a request and the three file descriptors that came with it."""
    head, handles, _flags, _address = socket.recv_fds(connection, 8, 3)
    data = b""
    while len(data) < int(head):
        piece = connection.recv(int(head) - len(data))
        if not piece:
            raise EOFError
        data += piece
    return json.loads(data), handles


def serve(path: str, ready: int, preloaded: Preloaded) -> dict | None:
    """Fork for each request. Return the request in a fork, None when nobody has called for long."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path + ".new")
    listener.listen(64)
    os.rename(path + ".new", path)
    os.close(ready)
    wake_read, wake_write = socket.socketpair()
    wake_read.setblocking(False)
    wake_write.setblocking(False)
    signal.set_wakeup_fd(wake_write.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(wake_read, selectors.EVENT_READ)
    waiting: dict[int, socket.socket] = {}
    while True:
        events = selector.select(IDLE_TIMEOUT)
        if not events and not waiting:
            os.unlink(path)
            return None
        for key, _mask in events:
            if key.fileobj is wake_read:
                wake_read.recv(4096)
                continue
            connection, _address = listener.accept()
            try:
                request, handles = receive(connection)
            except (EOFError, ValueError):
                connection.close()
                continue
            preloaded.load()
            gc.freeze()
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                selector.close()
                for each in (listener, wake_read, wake_write, connection, *waiting.values()):
                    each.close()
                return take_over(request, handles)
            waiting[pid] = connection
            for handle in handles:
                os.close(handle)
        reap(waiting)


def reap(waiting: dict[int, socket.socket]) -> None:
    """Send the exit codes of ended modules to their clients."""
    while waiting:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        connection = waiting.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        try:
            connection.sendall(b"%d" % (code if code >= 0 else 128 - code))
        except OSError:
            pass  # the client has ended
        connection.close()


def take_over(request: dict, handles: list[int]) -> dict:
    """Become, in a fork, what the client would have been."""
    os.setsid()
    for number, handle in enumerate(handles):
        os.dup2(handle, number)
        os.close(handle)
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    return request


def run(arguments: list[str]) -> None:
    """Run a module as the interpreter would."""
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    if arguments:
        sys.argv = list(arguments)
        main.__dict__["__file__"] = arguments[0]
        with open(arguments[0], "rb") as stream:
            source = stream.read()
        sys.path[0] = os.path.dirname(arguments[0])
    else:
        sys.argv = [""]
        source = sys.stdin.buffer.read()
        sys.path[0] = ""
    try:
        code = compile(source, arguments[0] if arguments else "<stdin>", "exec")
        exec(code, main.__dict__)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if status and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    else:
        status = 0
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the time that it takes to delete what the server has loaded.
    os._exit(status)


def main() -> None:
    if sys.argv[1] == "--serve":
        for name in PRELOAD:
            importlib.import_module(name)
        path = sys.argv[2]
        cache_compiled_code(path + ".zip")
        preloaded = Preloaded(path + ".zip")
        request = serve(path, int(sys.argv[3]), preloaded)
        if request is not None:
            sys.meta_path.insert(0, preloaded)
            run(request["arguments"])
        return
    python, arguments = sys.argv[1], sys.argv[2:]
    if not is_module(arguments):
        os.execv(python, [python, *arguments])
    sys.exit(call(python, arguments))


if __name__ == "__main__":
    main()
