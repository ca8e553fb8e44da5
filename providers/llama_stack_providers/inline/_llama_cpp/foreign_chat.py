"""Chat with any other GGUF model: its own chat template, rendered and read back by llama.cpp.

llama.cpp's chat endpoint speaks OpenAI's dialect. Three things it does not do are done around it: it does not enforce
`tool_choice`, its JSON grammar lets a weak model wander in whitespace, and it does not say beforehand that an answer
will not fit. So where an answer must have a form, the template is rendered there and continued here, by a grammar.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import ChatEnd, ChatEvent, ChatRequest, TextFormat
from llama_stack.api.messages import Message, TextPart, has_images
from llama_stack.api.tools import NamedToolChoice, ToolDefinition
from llama_stack.errors import InvalidRequest, ProviderFailed, UnsupportedParameter
from llama_stack.wire.llama_prompts.families import LlamaFamily
from llama_stack.wire.openai_chat import ChatChunkDecoder, encode_chat_request
from llama_stack_providers.inline._llama_cpp.answer import chat_events
from llama_stack_providers.inline._llama_cpp.engine import Engine
from llama_stack_providers.inline._llama_cpp.family import renders_tools
from llama_stack_providers.inline._llama_cpp.generation import Generation, Tally, check_room, generate
from llama_stack_providers.inline._llama_cpp.grammar import call_grammar, format_grammar, must_call
from llama_stack_providers.inline._llama_cpp.sampling import sampling_fields

CHAT = "/v1/chat/completions"
_UNREADABLE = "does not match the expected"
_PLAIN_CALLS = LlamaFamily.LLAMA_4
"""Here only for the family without builtin tools: every call is written as JSON."""

_PROMPT_FIELDS = ("messages", "tools", "chat_template_kwargs")


async def foreign_chat(engine: Engine, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
    body = _chat_body(engine, request)
    if must_call(request) or not isinstance(request.response_format, TextFormat):
        events = _constrained(engine, request, body)
    else:
        events = _free(engine, request, body)
    async with aclosing(events):
        async for event in events:
            yield event


async def foreign_prompt(engine: Engine, request: ChatRequest) -> str:
    """What the model reads."""
    return await _prompt(engine, _chat_body(engine, request))


def forced_tools(request: ChatRequest) -> list[ToolDefinition]:
    """The tools one of which must be called; none where the model may also answer in words."""
    if not must_call(request):
        return []
    choice = request.tool_choice
    return [tool for tool in request.tools if not isinstance(choice, NamedToolChoice) or tool.name in choice.names]


def _offered(request: ChatRequest) -> list[ToolDefinition]:
    choice = request.tool_choice
    if isinstance(choice, NamedToolChoice) and choice.mode == "auto":
        return [tool for tool in request.tools if tool.name in choice.names]
    return [] if choice == "none" else request.tools


def _chat_body(engine: Engine, request: ChatRequest) -> JsonObject:
    """The chat endpoint's body: OpenAI's shape for the conversation, llama.cpp's names for the sampling."""
    if not request.messages:
        raise InvalidRequest("a conversation needs at least one message", param="messages")
    if has_images(request.messages):
        raise UnsupportedParameter(f"model {engine.model!r} reads no images here", param="messages")
    offered = _offered(request)
    if offered and not renders_tools(engine.header):
        raise UnsupportedParameter(f"the chat template of model {engine.model!r} has no place for tools", param="tools")
    if request.tool_prompt_format is not None:
        raise UnsupportedParameter(
            f"model {engine.model!r} writes tools in its own form; leave tool_prompt_format out",
            param="tool_prompt_format",
        )
    if request.n > engine.slots:
        raise UnsupportedParameter(f"model {engine.model!r} gives at most {engine.slots} answers at once", param="n")
    plain = request.model_copy(
        update={
            "messages": [_without_control_tokens(engine, message) for message in request.messages],
            "tools": offered,
            "tool_choice": "auto",
            "sampling": request.sampling.model_copy(update={"logit_bias": {}, "repetition_penalty": None}),
            "extra": {},
            "user": None,
            "reasoning_effort": None,
        }
    )
    body = {**encode_chat_request(plain), **_sampling(engine, request)}
    if request.reasoning_effort == "none":
        body["chat_template_kwargs"] = {"enable_thinking": False}
    elif request.reasoning_effort is not None:
        if "reasoning_effort" not in (engine.header.chat_template or ""):
            raise UnsupportedParameter(
                f"model {engine.model!r} has no adjustable reasoning; leave reasoning_effort out",
                param="reasoning_effort",
            )
        body["chat_template_kwargs"] = {"reasoning_effort": request.reasoning_effort}
    return body


def _without_control_tokens(engine: Engine, message: Message) -> Message:
    """The message with a space inside whatever spells a control token: llama.cpp would read it as the token."""
    if isinstance(message.content, str):
        return message.model_copy(update={"content": _defused(engine, message.content)})
    if message.content is None:
        return message
    parts = [
        part.model_copy(update={"text": _defused(engine, part.text)}) if isinstance(part, TextPart) else part
        for part in message.content
    ]
    return message.model_copy(update={"content": parts})


def _defused(engine: Engine, text: str) -> str:
    for token in engine.header.control_tokens:
        if token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def _sampling(engine: Engine, request: ChatRequest) -> dict[str, Any]:
    return sampling_fields(
        request.sampling,
        request.extra,
        vocabulary=len(engine.header.tokens),
        temperature=engine.settings.temperature,
    )


async def _free(engine: Engine, request: ChatRequest, body: JsonObject) -> AsyncGenerator[ChatEvent, None]:
    if request.sampling.max_tokens is not None:
        await check_room(engine, Generation(await _prompt(engine, body), request.sampling.max_tokens))
    said = False
    try:
        async with aclosing(_read_back(engine, request, body)) as events:
            async for event in events:
                said = True
                yield event
    except ProviderFailed as error:
        if said or _UNREADABLE not in error.message:
            raise
        # The model wrote something like a call that llama.cpp's reader refuses. Ours takes it for what it is.
        async with aclosing(_continued(engine, request, body, _offered(request))) as events:
            async for event in events:
                yield event


async def _read_back(engine: Engine, request: ChatRequest, body: JsonObject) -> AsyncGenerator[ChatEvent, None]:
    decoder = ChatChunkDecoder()
    async with engine.turn(), aclosing(engine.frames(CHAT, body)) as frames:
        async for frame in frames:
            frame.pop("timings", None)
            for event in decoder.feed(frame):
                yield event
    for event in decoder.end():
        if isinstance(event, ChatEnd):
            event = ChatEnd(usage=event.usage, model=request.model)
        yield event


async def _prompt(engine: Engine, body: JsonObject) -> str:
    """The conversation as the model's own template writes it."""
    answer = await engine.call("/apply-template", {name: body[name] for name in _PROMPT_FIELDS if name in body})
    return str(answer["prompt"])


async def _constrained(engine: Engine, request: ChatRequest, body: JsonObject) -> AsyncGenerator[ChatEvent, None]:
    tools = forced_tools(request)
    if tools:
        grammar = await call_grammar(engine, request, tools, _PLAIN_CALLS, "json")
    elif body.get("tools"):
        raise UnsupportedParameter(
            f"model {engine.model!r} cannot both choose among tools and keep to a form; set tool_choice to none, or "
            "leave response_format out",
            param="response_format",
        )
    else:
        grammar = await format_grammar(engine, request.response_format)
    async with aclosing(_continued(engine, request, body, tools, grammar)) as events:
        async for event in events:
            yield event


async def _continued(
    engine: Engine,
    request: ChatRequest,
    body: JsonObject,
    tools: list[ToolDefinition],
    grammar: dict[str, Any] | None = None,
) -> AsyncGenerator[ChatEvent, None]:
    """The rendered prompt continued and read here; calls are recognised in their JSON form."""
    fields = {**_sampling(engine, request), **(grammar or {})}
    top = (request.top_logprobs or 0) if request.logprobs else None
    wanted = Generation(await _prompt(engine, body), request.sampling.max_tokens, request.n, top, fields=fields)
    tally = Tally()
    async with aclosing(generate(engine, wanted, tally)) as made:
        async for event in chat_events(made, tools, _PLAIN_CALLS):
            yield event
    yield ChatEnd(usage=tally.usage, model=request.model)
