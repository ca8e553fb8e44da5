"""Libraries that are installed by an extra of ours."""

import asyncio
from importlib import import_module
from types import ModuleType

from llama_stack.errors import ProviderUnavailable


async def library(module: str, extra: str) -> ModuleType:
    """Imported off the event loop, because the large ones take a second.

    Raises ProviderUnavailable with the command that installs it.
    """
    try:
        return await asyncio.to_thread(import_module, module)
    except ImportError as error:
        raise ProviderUnavailable(
            f"the library {module} is not installed or does not load: pip install 'llama-stack[{extra}]'"
        ) from error
