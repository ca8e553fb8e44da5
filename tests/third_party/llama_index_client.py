"""A user of llama-index: runs in an environment of its own, and knows nothing of this repository.

Reads one request a line from stdin, `{"do": "ask" | "stream" | "contact", "url": ..., "question": ..., ...}`, and
writes one answer a line: `{"answer": ...}`, or `{"error": ..., "kinds": [...], "status": ...}` for what was raised.
"""

import asyncio
import json
import sys
from typing import Any

from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

WEATHER = {"Oslo": "snow", "Cairo": "sunny"}


def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    if city not in WEATHER:
        raise ValueError(f"no weather for {city}")
    return WEATHER[city]


class Contact(BaseModel):
    name: str
    city: str


def model_of(request: dict[str, Any]) -> OpenAILike:
    return OpenAILike(
        model=request.get("model", "scripted"),
        api_base=f"{request['url']}/v1",
        api_key="none",
        is_chat_model=True,
        is_function_calling_model=True,
        should_use_structured_outputs=True,
        max_retries=0,
    )


async def ask(request: dict[str, Any]) -> str:
    history = []
    for question, answer in request.get("history", ()):
        history += [ChatMessage(role="user", content=question), ChatMessage(role="assistant", content=answer)]
    blocks: list[Any] = [TextBlock(text=request["question"])]
    if request.get("image"):
        blocks.append(ImageBlock(url=request["image"]))
    asked = ChatMessage(role="user", blocks=blocks)
    if request.get("with_tool"):
        agent = FunctionAgent(tools=[get_weather], llm=model_of(request), streaming=False)
        return str(await agent.run(asked, chat_history=history))
    return (await model_of(request).achat([*history, asked])).message.content or ""


async def stream(request: dict[str, Any]) -> list[str]:
    if request.get("with_tool"):
        running = FunctionAgent(tools=[get_weather], llm=model_of(request)).run(request["question"])
        pieces = [event.delta async for event in running.stream_events() if isinstance(event, AgentStream)]
        await running
        return pieces
    chunks = await model_of(request).astream_chat([ChatMessage(role="user", content=request["question"])])
    return [chunk.delta or "" async for chunk in chunks]


async def contact(request: dict[str, Any]) -> dict[str, Any]:
    prompt = PromptTemplate("{question}")
    found: Contact = await model_of(request).astructured_predict(Contact, prompt, question=request["question"])
    return found.model_dump()


async def answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"answer": await {"ask": ask, "stream": stream, "contact": contact}[request["do"]](request)}
    except Exception as error:  # all that the package raises is told to the test
        return told(error)


def told(error: BaseException) -> dict[str, Any]:
    kinds = [kind.__name__ for kind in type(error).__mro__]
    return {"error": str(error), "kinds": kinds, "status": getattr(error, "status_code", None)}


for line in sys.stdin:
    print(json.dumps(asyncio.run(answer(json.loads(line)))), flush=True)
