"""Which driver runs the code: the one asked for, or the first of an order that passes its self-test."""

import logging
from collections.abc import Callable
from pathlib import Path

from llama_stack_providers.inline._code_interpreter.bubblewrap import BubblewrapDriver
from llama_stack_providers.inline._code_interpreter.container import ContainerDriver
from llama_stack_providers.inline._code_interpreter.driver import Driver, DriverUnavailable
from llama_stack_providers.inline._code_interpreter.selftest import self_test
from llama_stack_providers.inline._code_interpreter.settings import Config
from llama_stack_providers.inline._code_interpreter.unsafe_subprocess import UnsafeSubprocessDriver
from llama_stack_providers.inline._code_interpreter.wasm import WasmDriver

logger = logging.getLogger("llama_stack.code_interpreter")

DRIVERS: dict[str, Callable[[Config, Path], Driver]] = {
    "bubblewrap": BubblewrapDriver,
    "wasm": WasmDriver,
    "container": ContainerDriver,
    "unsafe_subprocess": UnsafeSubprocessDriver,
}

TESTED_SETTINGS = {
    "memory_mb", "processes", "disk_mb", "python", "pyodide", "container_engine", "container_image", "container_runtime"
}  # fmt: skip
"""Settings on which it depends whether a sandbox holds."""

_passed: set[str] = set()
"""Drivers with such settings whose self-test this process has seen pass."""


async def choose_driver(config: Config, home: Path) -> Driver:
    """A driver that has passed its self-test in this process. Raises DriverUnavailable with what to do about each."""
    names = config.driver_order if config.driver == "auto" else [config.driver]
    reasons = []
    for name in names:
        driver = DRIVERS[name](config, home)
        try:
            await _ready(driver, config)
        except DriverUnavailable as error:
            reasons.append(f"{name}: {error.message}")
            continue
        if reasons:
            logger.warning("the code interpreter uses %s, because %s", name, "; ".join(reasons))
        return driver
    raise DriverUnavailable("the code interpreter has no sandbox on this machine. " + "; ".join(reasons))


async def _ready(driver: Driver, config: Config) -> None:
    await driver.check()
    key = f"{driver.name} {config.model_dump_json(include=TESTED_SETTINGS)}"
    if driver.name == "unsafe_subprocess":
        logger.warning("the code interpreter runs code without isolation, as its settings say")
    elif key not in _passed:
        await self_test(driver, config)
        _passed.add(key)
