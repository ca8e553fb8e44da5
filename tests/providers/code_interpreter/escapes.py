"""Attempts to get out of a sandbox. Each raises, or prints ESCAPED: then the sandbox has a hole.

Names in capitals are set before the code by the test that runs it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Attempt:
    """works_without: without a sandbox this prints ESCAPED, which shows that the attempt itself is sound."""

    name: str
    code: str
    works_without: bool = False


def _read(path: str, works_without: bool = True) -> Attempt:
    return Attempt(f"read {path}", f"print('ESCAPED', open({path}, 'rb').read(64))", works_without)


def _write(path: str) -> Attempt:
    return Attempt(f"write {path}", f"open({path!r}, 'wb', 0).write(b'x'); print('ESCAPED')")


def _system_call(name: str, *arguments: int | str, number: int | None = None) -> Attempt:
    """A call of the kernel by x86_64 number; of libc by name where there is none."""
    called = f"libc.syscall({number}, " if number is not None else f"libc.{name}("
    code = f"""
import ctypes, platform
assert platform.machine() == 'x86_64'
libc = ctypes.CDLL(None, use_errno=True)
if {called}{", ".join(map(str, arguments))}) >= 0: print('ESCAPED')
"""
    return Attempt(f"call {name}", code)


READS = [
    _read("SECRET"),
    _read("'/etc/shadow'", works_without=False),
    _read("'/etc/passwd'"),
    _read("CHECKOUT + '/pyproject.toml'"),
    _read("'/proc/1/root/etc/passwd'", works_without=False),
    _read("'/proc/kcore'", works_without=False),
    _read("'/dev/mem'", works_without=False),
    _read("'/dev/vda'", works_without=False),
    Attempt(
        "list the home",
        # The folders on the way to Python and its packages are there, empty but for them.
        "import os, sys; shown = '/'.join([sys.prefix, *sys.path]).split('/')\n"
        "set(os.listdir(HOME)) - set(shown) and print('ESCAPED')",
        works_without=True,
    ),
    Attempt(
        "open through a link", "import os; os.symlink(SECRET, 'link'); print('ESCAPED', open('link').read())", True
    ),
    Attempt(
        "environment of another process",
        """
import glob, os
for name in glob.glob('/proc/[0-9]*/environ'):
    try: text = open(name, 'rb').read()
    except OSError: continue
    if CANARY.encode() in text: print('ESCAPED', name)
""",
        works_without=True,
    ),
    Attempt("own environment", "import os; CANARY in os.environ.values() and print('ESCAPED')"),
    Attempt(
        "memory of the supervisor",
        "import os; open(f'/proc/{os.getppid()}/mem', 'rb'); print('ESCAPED')",
    ),
    Attempt("pipes of the supervisor", "import os; os.listdir(f'/proc/{os.getppid()}/fd'); print('ESCAPED')"),
]

NETWORK = [
    Attempt(
        "TCP to the host",
        "import socket; socket.create_connection(('127.0.0.1', TCP_PORT), 1); print('ESCAPED')",
        works_without=True,
    ),
    Attempt(
        "UDP to the host",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', UDP_PORT));"
        "print('ESCAPED')",
        works_without=True,
    ),
    Attempt(
        "abstract socket of the host",
        "import socket; socket.socket(socket.AF_UNIX).connect('\\0' + ABSTRACT); print('ESCAPED')",
        works_without=True,
    ),
    Attempt(
        "HTTP",
        "import urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{TCP_PORT}/', timeout=1); print('ESCAPED')",
    ),
    *(
        Attempt(f"socket of family {name}", f"import socket; socket.socket({number}, 3); print('ESCAPED')")
        for name, number in (("netlink", 16), ("packet", 17), ("algorithms", 38), ("virtual machine", 40))
    ),
]

WRITES = [
    *map(_write, ("/escaped", "/usr/escaped", "/etc/escaped", "/dev/escaped", "/bin/escaped", "/lib/escaped")),
    _write("/proc/sys/kernel/core_pattern"),
    _write("/proc/sys/kernel/hostname"),
    _write("/proc/self/uid_map"),
    _write("/sys/kernel/escaped"),
    Attempt(
        "write beside the interpreter",
        "import sys; open(sys.prefix + '/escaped', 'wb', 0).write(b'x'); print('ESCAPED')",
    ),
]

PROCESSES = [
    Attempt("signal a process of the host", "import os; os.kill(HOST_PID, 0); print('ESCAPED')", works_without=True),
    Attempt("become root", "import os; os.setuid(0); print('ESCAPED')"),
    Attempt("run as root", "import os; os.getuid() == 0 and print('ESCAPED')"),
    Attempt(
        "start with rights",
        """
status = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)
if int(status['CapEff'], 16) or status['NoNewPrivs'].strip() != '1' or status['Seccomp'].strip() != '2':
    print('ESCAPED', status)
""",
    ),
    _system_call("unshare", 0x10000000),
    _system_call("unshare of mounts", 0x00020000, number=272),
    _system_call("setns", 0, 0),
    _system_call("clone into namespaces", "0x10000011", 0, 0, 0, 0, number=56),
    _system_call("clone3", 0, 0, number=435),
    _system_call("mount", "b'none'", "b'/sandbox'", "b'tmpfs'", 0, 0),
    _system_call("pivot_root", "b'.'", "b'.'", number=155),
    _system_call("chroot", "b'/sandbox'"),
    _system_call("ptrace", 16, "__import__('os').getppid()", 0, 0),
    _system_call("ptrace of itself", 0, 0, 0, 0, number=101),
    _system_call("process_vm_readv", "__import__('os').getppid()", 0, 0, 0, 0, 0, number=310),
    _system_call("bpf", 0, 0, 0, number=321),
    _system_call("io_uring_setup", 1, "ctypes.create_string_buffer(256)", number=425),
    _system_call("userfaultfd", 0, number=323),
    _system_call("perf_event_open", "ctypes.create_string_buffer(128)", 0, -1, -1, 0, number=298),
    _system_call("add_key", "b'user'", "b'k'", "b'v'", 1, -3, number=248),
    _system_call("memfd_create", "b'm'", 0, number=319),
    _system_call("shmget", 0, 4096, 0o1600, number=29),
    _system_call("personality", 0x0040000, number=135),
    _system_call("open_by_handle_at", 0, 0, 0, number=304),
    _system_call("x32 call", number=0x40000000 + 39),
]

SHARED = [
    Attempt("pseudo terminal", "import os; os.openpty(); print('ESCAPED')", works_without=True),
    Attempt(
        "signal of a file that is ready",
        "import fcntl, socket; fcntl.fcntl(socket.socketpair()[0], 10, 18); print('ESCAPED')",
        works_without=True,
    ),
    Attempt(
        "lease on a file",
        """
import fcntl
open('leased', 'wb').close()
fcntl.fcntl(open('leased', 'rb'), 1024, fcntl.F_RDLCK)
print('ESCAPED')
""",
        works_without=True,
    ),
    Attempt(
        "lock on a file of the host",
        """
import fcntl, os, sys
assert sys.platform == 'linux'
fcntl.flock(open(os.__file__), fcntl.LOCK_EX | fcntl.LOCK_NB)
print('ESCAPED')
""",
        works_without=True,
    ),
    Attempt(
        "timer that sends SIGCONT",
        """
import ctypes, platform
assert platform.machine() == 'x86_64'
event = (ctypes.c_int * 16)(0, 0, 18, 0)  # struct sigevent: value, signal, SIGEV_SIGNAL
libc, timer = ctypes.CDLL(None), ctypes.c_void_p()
if libc.syscall(222, 1, event, ctypes.byref(timer)) == 0: print('ESCAPED')
""",
        works_without=True,
    ),
    Attempt(
        "room for asynchronous I/O",
        """
import ctypes, platform
assert platform.machine() == 'x86_64'
libc, context = ctypes.CDLL(None), ctypes.c_ulong()
if libc.syscall(206, 1, ctypes.byref(context)) == 0: print('ESCAPED')
""",
        works_without=True,
    ),
    Attempt(
        "watch of a folder",
        "import ctypes\nif ctypes.CDLL(None).inotify_init1(0) >= 0: print('ESCAPED')",
        works_without=True,
    ),
    Attempt(
        "real-time priority", "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)); print('ESCAPED')"
    ),
    Attempt("priority above the host's", "import os; os.setpriority(os.PRIO_PROCESS, 0, -1); print('ESCAPED')"),
    Attempt(
        "limits raised",
        """
import resource
for name in ('AS', 'NPROC', 'NOFILE', 'FSIZE', 'CORE'):
    which = getattr(resource, f'RLIMIT_{name}')
    limit = resource.getrlimit(which)[1]
    try: resource.setrlimit(which, (limit + 1, limit + 1)); print('ESCAPED', name)
    except (ValueError, OSError): pass
""",
    ),
    *map(_write, ("/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/proc/sys/fs/aio-max-nr", "/proc/kmsg")),
    _read("'/dev/kmsg'", works_without=False),
    _read("f'/proc/{__import__(\"os\").getppid()}/environ'", works_without=False),
    _read("'/proc/kmsg'", works_without=False),
    _read("'/proc/timer_list'", works_without=False),
]
"""What there is once for the whole machine, or for all processes of one of its users."""

ATTEMPTS = [*READS, *NETWORK, *WRITES, *PROCESSES, *SHARED]


def _script(name: str, script: str) -> Attempt:
    return Attempt(name, f"from pyodide.code import run_js\nprint('ESCAPED', run_js({script!r}))")


SCRIPTS = [
    _script("Deno reads a file", "Deno.readTextFileSync('/etc/passwd')"),
    _script("Deno writes a file", "Deno.writeTextFileSync('/tmp/escaped', 'x')"),
    _script("Deno lists a folder", "[...Deno.readDirSync('/')].length"),
    _script("Deno reads the environment", "Deno.env.toObject()"),
    _script("Deno runs a program", "new Deno.Command('/bin/ls').outputSync()"),
    _script("Deno loads a library", "Deno.dlopen('libc.so.6', {})"),
    _script("Deno connects", "Deno.connectSync ? Deno.connectSync({port: 1}) : Deno.listen({port: 0})"),
    _script("Node's files", "globalThis.process.getBuiltinModule('node:fs').readFileSync('/etc/passwd')"),
    _script("Node's processes", "globalThis.process.getBuiltinModule('node:child_process').execSync('ls')"),
    _script("host name", "Deno.hostname()"),
]
"""For WebAssembly: what its host, Deno, could do, and must not."""
