"""The child process that holds one model: `python -m llama_stack_providers.inline._llama_cpp.worker`.

Wrong parameters, a bad file or a bug in native code end a process, not an exception handler; so each model lives in a
process of its own. Standard input brings one line of JSON (the fields of `WorkerOrders`) and then nothing; its end
means that the parent is gone, and the worker goes too. Standard output carries one line of JSON, `{"address": ...}`
or `{"error": ...}`; llama.cpp's own words go to standard error.

Imports nothing heavy: this is the start-up time of the first answer.
"""

import json
import os
import select
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

NO_ENGINE = (
    "The embedded engine is the package xllamacpp (pip install 'xllamacpp>=2026.10,<2027'). It has no wheel for Alpine "
    "or for Windows on Arm: use a remote provider there"
)


@dataclass(frozen=True)
class WorkerOrders:
    """What a worker is to load.

    socket: path of the unix socket to listen on; None listens on a free loopback port.
    context_length: tokens of one slot. purpose: "chat", "embedding" or "rerank".
    batch_tokens: prompt tokens computed between two looks at whether the request was cancelled.
    http_threads: one is held by each connection, so it bounds them.
    """

    model_path: str
    socket: str | None
    api_key: str
    context_length: int
    slots: int
    threads: int
    batch_tokens: int
    http_threads: int
    purpose: str = "chat"
    low_memory: bool = False

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


def main() -> None:
    # Ctrl-C reaches the whole process group; the parent decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    report_fd = os.dup(1)
    os.dup2(2, 1)  # whatever native code prints must not mix with the report
    orders = WorkerOrders(**json.loads(sys.stdin.buffer.readline()))
    try:
        server = start_server(orders)
    except ImportError as error:
        server = None
        report = {"error": f"{error}. {NO_ENGINE}"}
    except (RuntimeError, ValueError, OSError) as error:
        server = None
        report = {"error": str(error)}
    else:
        report = {"address": str(server.listening_address)}
    with suppress(BrokenPipeError):
        os.write(report_fd, json.dumps(report).encode() + b"\n")
    os.close(report_fd)
    if server is not None:
        wait_for_parent()
    if orders.socket is not None:
        remove_socket(orders.socket)
    # Requests may be under way: a tidy shutdown would wait for them.
    os._exit(0 if server is not None else 1)


def start_server(orders: WorkerOrders) -> Any:
    """Load the model; returns when it can answer. Raises RuntimeError when it cannot be loaded."""
    os.environ["GGML_NO_BACKTRACE"] = "1"  # else a failed assertion starts a debugger
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = orders.model_path
    if orders.socket is not None:
        params.hostnames = [orders.socket]
    params.api_keys = [orders.api_key]
    params.n_ctx = orders.context_length * orders.slots
    params.n_parallel = orders.slots
    params.n_batch = params.n_ubatch = orders.batch_tokens
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = orders.threads
    params.n_threads_http = orders.http_threads
    params.no_extra_bufts = orders.low_memory
    params.cache_ram_mib = 64
    params.verbosity = 1  # errors only; 0 would hide why a model does not load
    params.ui = params.warmup = params.fit_params = False
    if orders.purpose != "chat":
        params.embedding = True
        # Pooling needs a whole input in one physical batch.
        params.n_batch = params.n_ubatch = max(orders.batch_tokens, orders.context_length)
    if orders.purpose == "rerank":
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    return xllamacpp.Server(params)


def wait_for_parent() -> None:
    """Return when standard input ends, or when the parent is another process than before.

    The second matters where a process that the parent forked keeps our standard input open.
    """
    if sys.platform == "win32":
        sys.stdin.buffer.read()
        return
    parent = os.getppid()
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], 2.0)
        if readable and not os.read(0, 4096):
            return


def remove_socket(socket: str) -> None:
    """Remove the socket and its folder: the parent may have been killed before it could."""
    with suppress(OSError):
        os.unlink(socket)  # noqa: PTH108 - pathlib costs start-up time
    with suppress(OSError):
        os.rmdir(os.path.dirname(socket))  # noqa: PTH106, PTH120


if __name__ == "__main__":
    main()
