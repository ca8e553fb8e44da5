"""The model behind the engine the product uses: one in-process llama.cpp server, decoding greedily."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xllamacpp

from tools.micro_model.prompts import BEGIN, END_OF_MESSAGE, END_OF_TURN, PYTHON_TAG

MOST_TOKENS = 160


@dataclass(frozen=True)
class Completion:
    """What the model wrote, special tokens included."""

    text: str
    finished: bool
    prompt_tokens: int


class MicroEngine:
    """Completes prompts one at a time with a GGUF file.

    One thread: llama.cpp's waiting threads spin, which on a busy machine is far slower than not having them.
    """

    def __init__(self, path: Path, context: int = 4096) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = context
        params.n_parallel = 1
        params.cpuparams.n_threads = 1
        params.cpuparams_batch.n_threads = 1
        params.n_threads_http = 1
        params.port = 0
        params.ui = False
        params.warmup = False
        params.fit_params = False
        params.verbosity = 0
        params.cache_ram_mib = 0
        self.server = xllamacpp.Server(params)

    def complete(self, prompt: str) -> Completion:
        """The greedy continuation up to the model's own end of turn."""
        body: dict[str, Any] = {
            "prompt": prompt.removeprefix(BEGIN),
            "max_tokens": MOST_TOKENS,
            "temperature": 0,
            "cache_prompt": True,
            "preserved_tokens": [PYTHON_TAG, END_OF_MESSAGE, END_OF_TURN],
        }
        reply = self.server.handle_completions(body)
        if "choices" not in reply:
            raise RuntimeError(f"the engine refused a prompt: {reply}")
        choice = reply["choices"][0]
        return Completion(choice["text"], choice["finish_reason"] == "stop", reply["usage"]["prompt_tokens"])
