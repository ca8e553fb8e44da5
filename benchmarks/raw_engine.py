"""The embedded engine without a stack around it: the limit of `benchmarks.engine`.

    python -m benchmarks.raw_engine model.gguf

Loads the model exactly as the product's worker process does. Its first line of output is the address of the engine's
own HTTP listener and its key. Then each line of input is a JSON order, done in this process by calling the engine
directly, and answered with a line `{"tokens": ..., "seconds": ...}`:

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

from llama_stack_providers.inline._llama_cpp.worker import WorkerOrders, start_server

SLOTS = 4


def orders(model_path: str, context_length: int, threads: int) -> WorkerOrders:
    return WorkerOrders(
        model_path=model_path,
        socket=None,
        api_key=secrets.token_hex(16),
        context_length=context_length,
        slots=SLOTS,
        threads=threads,
        http_threads=2 * SLOTS,
    )


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
    wanted = orders(arguments.model, arguments.context_length, arguments.threads)
    server = start_server(wanted)
    print(json.dumps({"address": str(server.listening_address), "api_key": wanted.api_key}), flush=True)
    for line in sys.stdin:
        print(json.dumps(obey(server, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
