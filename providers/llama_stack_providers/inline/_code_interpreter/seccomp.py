"""The system calls that no code in a sandbox needs, as a classic BPF program for the Linux kernel.

Format: `struct sock_filter` and `struct seccomp_data` of linux/filter.h and linux/seccomp.h; numbers of the calls from
the kernel's tables (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h for aarch64).
"""

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass

# name -> (number on x86_64, number on aarch64); None where the architecture has no such call
DENIED: dict[str, tuple[int, int | None]] = {
    # other namespaces and the tree of mounts
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "mknodat": (259, 33), "mknod": (133, None),
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "move_pages": (279, 239), "migrate_pages": (256, 238),
    # doors into the kernel that had many holes
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "fanotify_init": (300, 262), "vmsplice": (278, 75),
    "personality": (135, 92), "modify_ldt": (154, None), "ioperm": (173, None), "iopl": (172, None),
    # the machine itself
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443), "syslog": (103, 116), "vhangup": (153, 58),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "sethostname": (170, 161), "setdomainname": (171, 162), "lookup_dcookie": (212, 18), "nfsservctl": (180, 42),
    # memory that belongs to no process, which a limit for each process does not see
    "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    # a timer can send SIGCONT, which wakes what is stopped between two calls
    "timer_create": (222, 107),
}  # fmt: skip

# Answered "no such call", so that the C library takes its older way: clone3 hides its flags from the filter.
# The last line but one: their numbers are one for the whole machine, or for all processes of a user of the host.
# flock needs no right to write: a lock on a program of the host would keep waiting whoever locks it there.
ABSENT: dict[str, tuple[int, int | None]] = {
    "clone3": (435, 435), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "io_setup": (206, 0), "inotify_init": (253, None), "inotify_init1": (294, 26),
    "flock": (73, 32),
}  # fmt: skip

FIRST_UNKNOWN = 452
"""Calls from here on are newer than this list and are absent too; so are those of the x32 architecture."""

NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET among the flags of clone."""

AF_UNIX = 1
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
F_SETSIG, F_SETLEASE, F_NOTIFY = 10, 1024, 1026
"""Of fcntl: a signal of choice, SIGCONT too, when a file is ready; a lease on a file; word of a folder's changes."""

_LOAD, _JUMP_EQUAL, _JUMP_FROM, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT, _SECOND_ARGUMENT_AT = 0, 4, 16, 24


@dataclass(frozen=True)
class Architecture:
    """column: of the tables above. audit: AUDIT_ARCH_... of linux/audit.h, by which the kernel names it."""

    column: int
    audit: int
    clone: int
    socket: int
    ioctl: int
    fcntl: int


ARCHITECTURES = {
    "x86_64": Architecture(0, 0xC000003E, clone=56, socket=41, ioctl=16, fcntl=72),
    "aarch64": Architecture(1, 0xC00000B7, clone=220, socket=198, ioctl=29, fcntl=25),
}


def filter_program(machine: str) -> bytes | None:
    """The program for `platform.machine()`, ready for the kernel; None for an architecture it is not written for."""
    architecture = ARCHITECTURES.get("aarch64" if machine == "arm64" else machine)
    if architecture is None:
        return None
    return b"".join(_instructions(architecture))


def _instructions(arch: Architecture) -> Iterator[bytes]:
    yield _op(_LOAD, _ARCHITECTURE_AT)
    yield _op(_JUMP_EQUAL, arch.audit, 1, 0)
    yield _op(_RETURN, _KILL)
    yield _op(_LOAD, _NUMBER_AT)
    yield _op(_JUMP_FROM, FIRST_UNKNOWN, 0, 1)
    yield _refuse(errno.ENOSYS)
    for calls, code in ((DENIED, errno.EPERM), (ABSENT, errno.ENOSYS)):
        for numbers in calls.values():
            number = numbers[arch.column]
            if number is not None:
                yield _op(_JUMP_EQUAL, number, 0, 1)
                yield _refuse(code)
    yield _op(_JUMP_EQUAL, arch.clone, 0, 4)
    yield _op(_LOAD, _FIRST_ARGUMENT_AT)
    yield _op(_JUMP_ANY_BIT, NEW_NAMESPACES, 0, 1)
    yield _refuse(errno.EPERM)
    yield _op(_RETURN, _ALLOW)
    yield _op(_JUMP_EQUAL, arch.socket, 0, 4)
    yield _op(_LOAD, _FIRST_ARGUMENT_AT)
    yield _op(_JUMP_EQUAL, AF_UNIX, 1, 0)
    yield _refuse(errno.EACCES)
    yield _op(_RETURN, _ALLOW)
    yield _op(_JUMP_EQUAL, arch.ioctl, 0, 5)
    yield _op(_LOAD, _SECOND_ARGUMENT_AT)
    yield _op(_JUMP_EQUAL, TIOCSTI, 1, 0)
    yield _op(_JUMP_EQUAL, TIOCLINUX, 0, 1)
    yield _refuse(errno.EPERM)
    yield _op(_RETURN, _ALLOW)
    yield _op(_JUMP_EQUAL, arch.fcntl, 0, 5)
    yield _op(_LOAD, _SECOND_ARGUMENT_AT)
    yield _op(_JUMP_EQUAL, F_SETSIG, 2, 0)
    yield _op(_JUMP_EQUAL, F_SETLEASE, 1, 0)
    yield _op(_JUMP_EQUAL, F_NOTIFY, 0, 1)
    yield _refuse(errno.EPERM)
    yield _op(_RETURN, _ALLOW)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refuse(code: int) -> bytes:
    return _op(_RETURN, _ERRNO | code)
