"""The driver that isolates nothing: the code runs with all rights of the server. Only by name, and twice said."""

import json
import os
import shutil
import sys
import tempfile
from asyncio.subprocess import Process
from pathlib import Path

from llama_stack_providers.inline._code_interpreter.driver import (
    WORKER,
    WORKER_VARIABLES,
    DriverUnavailable,
    ProcessSandbox,
    spawn,
    worker_orders,
)
from llama_stack_providers.inline._code_interpreter.interpreter import find_interpreter
from llama_stack_providers.inline._code_interpreter.settings import Config


class UnsafeSubprocessDriver:
    """A plain child process with limits on its resources, in a folder of its own."""

    name = "unsafe_subprocess"
    warm = 0
    start_timeout_s = 15.0

    def __init__(self, config: Config, home: Path) -> None:
        self.config = config

    async def check(self) -> None:
        if sys.platform == "win32":
            raise DriverUnavailable("unsafe_subprocess needs Linux or macOS; use the driver wasm or container")

    async def start(self) -> "UnsafeSandbox":
        interpreter = find_interpreter(self.config.python)
        folder = Path(tempfile.mkdtemp(prefix="llama-code-"))
        # A limit on processes counts all of this user's; and to stop "all others" would reach the whole machine.
        orders = worker_orders(
            self.config, folder=str(folder), packages=list(interpreter.packages), processes=0, own_pids=False
        )
        variables = {name: value.replace("/sandbox", str(folder)) for name, value in WORKER_VARIABLES.items()}
        command = [interpreter.program, "-I", "-S", "-X", "utf8", "-c", WORKER.read_text(encoding="utf-8")]
        try:
            process = await spawn([*command, json.dumps(orders)], variables, self.config.reply_limit)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return UnsafeSandbox(process, folder)


class UnsafeSandbox(ProcessSandbox):
    def __init__(self, process: Process, folder: Path) -> None:
        super().__init__(process)
        self.folder = folder

    async def kill(self) -> None:
        if self.process.returncode is None:
            os.killpg(self.process.pid, 9)  # spawned as the leader of a group of its own
        await super().kill()
        shutil.rmtree(self.folder, ignore_errors=True)
