"""A terminal of a given width, for what is drawn on terminals only. There is none on Windows."""

import fcntl
import os
import pty
import struct
import subprocess
import termios

from tests.cli.running import LLAMA


def run_in_terminal(*arguments: str, columns: int = 80, typed: str = "", **env: str) -> str:
    """What `llama` shows on a terminal of that width, colour codes included; `typed` is what the person answers."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    inherited = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    with subprocess.Popen(
        [str(LLAMA), *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**inherited, "TERM": "xterm-256color", **env},
        start_new_session=True,
    ) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:
            pass  # Linux reports the other end's closing as an error
        finally:
            os.close(ours)
            process.wait(timeout=60)
    return shown.decode().replace("\r\n", "\n")
