"""Taking the port before anything else is started, and naming who holds it when it is taken."""

import errno
import socket
from pathlib import Path

from llama_stack.errors import ConfigError


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. port 0 takes any free one.

    Raises ConfigError when the address is taken (naming the holder where it can be found) or is not ours.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise ConfigError(
            f"the address {host!r} cannot be resolved: {error.strerror}",
            where="server.host",
            remedy="Use 127.0.0.1 for this machine only, or 0.0.0.0 for every network.",
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, error) from error
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        holder = port_holder(port)
        by = f" by {holder}" if holder else ""
        return ConfigError(
            f"port {port} on {host} is in use{by}",
            where="server.port",
            remedy=f"Stop it, or choose another port with --port {port + 1}.",
        )
    if error.errno == errno.EACCES:
        return ConfigError(
            f"port {port} needs rights this user does not have",
            where="server.port",
            remedy="Choose a port above 1023, such as --port 8321.",
        )
    return ConfigError(
        f"cannot listen on {host}:{port}: {error.strerror}",
        where="server.host",
        remedy="Use an address of this machine, such as 127.0.0.1 or 0.0.0.0.",
    )


_LISTENING = "0A"


def port_holder(port: int, proc: Path = Path("/proc")) -> str | None:
    """`name (pid)` of a process that listens on the port; None where the system does not tell (proc(5), Linux only)."""
    inodes: set[str] = set()
    for table in (proc / "net" / "tcp", proc / "net" / "tcp6"):
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            local, state, inode = fields[1], fields[3], fields[9]
            if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{inode}]")
    for descriptor in proc.glob("[0-9]*/fd/*") if inodes else ():
        try:
            if str(descriptor.readlink()) in inodes:
                process = descriptor.parent.parent
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            # Gone meanwhile, or another user's.
            continue
    return None
