"""The embedded engine without a stack around it: the limit of `benchmarks.engine`.

    python -m benchmarks.raw_engine model.gguf

Loads the model with the settings of the product's worker process. Its first line of output is the address of the
engine's own HTTP listener and its key. Then each line of input is a JSON order, done in this process by calling the
engine directly, and answered with a line `{"tokens": ..., "seconds": ...}`:

    {"chat": false, "bodies": [{"prompt": "...", "max_tokens": 128}, ...], "parallel": 4}
"""

import argparse
import json
import secrets
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SLOTS = 4


def start_engine(model_path: str, api_key: str, context_length: int, threads: int) -> Any:
    """The engine with what our worker process gives it, and its own defaults for all else."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model_path
    params.api_keys = [api_key]
    params.n_ctx = context_length * SLOTS
    params.n_parallel = SLOTS
    params.n_batch = params.n_ubatch = 512
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_threads_http = 2 * SLOTS
    params.cache_ram_mib = 64
    params.verbosity = 1  # errors only
    params.ui = params.warmup = params.fit_params = False
    return xllamacpp.Server(params)


def complete(handle: Callable[..., Any], body: dict[str, Any]) -> int:
    """Tokens of one answer, streamed to a callback or whole. Raises RuntimeError with what the engine refused."""
    last: dict[str, Any] = {}

    def on_chunk(chunk: dict[str, Any]) -> None:
        if "error" in chunk or chunk.get("usage"):
            last.update(chunk)

    answer = last if body.get("stream") else handle(body)
    if body.get("stream"):
        handle(body, on_chunk)
    if "usage" not in answer:
        raise RuntimeError(f"the engine answered {answer}")
    return int(answer["usage"]["completion_tokens"])


def obey(server: Any, order: dict[str, Any]) -> dict[str, float]:
    handle = server.handle_chat_completions if order["chat"] else server.handle_completions
    with ThreadPoolExecutor(order["parallel"]) as pool:
        start = time.perf_counter()
        tokens = sum(pool.map(lambda body: complete(handle, body), order["bodies"]))
        return {"tokens": tokens, "seconds": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description="The embedded engine alone.")
    parser.add_argument("model")
    parser.add_argument("--context-length", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    api_key = secrets.token_hex(16)
    server = start_engine(arguments.model, api_key, arguments.context_length, arguments.threads)
    print(json.dumps({"address": str(server.listening_address), "api_key": api_key}), flush=True)
    for line in sys.stdin:
        print(json.dumps(obey(server, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
