"""What an agent's memory banks hold on what the user has just said."""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime

from llama_stack.agents.gathering import gathered
from llama_stack.agents.setup import AgentSetup, new_id
from llama_stack.api.agents import AgentEvent, MemoryRetrievalStep, StepCompleted, StepStarted, StepType, Turn
from llama_stack.api.memory import Chunk, MemoryQuery
from llama_stack.api.messages import UserMessage, text_of
from llama_stack.errors import InvalidRequest

MAX_CHUNKS = 5
MAX_CONTEXT_CHARS = 12_000


async def retrieve(setup: AgentSetup, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
    """Search every bank with the user's words and add what was found to the turn, as one step."""
    banks = setup.config.memory_banks
    if setup.memory is None:
        raise InvalidRequest("this agent has memory banks, but there is no memory provider here", param="memory_banks")
    step_id, started_at = new_id("step"), datetime.now(UTC)
    yield StepStarted(step_id=step_id, step_type=StepType.MEMORY_RETRIEVAL)
    said = next((message for message in reversed(turn.input) if isinstance(message, UserMessage)), None)
    query = MemoryQuery(query=text_of(said.content) if said else "", max_chunks=MAX_CHUNKS)
    found = await gathered(setup.memory.query_documents(bank, query, setup.caller) for bank in banks)
    chunks = sorted((chunk for chunks in found for chunk in chunks), key=lambda chunk: -chunk.score)
    kept = _within(chunks[:MAX_CHUNKS])
    step = MemoryRetrievalStep(
        step_id=step_id,
        memory_banks=banks,
        inserted_context=as_context(kept),
        chunks=kept,
        started_at=started_at,
        completed_at=datetime.now(UTC),
    )
    turn.steps.append(step)
    yield StepCompleted(step=step)


def _within(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The best chunks whose text fits what a prompt may be given, always whole ones."""
    kept: list[Chunk] = []
    for chunk in chunks:
        if sum(len(one.content) for one in (*kept, chunk)) <= MAX_CONTEXT_CHARS:
            kept.append(chunk)
    return kept


def as_context(chunks: Sequence[Chunk]) -> str:
    """The chunks as the model reads them, each with its number and document; empty when there are none."""
    if not chunks:
        return ""
    passages = "\n\n".join(
        f"[{number}] (document {chunk.document_id})\n{chunk.content}" for number, chunk in enumerate(chunks, start=1)
    )
    return f"Passages that may help, from the documents at hand:\n\n{passages}"
