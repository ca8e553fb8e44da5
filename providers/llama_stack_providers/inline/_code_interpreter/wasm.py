"""The driver for every system: Python in WebAssembly (Pyodide) in Deno, which grants it nothing but its own files."""

import asyncio
import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from llama_stack_providers.inline._code_interpreter.driver import (
    MB,
    WORKER,
    WORKER_VARIABLES,
    DriverUnavailable,
    Limit,
    ProcessSandbox,
    spawn,
    worker_orders,
)
from llama_stack_providers.inline._code_interpreter.processes import memory_of
from llama_stack_providers.inline._code_interpreter.settings import Config

WASM_WORKER = Path(__file__).with_name("wasm_worker.mjs")
NEEDED = ("pyodide.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")

PAGES_PER_MB = 16
ENGINE_MB = 512
"""What Deno and V8 themselves may take beside the memory of Python."""

WATCH_EVERY_S = 0.1

END_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]): os.execv(sys.argv[2], sys.argv[2:])
"""
"""PR_SET_PDEATHSIG: the kernel kills Deno when the server is gone, also one that is busy and reads no more."""


class WasmDriver:
    """Starts Deno without any permission but to read Pyodide's folder: no network, no processes, no files.

    Deno cannot run under a limit of address space, so WebAssembly's memory is bounded by V8, and on Linux a watch
    bounds the process. There is no limit on processors.
    """

    name = "wasm"
    warm = 1
    start_timeout_s = 60.0

    def __init__(self, config: Config, home: Path) -> None:
        self.config = config
        self.folder = config.pyodide or home / "pyodide"
        self._deno = ""

    async def check(self) -> None:
        deno = find_deno()
        if deno is None:
            raise DriverUnavailable("Deno is not installed; install it: pip install 'llama-stack[code-wasm]'")
        missing = [name for name in NEEDED if not (self.folder / name).is_file()]
        if missing:
            raise DriverUnavailable(
                f"Pyodide is not in {self.folder}: there is no {missing[0]}; fetch it: "
                f"python -m llama_stack_providers.inline._code_interpreter.pyodide {self.folder}"
            )
        self._deno = deno

    async def start(self) -> "WasmSandbox":
        folder = self.folder.resolve()
        variables = {name: WORKER_VARIABLES[name] for name in ("HOME", "TMPDIR", "MPLBACKEND", "MPLCONFIGDIR")}
        orders = worker_orders(self.config, own_pids=False, variables=variables)
        command = [
            *(self._deno, "run", "--quiet", "--no-prompt", "--no-remote", "--no-npm", "--cached-only"),
            *("--no-lock", "--no-config", f"--allow-read={folder}"),
            f"--v8-flags=--wasm-max-mem-pages={self.config.memory_mb * PAGES_PER_MB},--max-old-space-size={ENGINE_MB}",
            *(str(WASM_WORKER), folder.as_uri() + "/", WORKER.read_text(encoding="utf-8"), json.dumps(orders)),
        ]
        environment = {"DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1", "DENO_DIR": str(folder / ".deno")}
        if sys.platform == "win32":
            environment["SYSTEMROOT"] = "C:\\Windows"  # without it no process starts there
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", END_WITH_PARENT, str(os.getpid()), *command]
        process = await spawn(command, environment, self.config.reply_limit)
        return WasmSandbox(process, (self.config.memory_mb + ENGINE_MB) * MB)


class WasmSandbox(ProcessSandbox):
    """Deno's process, and on Linux a watch over its memory."""

    def __init__(self, process: asyncio.subprocess.Process, memory_bytes: int) -> None:
        super().__init__(process)
        self.memory_bytes = memory_bytes
        self._over: Limit | None = None
        self._watch = asyncio.create_task(self._watch_memory(), name=f"watch sandbox {process.pid}")

    async def _watch_memory(self) -> None:
        while self.process.returncode is None:
            if await asyncio.to_thread(memory_of, self.process.pid) > self.memory_bytes:
                self._over = "memory"
                with suppress(ProcessLookupError):
                    self.process.kill()
            await asyncio.sleep(WATCH_EVERY_S)

    def over(self, status: int | None) -> Limit | None:
        return self._over

    async def kill(self) -> None:
        self._watch.cancel()
        await super().kill()


def find_deno() -> str | None:
    """Deno from its Python package, else from the path."""
    with suppress(ImportError, FileNotFoundError):
        import deno

        return str(deno.find_deno_bin())
    return shutil.which("deno")
