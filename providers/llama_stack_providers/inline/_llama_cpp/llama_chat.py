"""Chat with Llama models: our own rendering of the prompt, our own reading of the answer."""

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime

from llama_stack.api.inference import (
    ChatEnd,
    ChatEvent,
    ChatRequest,
    ChoiceEnd,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStart,
)
from llama_stack.api.tools import ToolDefinition
from llama_stack.errors import UnsupportedParameter
from llama_stack.wire.llama_prompts.families import LlamaFamily, family_for, preserved_tokens
from llama_stack.wire.llama_prompts.parse import Stop, ToolCallParser
from llama_stack.wire.llama_prompts.render import offered_tools, render_chat
from llama_stack_providers.inline._llama_cpp.completion import choice_end
from llama_stack_providers.inline._llama_cpp.engine import Engine
from llama_stack_providers.inline._llama_cpp.generation import Generation, Piece, Tally, generate
from llama_stack_providers.inline._llama_cpp.gguf_header import GgufHeader
from llama_stack_providers.inline._llama_cpp.grammar import format_grammar
from llama_stack_providers.inline._llama_cpp.sampling import sampling_fields

_STOPS: dict[str, Stop] = {"eos": "eot", "word": "stop", "limit": "length"}
_LLAMA_3_MARKS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


def llama_family(model: str, header: GgufHeader) -> LlamaFamily | None:
    """The family whose prompts the model reads; None for a model that is no Llama 3.1 or later."""
    template = header.chat_template
    names = (model, header.path.name, header.name, str(header.values.get("general.basename", "")))
    family = family_for(*names, chat_template=template)
    if family is None and template is not None and all(mark in template for mark in _LLAMA_3_MARKS):
        return LlamaFamily.LLAMA_3_1 if "ipython" in template else None
    return family


async def llama_chat(engine: Engine, request: ChatRequest, family: LlamaFamily) -> AsyncGenerator[ChatEvent, None]:
    refuse_unknown(request)
    prompt = render_chat(request, family=family, today=datetime.now(UTC).date())
    if prompt.images:
        raise UnsupportedParameter("the embedded engine reads no images", param="messages")
    fields = sampling_fields(
        request.sampling,
        request.extra,
        vocabulary=len(engine.header.tokens),
        temperature=engine.settings.temperature,
    )
    fields.update(await format_grammar(engine, request.response_format))
    tools = offered_tools(request)
    if tools:
        fields["preserved_tokens"] = preserved_tokens(family)
    begin = engine.header.values.get("tokenizer.ggml.bos_token_id")
    pieces = prompt.as_pieces(begin) if prompt.forges_tokens and isinstance(begin, int) else prompt.as_text()
    top = (request.top_logprobs or 0) if request.logprobs else None
    wanted = Generation(pieces, request.sampling.max_tokens, request.n, top, fields=fields)
    tally = Tally()
    async with aclosing(generate(engine, wanted, tally)) as made:
        events = _with_calls(made, tools, family) if tools else _plain(made)
        async with aclosing(events):
            async for event in events:
                yield event
    yield ChatEnd(usage=tally.usage, model=request.model)


async def _plain(made: AsyncGenerator[Piece, None]) -> AsyncGenerator[ChatEvent, None]:
    """Nothing is offered, so nothing is a call."""
    async for piece in made:
        if piece.text or piece.logprobs:
            yield TextDelta(text=piece.text, choice=piece.choice, logprobs=piece.logprobs)
        if piece.stop_type is not None:
            yield choice_end(piece)


async def _with_calls(
    made: AsyncGenerator[Piece, None], tools: list[ToolDefinition], family: LlamaFamily
) -> AsyncGenerator[ChatEvent, None]:
    parsers: dict[int, ToolCallParser] = {}
    aligned: dict[int, AlignedLogprobs] = {}
    async for piece in made:
        choice = piece.choice
        parser = parsers.setdefault(choice, ToolCallParser(tools, family=family, choice=choice))
        events = parser.feed(piece.text) if piece.text else []
        if piece.stop_type is not None:
            events = [*events, *parser.finish(_STOPS[piece.stop_type])]
        if piece.logprobs is not None:
            aligned.setdefault(choice, AlignedLogprobs()).give(piece.logprobs, events)
        for event in events:
            yield event
        if piece.stop_type is not None:
            yield ChoiceEnd(finish_reason=parser.finish_reason, choice=choice, stop_sequence=piece.stop_sequence)


class AlignedLogprobs:
    """Gives each text its own tokens' probabilities: the parser may hold text back, and calls take tokens too."""

    def __init__(self) -> None:
        self._waiting: deque[TokenLogprob] = deque()

    def give(self, made: list[TokenLogprob], events: list[TextDelta | ToolCallStart | ToolCallDelta]) -> None:
        self._waiting.extend(made)
        for event in events:
            if isinstance(event, TextDelta):
                event.logprobs = self._of(event.text)
            elif isinstance(event, ToolCallDelta):
                self._waiting.clear()

    def _of(self, text: str) -> list[TokenLogprob]:
        missing = len(text.encode())
        taken = []
        while missing > 0 and self._waiting:
            token = self._waiting.popleft()
            missing -= len(token.bytes or ())
            taken.append(token)
        return taken


def refuse_unknown(request: ChatRequest) -> None:
    if request.reasoning_effort not in (None, "none"):
        raise UnsupportedParameter(
            f"model {request.model!r} has no adjustable reasoning; leave reasoning_effort out", param="reasoning_effort"
        )
