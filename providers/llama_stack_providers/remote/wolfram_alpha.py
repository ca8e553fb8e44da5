"""Wolfram|Alpha: computed answers, through its LLM API or its Full Results API.

LLM API (products.wolframalpha.com/llm-api/documentation): `GET /api/v1/llm-api?input=...`, the AppID as bearer token;
plain text made for models; 501 when the input is not understood, with suggestions in the body.
Full Results API (products.wolframalpha.com/api/documentation): `GET /v2/query?appid=...&input=...&output=json`; pods of
plain text; `success` false when the input is not understood, `error` for a fault.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from pydantic import Field

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.tools import ToolResult, Tools
from llama_stack.errors import ProviderFailed
from llama_stack.provider import InferenceFloor, ToolsProvider
from llama_stack_providers.remote._query_tool.settings import ServiceSettings
from llama_stack_providers.remote._query_tool.text import clean, cut, printable_lines

if TYPE_CHECKING:
    from llama_stack_providers.remote._query_tool.service import Service

NAME = "Wolfram|Alpha"
CREDENTIAL = "wolfram_alpha_api_key"
NOT_UNDERSTOOD = 501
BAD_KEY_CODES = ("1", "2")
"""Error codes of the Full Results API for an invalid and a missing AppID."""
MAX_PODS = 40
MAX_SUGGESTION_BYTES = 2000


class Config(ServiceSettings):
    api: Literal["llm", "full_results"] = Field("llm", description="which of its APIs is asked; a key fits only one")
    units: Literal["metric", "nonmetric"] | None = Field(None, description="units of measure; its own by default")


class WolframAlpha:
    def __init__(self, service: "Service", config: Config) -> None:
        self._service = service
        self._config = config

    async def answer(self, query: str, caller: Caller) -> ToolResult:
        key = self._service.key_for(caller)
        parameters = {"input": query}
        if self._config.units is not None:
            parameters["units"] = self._config.units
        ask = self._llm if self._config.api == "llm" else self._full_results
        with self._service.failures(key):
            text = await ask(parameters, key)
        if not text:
            raise ProviderFailed(f"{NAME} sent an answer without text in it")
        source = {"title": f"{NAME}: {query}", "url": f"https://www.wolframalpha.com/input?i={quote(query, safe='')}"}
        return ToolResult(content=cut(text, self._config.max_result_bytes), metadata={"sources": [source]})

    async def _llm(self, parameters: dict[str, str], key: str) -> str:
        reply = await self._service.ask(
            "GET",
            "api/v1/llm-api",
            key=key,
            headers={"authorization": f"Bearer {key}"},
            query={**parameters, "maxchars": str(self._config.max_result_bytes)},
            answers=(NOT_UNDERSTOOD,),
        )
        text = printable_lines(reply.body.decode("utf-8", "replace"))
        if reply.status == NOT_UNDERSTOOD:
            raise _not_understood(text)
        return text

    async def _full_results(self, parameters: dict[str, str], key: str) -> str:
        fixed = {"appid": key, "output": "json", "format": "plaintext"}
        answer = await self._service.ask_json("GET", "v2/query", key=key, headers={}, query={**parameters, **fixed})
        result = answer.get("queryresult")
        if not isinstance(result, dict):
            raise ProviderFailed(f"{NAME} sent an answer without a query result in it")
        error = result.get("error")
        if error:
            told = error if isinstance(error, dict) else {}
            message = clean(told.get("msg")) or "it did not say why"
            if str(told.get("code")) in BAD_KEY_CODES:
                raise self._service.refused_key(message, 403)
            raise ProviderFailed(f"{NAME} failed: {cut(message, MAX_SUGGESTION_BYTES)}")
        if result.get("success") is not True:
            raise _not_understood(_suggestions(result))
        return _pods(result)


def _not_understood(suggestions: str) -> ProviderFailed:
    text = f"{NAME} did not understand the query. Ask in fewer and simpler English words, or as a formula."
    return ProviderFailed(f"{text}\n{cut(suggestions, MAX_SUGGESTION_BYTES)}".strip(), code="not_understood")


def _suggestions(result: JsonObject) -> str:
    """didyoumeans: a list of `{"val": ...}`, or one of them alone."""
    listed = result.get("didyoumeans")
    entries = listed if isinstance(listed, list) else [listed]
    values = [clean(entry.get("val")) for entry in entries if isinstance(entry, dict)]
    return f"Did you mean: {'; '.join(filter(None, values))}" if any(values) else ""


def _pods(result: JsonObject) -> str:
    """The text of each pod under its title, in the service's order."""
    pods = result.get("pods")
    sections = []
    for pod in pods[:MAX_PODS] if isinstance(pods, list) else []:
        subpods = pod.get("subpods") if isinstance(pod, dict) else None
        texts = [_plain(subpod) for subpod in subpods] if isinstance(subpods, list) else []
        body = "\n".join(filter(None, texts))
        if body:
            sections.append(f"{clean(pod.get('title')) or 'Answer'}:\n{body}")
    return "\n\n".join(sections)


def _plain(subpod: Any) -> str:
    text = subpod.get("plaintext") if isinstance(subpod, dict) else None
    return printable_lines(text) if isinstance(text, str) else ""


@asynccontextmanager
async def open_wolfram_alpha(config: Config, floor: InferenceFloor) -> AsyncIterator[Tools]:
    from llama_stack_providers.remote._query_tool.service import Vendor, open_service
    from llama_stack_providers.remote._query_tool.tools import QueryTools

    host = "www" if config.api == "llm" else "api"
    vendor = Vendor(NAME, f"https://{host}.wolframalpha.com/", "WOLFRAM_ALPHA_API_KEY", CREDENTIAL)
    async with open_service(vendor, config, floor.ground) as service:
        yield QueryTools(
            "wolfram_alpha",
            "Compute or look up with Wolfram|Alpha: mathematics, units, dates, science, statistics.",
            "A formula or a short question in English.",
            WolframAlpha(service, config).answer,
        )


provider = ToolsProvider(
    summary="Computed answers from Wolfram|Alpha",
    config=Config,
    open=open_wolfram_alpha,
    credentials={CREDENTIAL: "api_key"},
)
