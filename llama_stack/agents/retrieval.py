"""What memory holds on a conversation: looked up before the model is asked, or by a tool that the model calls."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json

from llama_stack.agents.setup import AgentSetup, new_id
from llama_stack.agents.tools import Tool, tool_from_schema
from llama_stack.api.agents import AgentEvent, MemoryRetrievalStep, StepCompleted, StepStarted, StepType, Turn
from llama_stack.api.common import Caller
from llama_stack.api.memory import MemoryQuery, MemorySearch
from llama_stack.api.messages import Message, ToolCall, UserMessage, text_of
from llama_stack.api.tools import ToolDefinition, ToolResult
from llama_stack.errors import InvalidRequest, StackError
from llama_stack.memory.context import (
    EXTRACT_TOKENS,
    MAX_CONTEXT_TOKENS,
    PASSAGES,
    Passage,
    as_context,
    as_message_part,
    best_of_told,
    passages_for,
    told_passages,
    without_context,
)

MAX_CHUNKS = 5
CONTEXT_SHARE = 1 / 3
"""Part of the model's window that the passages of one search may take."""
SMALL_WINDOW = 2_048
"""Tokens. Models that have no larger window are small themselves: the more they read, the less they find in it."""
SMALL_WINDOW_SHARE = 1 / 16
SHORT_WORDS = 5
SHORT_CHARACTERS = 30
OWN_WORDS = 1
"""What is no longer, and has no more words of its own, hardly ever says what it is about: `and in winter?`"""
MAX_QUERY_CHARACTERS = 2_000
"""Of what was said before, and of a message; more than a model that embeds reads."""


def context_tokens(context_length: int | None) -> int:
    """How many tokens of passages may be put before a model with this window; of a small one a smaller share."""
    if context_length is None:
        return MAX_CONTEXT_TOKENS
    most = int(context_length * CONTEXT_SHARE)
    if context_length <= SMALL_WINDOW:
        return min(most, max(EXTRACT_TOKENS, int(context_length * SMALL_WINDOW_SHARE)))
    return min(most, MAX_CONTEXT_TOKENS)


async def room_for_passages(setup: AgentSetup) -> int:
    """How many tokens of passages the agent's model is shown."""
    window = setup.context_length
    if window is None and setup.window is not None:
        window = await setup.window()
    return context_tokens(window)


# --- before the model is asked -------------------------------------------------------------------------------------


async def retrieve(setup: AgentSetup, history: Sequence[Message], turn: Turn) -> AsyncGenerator[AgentEvent, None]:
    """Search the banks with the user's words and add what was found to the turn, as one step."""
    banks = setup.config.memory_banks
    if setup.memory is None:
        raise InvalidRequest("this agent has memory banks, but there is no memory provider here", param="memory_banks")
    step_id, started_at = new_id("step"), datetime.now(UTC)
    yield StepStarted(step_id=step_id, step_type=StepType.MEMORY_RETRIEVAL)
    question = question_of([*history, *turn.input])
    found = await setup.memory.query(banks, MemoryQuery(query=question, max_chunks=MAX_CHUNKS), setup.caller)
    passages = await passages_for(question, found, await room_for_passages(setup))
    step = MemoryRetrievalStep(
        step_id=step_id,
        memory_banks=banks,
        inserted_context=as_message_part(passages),
        chunks=[passage.chunk for passage in passages],
        started_at=started_at,
        completed_at=datetime.now(UTC),
    )
    turn.steps.append(step)
    yield StepCompleted(step=step)


def question_of(messages: Sequence[Message]) -> str:
    """What the user asks: the last message, with the one before it where the last says too little."""
    said = [_own_words(message) for message in messages if isinstance(message, UserMessage)]
    said = [words for words in said if words]
    if not said:
        return ""
    last = said[-1]
    return f"{said[-2]}\n{last}" if len(said) > 1 and _goes_back(last) else last


def _goes_back(question: str) -> bool:
    """Whether it can be understood only with what was said before."""
    if len(question) > SHORT_CHARACTERS or len(question.split()) > SHORT_WORDS:
        return False
    from llama_stack.text.common_words import COMMON_WORDS
    from llama_stack.text.languages import language_of

    common = COMMON_WORDS.get(language_of(question), frozenset())
    own = [word for word in re.findall(r"\w+", question.casefold()) if word not in common]
    return len(own) <= OWN_WORDS


def _own_words(message: UserMessage) -> str:
    """Without the passages that were put behind them in an earlier turn."""
    return without_context(text_of(message.content))[:MAX_QUERY_CHARACTERS]


# --- by the model --------------------------------------------------------------------------------------------------

FILE_SEARCH = ToolDefinition(
    name="file_search",
    description=(
        "Search the files that the user has given for passages that help to answer. Use it before answering a question "
        "that the files may tell something about; ask again in other words where little was found."
    ),
    parameters={
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "minLength": 1,
                "description": "What to search for: a whole question, or words that the files would use",
            }
        },
        "required": ["query"],
    },
)


def file_search(
    memory: MemorySearch, bank_ids: Sequence[str], search: MemoryQuery, caller: Caller, *, max_tokens: int
) -> Tool:
    """A tool that searches all of the banks together, as `search` says, for what the model asks.

    Its result is numbered passages of at most `max_tokens`; its metadata tells all that was found.
    """

    async def run(arguments: Mapping[str, Any]) -> ToolResult:
        question = str(arguments["query"]).strip()[:MAX_QUERY_CHARACTERS]
        found = await memory.query(bank_ids, search.model_copy(update={"query": question}), caller)
        passages = await passages_for(question, found, max_tokens)
        nothing = "Nothing was found in the files. Try other words, or say that the files do not tell."
        if found:
            nothing = "Passages were found, but they are too long to be shown. Ask for something more particular."
        return ToolResult(content=as_context(passages) or nothing, metadata=told_passages(passages, found))

    return tool_from_schema(FILE_SEARCH, run)


async def as_one_reads(result: ToolResult, call: ToolCall, room: Callable[[], Awaitable[int]]) -> ToolResult:
    """What any tool has found, as a model with so much room for passages reads it: a small one the best sentence.

    room: is asked only where the result tells of passages. They are left as they are where the model reads whole ones,
    and where the call has no `query` that they could be fitted to.
    """
    if not result.metadata.get(PASSAGES):
        return result
    try:
        question = from_json(call.arguments).get("query")
    except (ValueError, AttributeError):
        return result
    if not isinstance(question, str):
        return result
    try:
        best = await best_of_told(question[:MAX_QUERY_CHARACTERS], result.metadata, await room())
    except StackError:
        # A call has its result, whatever is not known of the model.
        return result
    if best is None:
        return result
    passages, metadata = best
    return result.model_copy(update={"content": "\n\n".join(map(_with_source, passages)), "metadata": metadata})


def _with_source(one: Passage) -> str:
    """Small models take a sentence that stands alone, or has been given a capital, for a message of the tool's own."""
    content = one.chunk.content
    text = content if one.text.casefold() == content.casefold() else one.text
    return f"[{one.number}] {one.chunk.document_name or one.chunk.document_id}\n{text}"
