"""What an agent's memory banks hold on what the user has just said."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime

from llama_stack.agents.setup import AgentSetup, new_id
from llama_stack.api.agents import AgentEvent, MemoryRetrievalStep, StepCompleted, StepStarted, StepType, Turn
from llama_stack.api.memory import MemoryQuery
from llama_stack.api.messages import UserMessage, text_of
from llama_stack.errors import InvalidRequest
from llama_stack.memory.context import as_context, passages_of

MAX_CHUNKS = 5
MAX_CONTEXT_TOKENS = 3_000


async def retrieve(setup: AgentSetup, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
    """Search the banks with the user's words and add what was found to the turn, as one step."""
    banks = setup.config.memory_banks
    if setup.memory is None:
        raise InvalidRequest("this agent has memory banks, but there is no memory provider here", param="memory_banks")
    step_id, started_at = new_id("step"), datetime.now(UTC)
    yield StepStarted(step_id=step_id, step_type=StepType.MEMORY_RETRIEVAL)
    said = next((message for message in reversed(turn.input) if isinstance(message, UserMessage)), None)
    query = MemoryQuery(query=text_of(said.content) if said else "", max_chunks=MAX_CHUNKS)
    passages = passages_of(await setup.memory.query(banks, query, setup.caller), MAX_CONTEXT_TOKENS)
    step = MemoryRetrievalStep(
        step_id=step_id,
        memory_banks=banks,
        inserted_context=as_context(passages),
        chunks=[passage.chunk for passage in passages],
        started_at=started_at,
        completed_at=datetime.now(UTC),
    )
    turn.steps.append(step)
    yield StepCompleted(step=step)
