"""What runs inside a sandbox; started by its text alone, with nothing of this package there.

Two processes. The supervisor holds the pipe to the host and never runs the model's code; the executor, its child, runs
the code and keeps its variables. So code that looks for the pipe finds the supervisor's door only, where each request
has a token and gets exactly one line. Between requests everything but the supervisor is stopped.

Lines to the host are JSON: `ready` once, then for each request any number of `output` and one `done`, `died` or
`forged`, each with the request's nonce.
"""

import _sitebuiltins
import ast
import base64
import builtins
import contextlib
import errno
import io
import itertools
import json
import linecache
import os
import secrets
import select
import signal
import stat
import struct
import sys
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

CHUNK = 1 << 16
LAST_OUTPUT = 1 << 20
FIRST_LOOKS_S = (0.02, 0.1, 0.3)
LATER_LOOKS_S = 1.0
"""Between two calls: when the supervisor looks whether the others are still stopped."""
AFTER_STOP_S = 0.05
MOST_WOKEN = 3
PIXELS = 1 << 25
"""Of one figure: read again, each takes four bytes."""
SIDE_PIXELS = 16_384
SCANNED_FILES = 2000
SCANNED_PATH = 400
"""Characters of a folder's path beyond which its folders are not looked into."""
LISTED_CHARACTERS = 1 << 19
"""Of all names in one list of the folder's files, as they are written to the host."""
LATEST_S = 1 << 33
ERROR_CHARACTERS = 20_000
FONTS = "<fontconfig><dir>/usr/share/fonts</dir><cachedir>/sandbox/.tmp/fonts</cachedir></fontconfig>"


def main() -> None:
    orders = json.loads(sys.argv[1])
    become(orders.get("uid"))
    bound(orders)
    folder = Path(orders["folder"])
    (folder / ".tmp").mkdir(exist_ok=True)
    (folder / ".tmp/fonts.conf").write_text(FONTS, encoding="ascii")
    os.chdir(folder)
    requests, request_writer = os.pipe()
    reply_reader, replies = os.pipe()
    out_reader, out = os.pipe()
    err_reader, err = os.pipe()
    executor = os.fork()
    if executor == 0:
        # The host's pipe is closed here: standard input and output become the executor's own.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        for fd in (request_writer, reply_reader, out_reader, err_reader, out, err):
            os.close(fd)
        set_readable(1)
        refuse_calls(orders.get("seccomp"))
        execute(requests, replies, orders)
    for fd in (requests, replies, out, err):
        os.close(fd)
    set_readable(0)
    refuse_calls(orders.get("seccomp"))
    Supervisor(executor, request_writer, reply_reader, out_reader, err_reader, orders).serve()


def become(uid: int | None) -> None:
    """Leave the root user, where the sandbox was started by it."""
    if uid is not None and hasattr(os, "setresuid"):
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def bound(orders: dict[str, Any]) -> None:
    import resource

    wanted = {
        resource.RLIMIT_AS: orders["address_space"],
        resource.RLIMIT_FSIZE: orders["file_bytes"],
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
    }
    for name in ("RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO"):
        if hasattr(resource, name):
            wanted[getattr(resource, name)] = 0
    if orders["processes"]:
        wanted[resource.RLIMIT_NPROC] = orders["processes"]
    for what, limit in wanted.items():
        _, most = resource.getrlimit(what)
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(what, (limit, limit))


def set_readable(flag: int) -> None:
    """PR_SET_DUMPABLE: whether other processes of this user may read this one's memory and descriptors."""
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(4, flag, 0, 0, 0)


def refuse_calls(programs: dict[str, str] | None) -> None:
    """Load the seccomp program for this machine, where the driver could not load it from outside."""
    if programs is None:
        return
    import ctypes

    program = base64.b64decode(programs[os.uname().machine])
    text = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    loaded = Program(len(program) // 8, ctypes.cast(text, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(loaded), 0, 0):  # NO_NEW_PRIVS, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "the kernel refused the list of system calls")


class Supervisor:
    """Passes requests in and everything else out, one at a time; takes nothing of what it passes for true."""

    def __init__(self, executor: int, requests: int, replies: int, out: int, err: int, orders: dict[str, Any]) -> None:
        self.executor = executor
        self.requests = requests
        self.replies = replies
        self.streams = {out: "stdout", err: "stderr"}
        self.reply_limit = orders["reply_limit"]
        # kill(-1) reaches every process there is: only in a process id namespace of our own is that the sandbox alone.
        self.stops_others = orders["own_pids"] and os.getpid() < 10
        self.nonce = ""
        self.status: int | None = None
        for fd in (*self.streams, replies):
            os.set_blocking(fd, False)

    def serve(self) -> None:
        self.tell("ready", python=sys.version.split()[0], uid=os.getuid() if hasattr(os, "getuid") else -1)
        while line := self.next_request():
            request = json.loads(line)
            self.nonce = request.pop("nonce")
            self.signal_others(signal.SIGCONT)
            if not self.pass_on(request):
                return

    def next_request(self) -> bytes:
        """The next line; empty when the host has gone, or when something goes on running between two calls."""
        if self.stops_others and self.nonce:
            pauses = itertools.chain(FIRST_LOOKS_S, itertools.repeat(LATER_LOOKS_S))
            woken = 0
            while not select.select([0], [], [], next(pauses))[0]:
                if self.others_run():
                    woken += 1
                    self.signal_others(signal.SIGSTOP)
                    time.sleep(AFTER_STOP_S)
                    if woken > MOST_WOKEN or self.others_run():
                        return b""
        return sys.stdin.buffer.readline()

    def others_run(self) -> bool:
        own = {"1", str(os.getpid())}
        names = (process.name for process in Path("/proc").iterdir())
        # One that waits uninterruptibly ("D") takes no processor, and may well wait for one that is stopped.
        return any(state_of(name) in "RS" for name in names if name.isdigit() and name not in own)

    def pass_on(self, request: dict[str, Any]) -> bool:
        """Have one request done. False when the executor is gone or not to be believed."""
        if self.read(self.replies):
            self.tell("forged", why="something was written between two calls")
            return False
        token = secrets.token_hex(16)
        with contextlib.suppress(BrokenPipeError):  # it is gone, which the wait for its reply finds out
            write_all(self.requests, json.dumps({**request, "token": token}).encode() + b"\n")
        reply = self.await_reply()
        self.signal_others(signal.SIGSTOP)
        self.pass_output(LAST_OUTPUT)
        if reply is None:
            self.tell("died", status=self.status)
            return False
        line, newline, rest = reply.partition(b"\n")
        try:
            given = json.loads(line).pop("token")
        except (ValueError, AttributeError, KeyError):
            given = None
        if not newline or rest or given != token or self.read(self.replies):
            self.tell("forged", why="the reply was not one line with the token of the call")
            return False
        self.tell("done", reply=line.decode("utf-8", "replace"))
        return True

    def await_reply(self) -> bytes | None:
        """Bytes up to a line's end or beyond the limit; None when the executor ended."""
        poll = select.poll()
        for fd in (*self.streams, self.replies):
            poll.register(fd, select.POLLIN)
        poll.register(0, 0)  # tells only of its end: then the host is gone
        reply = bytearray()
        while b"\n" not in reply[-CHUNK:] and len(reply) <= self.reply_limit:
            for fd, event in poll.poll(50):
                if fd == 0:
                    os.kill(self.executor, signal.SIGKILL)
                    os._exit(1)
                if fd == self.replies:
                    reply += self.read(fd)
                elif event & select.POLLIN:
                    self.pass_output(CHUNK)
                if event & select.POLLHUP and not event & select.POLLIN:
                    poll.unregister(fd)
            if self.has_ended() and not reply.endswith(b"\n"):
                return None
        return bytes(reply)

    def has_ended(self) -> bool:
        """Whether the executor ended; takes leave of every process that did."""
        while self.status is None:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self.executor:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def pass_output(self, most: int) -> None:
        for fd, stream in self.streams.items():
            passed = 0
            while passed < most and (text := self.read(fd)):
                passed += len(text)
                self.tell("output", stream=stream, text=base64.b64encode(text).decode())

    def read(self, fd: int) -> bytes:
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:
            return b""

    def signal_others(self, number: int) -> None:
        if self.stops_others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, number)

    def tell(self, kind: str, **fields: Any) -> None:
        write_all(1, json.dumps({"type": kind, "nonce": self.nonce, **fields}).encode() + b"\n")


def state_of(pid: str) -> str:
    """The letter for what a process does (man 5 proc); "Z" for one that has gone."""
    try:
        return Path("/proc", pid, "stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return "Z"


def write_all(fd: int, text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(fd, rest) :]


def execute(requests: int, replies: int, orders: dict[str, Any]) -> NoReturn:
    """Run what comes, in one set of variables; the process ends with its requests."""
    sys.path[:] = [*(path for path in sys.path if path), *orders["packages"], orders["folder"]]
    sys.argv[:] = [""]
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = text_stream(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = text_stream(2)  # type: ignore[misc]
    add_shell_words()
    main_module = types.ModuleType("__main__")
    sys.modules["__main__"] = main_module
    own_pid = os.getpid()
    number = 0
    with os.fdopen(requests, "rb") as lines:
        for line in lines:
            request = json.loads(line)
            number += 1
            reply = perform(request, main_module.__dict__, f"<call {number}>", orders)
            if os.getpid() != own_pid:
                os._exit(0)  # a fork that ran out of the code: its parent answers
            reply["token"] = request["token"]
            write_all(replies, json.dumps(reply).encode() + b"\n")
    os._exit(0)


def perform_alone(orders: dict[str, Any]) -> Callable[[str], str]:
    """For Python in WebAssembly, which has no processes: what takes a request and gives its reply, both as JSON."""
    folder = Path(orders["folder"])
    (folder / ".tmp").mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    os.environ.update(orders["variables"])
    main_module = sys.modules["__main__"] = types.ModuleType("__main__")
    calls = itertools.count(1)

    def answer(request: str) -> str:
        reply = perform(json.loads(request), main_module.__dict__, f"<call {next(calls)}>", orders)
        return json.dumps({**reply, "token": ""})

    return answer


def text_stream(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(fd, "wb", closefd=False)), "utf-8", "replace", line_buffering=True
    )


def add_shell_words() -> None:
    """What every Python shell has and `-S` leaves out; its own would close standard input."""
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]
    builtins.help = _sitebuiltins._Helper()


def perform(request: dict[str, Any], variables: dict[str, Any], name: str, orders: dict[str, Any]) -> dict[str, Any]:
    reply: dict[str, Any] = {"error": None, "limit": None, "figures": [], "files": []}
    own_pid = os.getpid()
    folder = Path(orders["folder"])
    if "look" in request:
        try:
            reply["files"] = look(request["look"], request.get("name"), folder, orders["files_bytes"])
        except Exception as error:  # the code may have replaced what this stands on
            reply["error"] = describe(error)
        return reply
    before: dict[str, tuple[int, int]] = {}
    try:
        put_files(request["files"], folder)
        before = seen_files(folder)
        run(request["code"], variables, name)
    except SystemExit as end:
        reply["error"] = None if end.code in (None, 0) else describe(end)
    except BaseException as error:  # the model's code may raise anything; it is told what
        reply["error"], reply["limit"] = describe(error), limit_of(error)
    if os.getpid() != own_pid:
        os._exit(0)
    try:
        budget = orders["files_bytes"]
        reply["figures"], budget = take_figures(orders["max_figures"], budget)
        reply["figure_names"] = keep_figures(reply["figures"], folder)
        reply["files"] = take_files(folder, before, orders["max_files"], budget, reply["figure_names"])
    except Exception as error:  # the code may have replaced what these stand on
        reply["error"] = reply["error"] or describe(error)
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(Exception):  # the code may have put anything in their place
            stream.flush()  # type: ignore[union-attr]
    return reply


def run(code: str, variables: dict[str, Any], name: str) -> None:
    """Run statements; the value of an expression at the end is printed, as at Python's prompt."""
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    tree = ast.parse(code, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), variables)  # noqa: S102  # this is what the sandbox is for
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), name, "eval"), variables)  # noqa: S307
        if value is not None:
            variables["_"] = value
            builtins.print(repr(value))


def describe(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<call "):
        trace = trace.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, trace))
    except Exception:  # its __str__ is the model's code
        text = type(error).__name__
    text = text.encode("utf-8", "replace").decode()
    half = ERROR_CHARACTERS // 2
    return text if len(text) <= ERROR_CHARACTERS else f"{text[:half]}\n...\n{text[-half:]}"


def limit_of(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, BlockingIOError) or (type(error) is RuntimeError and "start new thread" in str(error)):
        return "processes"
    if isinstance(error, OSError) and error.errno in (errno.EFBIG, errno.ENOSPC):
        return "disk"
    return None


def take_figures(most: int, budget: int) -> tuple[list[str], int]:
    """The open figures of matplotlib as PNG in base64, and what is left of the budget in bytes; closes them."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return [], budget
    taken = []
    for figure_number in pyplot.get_fignums()[:most]:
        image = io.BytesIO()
        pyplot.figure(figure_number).savefig(image, format="png")
        head = image.getvalue()[:24]
        width, height = struct.unpack(">II", head[16:]) if len(head) == 24 else (0, 0)
        if max(width, height) > SIDE_PIXELS or width * height > PIXELS:
            pyplot.close("all")
            size = f"figure {figure_number} has {width} x {height} pixels"
            raise ValueError(f"{size}; at most {PIXELS} are taken, {SIDE_PIXELS} a side")
        if image.tell() <= budget:
            budget -= image.tell()
            taken.append(base64.b64encode(image.getvalue()).decode())
    pyplot.close("all")
    return taken, budget


def keep_figures(figures: list[str], folder: Path) -> list[str]:
    """Put the figures among the files as well, under names that are free, as far as there is room for them."""
    kept: list[str] = []
    numbers = itertools.count(1)
    for image in figures:
        name = next(name for name in (f"figure-{number}.png" for number in numbers) if not (folder / name).exists())
        try:
            (folder / name).write_bytes(base64.b64decode(image))
        except OSError:
            (folder / name).unlink(missing_ok=True)
            break
        kept.append(name)
    return kept


def put_files(files: dict[str, str], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(content))


def seen_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Regular files by name relative to the folder, with size and time of change; hidden ones are left out."""
    seen: dict[str, tuple[int, int]] = {}
    for parent, folders, names in os.walk(folder):
        # Deeper down, os.walk meets Python's limit of recursion, and then the limit of a path's length.
        is_deep = len(parent) > SCANNED_PATH
        folders[:] = [] if is_deep else sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if len(seen) >= SCANNED_FILES:
                return seen
            path = Path(parent, name)
            entry = path.lstat()
            if stat.S_ISREG(entry.st_mode) and not name.startswith("."):
                seen[str(path.relative_to(folder))] = (entry.st_size, entry.st_mtime_ns)
    return seen


def take_files(
    folder: Path, before: dict[str, tuple[int, int]], most: int, budget: int, figures: list[str]
) -> list[dict[str, Any]]:
    """New and changed files but figures; one that is over the budget or the number is named without its content."""
    taken: list[dict[str, Any]] = []
    for name, (size, changed_at) in seen_files(folder).items():
        if before.get(name) == (size, changed_at) or name in figures:
            continue
        if len(taken) >= 4 * most:
            break
        content = None
        if size <= budget and len(taken) < most:
            read = (folder / name).read_bytes()[:budget]
            budget -= len(read)
            content = base64.b64encode(read).decode()
        taken.append({"name": shown_name(name), "size": size, "content": content})
    return taken


def shown_name(name: str) -> str:
    """Some names end a line, move a terminal's cursor or turn the text around."""
    return "".join(letter if letter.isprintable() and letter != "\\" else "\ufffd" for letter in name)


def look(what: str, wanted: str | None, folder: Path, most_bytes: int) -> list[dict[str, Any]]:
    """Files of the folder, apart from any code: all without their contents, or the wanted one, "read" or "remove"d.

    One that is larger than most_bytes is given without its content.
    """
    found: list[dict[str, Any]] = []
    room = LISTED_CHARACTERS
    for name, (size, changed_ns) in seen_files(folder).items():
        shown = shown_name(name)
        if wanted is not None and shown != wanted:
            continue
        room -= len(json.dumps(shown))
        if room < 0:
            break
        content = None
        if what == "read" and size <= most_bytes:
            content = base64.b64encode((folder / name).read_bytes()[:most_bytes]).decode()
        elif what == "remove":
            (folder / name).unlink()
        changed_at = max(0, min(changed_ns // 10**9, LATEST_S))
        found.append({"name": shown, "size": size, "content": content, "changed_at": changed_at})
        if wanted is not None:
            break
    return found


if __name__ == "__main__":
    main()
