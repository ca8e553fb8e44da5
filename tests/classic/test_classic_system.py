"""Models, providers, routes, version and health, as the unmodified client sees them."""

import pytest
from llama_stack_client import NotFoundError

from llama_stack import __version__
from tests.classic.conftest import Start


async def test_models_in_the_classic_shape(start: Start) -> None:
    async with start() as server:
        llm, embedding = await server.client.models.list()
        one = await server.client.models.retrieve("meta-llama/scripted-embedding")
        with pytest.raises(NotFoundError, match="there are: scripted"):
            await server.client.models.retrieve("nope")
    assert (llm.identifier, llm.api_model_type, llm.provider_id, llm.type) == ("scripted", "llm", "scripted", "model")
    assert llm.provider_resource_id == "script-1"
    assert embedding.api_model_type == "embedding"
    assert embedding.metadata["embedding_dimension"] == 2
    assert one == embedding


async def test_providers_routes_version_and_health(start: Start) -> None:
    async with start() as server:
        (provider,) = await server.client.providers.list()
        again = await server.client.providers.retrieve("scripted")
        routes = await server.client.routes.list()
        version = await server.client.inspect.version()
        health = await server.client.inspect.health()
        with pytest.raises(NotFoundError):
            await server.client.providers.retrieve("nope")
    assert (provider.api, provider.provider_id, provider.provider_type) == ("inference", "scripted", "inline::scripted")
    assert provider.config == {"api_key": "**********"}
    assert provider.health == {"status": "ok"}
    assert again == provider
    chat = next(route for route in routes if route.route == "/v1/inference/chat-completion")
    assert (chat.method, chat.provider_types) == ("POST", ["inline::scripted"])
    assert version.version == __version__
    assert health.status == "OK"
