"""Raw completion: a text or token ids continued as they stand."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from llama_stack.api.inference import (
    ChatEnd,
    ChatEvent,
    CompletionRequest,
    TextDelta,
)
from llama_stack.errors import InvalidRequest, UnsupportedParameter
from llama_stack_providers.inline._llama_cpp.answer import plain_events
from llama_stack_providers.inline._llama_cpp.engine import Engine
from llama_stack_providers.inline._llama_cpp.generation import Generation, Prompt, Tally, generate
from llama_stack_providers.inline._llama_cpp.grammar import format_grammar
from llama_stack_providers.inline._llama_cpp.sampling import sampling_fields


async def complete(engine: Engine, request: CompletionRequest) -> AsyncGenerator[ChatEvent, None]:
    if request.suffix is not None:
        raise UnsupportedParameter(f"model {engine.model!r} cannot fill in before a suffix", param="suffix")
    prompt = _checked_prompt(engine, request)
    fields = sampling_fields(
        request.sampling,
        request.extra,
        vocabulary=len(engine.header.tokens),
        temperature=engine.settings.temperature,
    )
    fields.update(await format_grammar(engine, request.response_format))
    wanted = Generation(prompt, request.sampling.max_tokens, request.n, request.logprobs, fields=fields, param="prompt")
    tally = Tally()
    if request.echo:
        text = prompt if isinstance(prompt, str) else await _text_of(engine, prompt)
        for choice in range(request.n):
            yield TextDelta(text=text, choice=choice)
    async with aclosing(generate(engine, wanted, tally)) as pieces:
        async for event in plain_events(pieces):
            yield event
    yield ChatEnd(usage=tally.usage, model=request.model)


def _checked_prompt(engine: Engine, request: CompletionRequest) -> Prompt:
    if not request.prompt:
        raise InvalidRequest("the prompt may not be empty", param="prompt")
    if isinstance(request.prompt, list):
        vocabulary = len(engine.header.tokens)
        wrong = next((token for token in request.prompt if not 0 <= token < vocabulary), None)
        if wrong is not None:
            raise InvalidRequest(
                f"{wrong} is no token id of model {engine.model!r}; ids go from 0 to {vocabulary - 1}", param="prompt"
            )
    if request.echo and request.logprobs is not None:
        raise UnsupportedParameter("the embedded engine gives no logprobs of an echoed prompt", param="echo")
    return request.prompt


async def _text_of(engine: Engine, prompt: Prompt) -> str:
    answer = await engine.call("/detokenize", {"tokens": list(prompt)})
    return str(answer["content"])
