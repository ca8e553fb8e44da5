"""Running turns of one session as a classic client asks for them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from llama_stack.api.agents import (
    AgentEvent,
    Agents,
    ApprovalDecision,
    Session,
    ToolOutcome,
    Turn,
    TurnAwaitingInput,
    TurnCompleted,
)
from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.messages import ToolMessage
from llama_stack.api.stack import ServedStack
from llama_stack.errors import Conflict, NotFound, StackError
from llama_stack.server.classic import in_words
from llama_stack.server.classic_queries import config_of_team, whole_session_id
from llama_stack.wire.classic.agents import turn_settings
from llama_stack.wire.classic.steps import (
    brought_step,
    calls_of,
    encode_stopped_turn,
    encode_turn,
    next_part_id,
    open_calls,
    parts_of,
    shown_id,
)
from llama_stack.wire.classic.turn_stream import ClassicTurnEncoder
from llama_stack.wire.classic.turns import (
    ClassicResumeBody,
    ClassicTurnBody,
    as_observation,
    decode_approvals,
    decode_outcomes,
    decode_tool_responses,
    decode_turn_messages,
)

_WORDS = {"tool_groups": "toolgroups", "tool_group_id": "toolgroups", "tool_choice": "tool_config.tool_choice"}
"""What the body of a turn calls the fields that errors name in our words."""


@dataclass(frozen=True)
class Run:
    """A turn about to be run. earlier: the parts of the classic turn before the one that is run."""

    events: AsyncGenerator[AgentEvent, None]
    encoder: ClassicTurnEncoder
    earlier: list[Turn] = field(default_factory=list)

    async def whole(self) -> JsonObject:
        """The turn as it is when it ends or waits. Raises what the turn raises."""
        async with aclosing(self.events) as events:
            async for event in events:
                if isinstance(event, TurnCompleted | TurnAwaitingInput):
                    return encode_stopped_turn(event, self.earlier)
        raise StackError("a turn ended without its last event")


class Conversation:
    """One session of one agent, for one caller."""

    def __init__(self, agents: Agents, agent_id: str, session_id: str, caller: Caller) -> None:
        self._agents = agents
        self._agent_id = agent_id
        self._session_id = session_id
        self._caller = caller

    @classmethod
    async def found(cls, stack: ServedStack, agent_id: str, session_id: str, caller: Caller) -> "Conversation":
        agents = await stack.agents()
        return cls(agents, agent_id, await whole_session_id(agents, agent_id, session_id, caller), caller)

    async def shown_turn(self, turn_id: str) -> JsonObject:
        """Raises NotFound."""
        config = await config_of_team(self._agents, self._agent_id, self._caller)
        return encode_turn(self._parts(await self._session(), turn_id), config)

    async def begun(self, body: ClassicTurnBody) -> Run:
        """A new turn; or, where all it brings are results that the session's last turn waits for, that turn: programs
        of the first classic servers bring them so.
        """
        config = (await self._agents.agent(self._agent_id, self._caller)).config
        messages, documents = decode_turn_messages(body)
        results = [message for message in messages if isinstance(message, ToolMessage)]
        if results and len(results) == len(messages):
            waiting = _waiting_for(results, await self._session())
            if waiting is not None:
                return self._going_on(waiting, results, [])
        events = self._agents.create_turn(
            self._agent_id,
            self._session_id,
            [as_observation(message) if isinstance(message, ToolMessage) else message for message in messages],
            self._caller,
            settings=turn_settings(body.toolgroups, body.tool_config, config),
            documents=documents,
        )
        return Run(in_words(events, **_WORDS), ClassicTurnEncoder())

    async def resumed(self, turn_id: str, body: ClassicResumeBody) -> Run:
        """A turn gone on with.

        Raises NotFound; Conflict for a turn that has ended, unless all it is brought are results of calls that the
        stack has never seen: the client found them in the model's text itself. Those are said in a further turn.
        """
        results, decisions, outcomes = decode_tool_responses(body), decode_approvals(body), decode_outcomes(body)
        session = await self._session()
        parts = self._parts(session, turn_id)
        if parts[-1].end_reason is None:
            return self._going_on(parts, results, decisions, outcomes)
        known = calls_of(parts)
        says_something = all(response.content is not None for response in body.tool_responses or ())
        is_unseen = bool(results) and says_something and not any(one.tool_call_id in known for one in results)
        if not is_unseen or decisions or parts[-1] is not session.turns[-1]:
            raise Conflict(
                f"turn {turn_id} has ended ({parts[-1].end_reason}) and waits for none of this; begin a new turn",
                param="turn_id",
            )
        return self._further(parts, results)

    async def _session(self) -> Session:
        return await self._agents.session(self._agent_id, self._session_id, self._caller)

    def _parts(self, session: Session, turn_id: str) -> list[Turn]:
        parts = parts_of(session, turn_id)
        if not parts:
            raise NotFound(f"session {self._session_id!r} has no turn {turn_id!r}", param="turn_id")
        return parts

    def _going_on(
        self,
        parts: list[Turn],
        results: list[ToolMessage],
        decisions: list[ApprovalDecision],
        outcomes: list[ToolOutcome] | None = None,
    ) -> Run:
        last = parts[-1]
        events = self._agents.resume_turn(
            self._agent_id,
            self._session_id,
            last.turn_id,
            self._caller,
            results=results,
            decisions=decisions,
            outcomes=outcomes,
        )
        return Run(
            in_words(events, tool_call_id="call_id"), ClassicTurnEncoder(earlier=parts[:-1], resumed=last), parts[:-1]
        )

    def _further(self, parts: list[Turn], results: list[ToolMessage]) -> Run:
        part_id = next_part_id(parts)
        events = self._agents.create_turn(
            self._agent_id,
            self._session_id,
            [as_observation(result) for result in results],
            self._caller,
            settings=parts[0].settings,
            turn_id=part_id,
        )
        brought = brought_step(part_id, results, datetime.now(UTC))
        return Run(events, ClassicTurnEncoder(earlier=parts, brought=brought), parts)


def _waiting_for(results: list[ToolMessage], session: Session) -> list[Turn] | None:
    """The parts of the session's last turn, if it waits for all of these results."""
    last = session.turns[-1] if session.turns else None
    if last is None or last.end_reason is not None:
        return None
    awaited = {call.id for call in open_calls(last)}
    is_for_it = all(result.tool_call_id in awaited for result in results)
    return parts_of(session, shown_id(last.turn_id)) if is_for_it else None
