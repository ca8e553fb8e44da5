"""Any server that speaks OpenAI's wire format: vLLM, SGLang, llama.cpp, Ollama, LM Studio, a partner's cloud."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import AnyHttpUrl, Field, SecretStr, field_validator

from llama_stack.api.inference import Inference
from llama_stack.provider import Ground, InferenceProvider, ProviderConfig
from llama_stack_providers.remote._openai.keys import is_sendable


class Config(ProviderConfig):
    base_url: AnyHttpUrl = Field(description="where the API begins, usually ending in /v1")
    api_key: SecretStr | None = Field(None, description="sent as bearer token; empty for a server that wants none")
    credential_name: str = Field(
        "openai_compatible_api_key", description="name under which a caller may send a key of its own with a request"
    )
    models: list[str] | None = Field(None, description="names of its models, for a server that cannot list them")
    vision: bool = Field(
        True, description="whether its models read images; `metadata: {vision: false}` of a model says so of that one"
    )
    form_guaranteed: bool = Field(
        False,
        description="whether the server lets a model write nothing off a JSON schema, as vLLM, SGLang and llama.cpp do;"
        " an agent's answer in a form is then streamed as it comes instead of checked first",
    )
    headers: dict[str, SecretStr] = Field({}, description="further headers for every request")
    timeout_s: float = Field(
        120.0, gt=0, description="longest wait for a stream to begin and between two of its pieces"
    )
    answer_timeout_s: float = Field(600.0, gt=0, description="longest wait for an answer that comes in one piece")
    max_connections: int = Field(256, ge=1, description="requests that may be under way at the same time; others wait")

    @field_validator("api_key")
    @classmethod
    def _sendable(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None or not key.get_secret_value():
            return None
        if not is_sendable(key.get_secret_value()):
            raise ValueError("must be printable ASCII without line breaks")
        return key


@asynccontextmanager
async def open_openai_compatible(config: Config, ground: Ground) -> AsyncIterator[Inference]:
    from llama_stack_providers.remote._openai.dialect import OpenAIDialect

    headers = {name: value.get_secret_value() for name, value in config.headers.items()}
    async with ground.http(
        str(config.base_url),
        headers=headers,
        timeout_s=config.timeout_s,
        max_connections=config.max_connections,
    ) as http:
        yield OpenAIDialect(
            http,
            key=config.api_key.get_secret_value() if config.api_key else None,
            credential_name=config.credential_name,
            models=config.models,
            vision=config.vision,
            form_guaranteed=config.form_guaranteed,
            answer_timeout_s=config.answer_timeout_s,
            secrets=[value for value in headers.values() if value],
        )


provider = InferenceProvider(
    summary="Any server that speaks OpenAI's wire format, by URL and key",
    config=Config,
    open=open_openai_compatible,
    credentials={"openai_compatible_api_key": "api_key"},
)
