"""Chat with Llama models: our own rendering of the prompt, our own reading of the answer."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime

from llama_stack.api.inference import (
    ChatEnd,
    ChatEvent,
    ChatRequest,
)
from llama_stack.errors import UnsupportedParameter
from llama_stack.wire.llama_prompts.families import LlamaFamily, preserved_tokens
from llama_stack.wire.llama_prompts.render import offered_tools, render_chat
from llama_stack_providers.inline._llama_cpp.answer import chat_events
from llama_stack_providers.inline._llama_cpp.engine import Engine
from llama_stack_providers.inline._llama_cpp.generation import Generation, Prompt, Tally, generate
from llama_stack_providers.inline._llama_cpp.grammar import call_grammar, format_grammar
from llama_stack_providers.inline._llama_cpp.sampling import sampling_fields


async def llama_chat(engine: Engine, request: ChatRequest, family: LlamaFamily) -> AsyncGenerator[ChatEvent, None]:
    _refuse_unknown(engine, request)
    prompt = llama_prompt(engine, request, family)
    fields = sampling_fields(
        request.sampling,
        request.extra,
        vocabulary=len(engine.header.tokens),
        temperature=engine.settings.temperature,
    )
    tools = offered_tools(request)
    if tools:
        fields["preserved_tokens"] = preserved_tokens(family)
        fields.update(await call_grammar(engine, request, tools, family, request.tool_prompt_format))
    else:
        fields.update(await format_grammar(engine, request.response_format))
    top = (request.top_logprobs or 0) if request.logprobs else None
    wanted = Generation(prompt, request.sampling.max_tokens, request.n, top, fields=fields)
    tally = Tally()
    async with aclosing(generate(engine, wanted, tally)) as made:
        async for event in chat_events(made, tools, family):
            yield event
    yield ChatEnd(usage=tally.usage, model=request.model)


def llama_prompt(engine: Engine, request: ChatRequest, family: LlamaFamily) -> Prompt:
    """What the model reads. Raises UnsupportedParameter for an image."""
    prompt = render_chat(request, family=family, today=datetime.now(UTC).date())
    if prompt.images:
        raise UnsupportedParameter("the embedded engine reads no images", param="messages")
    begin = engine.header.values.get("tokenizer.ggml.bos_token_id")
    return prompt.as_pieces(begin) if prompt.forges_tokens and isinstance(begin, int) else prompt.as_text()


def _refuse_unknown(engine: Engine, request: ChatRequest) -> None:
    if request.reasoning_effort not in (None, "none"):
        raise UnsupportedParameter(
            f"model {engine.model!r} has no adjustable reasoning; leave reasoning_effort out", param="reasoning_effort"
        )
