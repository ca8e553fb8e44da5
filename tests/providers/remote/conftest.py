"""The provider as a distribution opens it, over real sockets."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_stack.api.inference import Inference
from llama_stack.provider import Ground
from llama_stack_providers.remote.openai_compatible import Config, provider

KEY = "sk-configured-0123456789"

Open = Callable[..., AbstractAsyncContextManager[Inference]]


@pytest.fixture
def open_provider(tmp_path: Path) -> Open:
    @asynccontextmanager
    async def opened(url: str, **settings: Any) -> AsyncIterator[Inference]:
        config = Config.model_validate({"base_url": url, "api_key": KEY, **settings})
        async with provider.open(config, Ground(home=tmp_path, state=tmp_path)) as inference:
            yield inference

    return opened
