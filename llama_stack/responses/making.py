"""One response from its request to its end: the loop run over a turn, encoded, and kept."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from llama_stack.agents.loop import resume_turn
from llama_stack.agents.service import kept
from llama_stack.api.agents import (
    AgentEvent,
    ApprovalDecision,
    ApprovalStep,
    ShieldCallStep,
    StepCompleted,
    StepStarted,
    ToolCallStarted,
    Turn,
    TurnAwaitingInput,
    TurnCompleted,
    TurnStarted,
)
from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.responses import ResponseRequest
from llama_stack.api.stack import ServedStack
from llama_stack.errors import InvalidRequest, NotFound, StackError
from llama_stack.responses.approvals import UsedApprovals, approvals_of, once
from llama_stack.responses.compacting import CompactingInference, threshold_of
from llama_stack.responses.history import Beginning, beginning, labels_listed, told_after, told_by
from llama_stack.responses.moderating import Moderating
from llama_stack.responses.preparing import Ready, make_ready
from llama_stack.responses.sent_files import named_as_sent, told_with_files
from llama_stack.storage import AgentStore, OpenTurn, Work
from llama_stack.storage.conversations import ConversationStore
from llama_stack.storage.responses import ResponseStore, StoredResponse
from llama_stack.wire.openai_responses.manner import Manner
from llama_stack.wire.openai_responses.objects import Status, new_response
from llama_stack.wire.openai_responses.sealing import sealed_window
from llama_stack.wire.openai_responses.stream import ResponseEncoder, replayed
from llama_stack.wire.openai_responses.telling import Told

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stores:
    agents: AgentStore
    responses: ResponseStore
    conversations: ConversationStore
    used: UsedApprovals = field(default_factory=UsedApprovals)


@dataclass(frozen=True)
class Origin:
    """What a response continues. earlier: the items of its conversation. labels: MCP servers told of before. turns: of
    the responses it follows.
    """

    told: Told
    earlier: list[JsonObject]
    labels: set[str]
    turns: Sequence[Turn] = ()


class Making:
    """Makes one response. record: what is known of it; a response that is not stored has one, too.

    first_number: of its first event, for one that is begun again. origin: what it continues, where that is known and
    not to be read from the database.
    """

    def __init__(
        self,
        stack: ServedStack,
        stores: Stores,
        record: StoredResponse,
        caller: Caller,
        *,
        first_number: int = 0,
        origin: Origin | None = None,
    ) -> None:
        status: Status = "queued" if record.status == "queued" else "in_progress"
        body = new_response(record.request, record.response_id, int(record.created_at.timestamp()), status)
        self.record = record
        self.encoder = ResponseEncoder(body, Manner(), first_number=first_number)
        self._stack = stack
        self._stores = stores
        self._caller = caller
        self._origin = origin
        self._beginning: Beginning | None = None
        self._ready: Ready | None = None
        self._told: deque[list[JsonObject]] = deque()
        self._compacting: CompactingInference | None = None
        self._moderating: Moderating | None = None
        self._steps = 0
        self._turn: Turn | None = None

    async def prepare(self) -> None:
        """Find what the response continues and what it may use. Raises what is wrong with the request."""
        request = self.record.request
        origin = self._origin or await origin_of(self._stores, request, self._caller)
        self._origin = origin
        told = await told_with_files(self._stack, request, origin.told, origin.earlier, self._caller)
        self._beginning = beginning(told)
        if self._beginning.decisions and not request.generate:
            raise InvalidRequest("generate: must be true where calls are approved or denied", param="generate")
        self._ready = await make_ready(
            self._stack,
            request,
            self._caller,
            response_id=self.record.response_id,
            root_id=self.record.root_id,
            requests=self._beginning.requests,
            told_labels=origin.labels,
            earlier=origin.turns,
        )
        self.encoder.manner = self._ready.manner
        self._steps = len(self._beginning.steps)
        if request.moderation is not None:
            self._moderating = Moderating(self._stack.safety, request.moderation, self._ready.setup.caller)
            setup = self._moderating.guarded(self._ready.setup, is_new=bool(self._beginning.input))
            self._ready = replace(self._ready, setup=setup)
        if request.compaction is not None:
            self._compact_from(threshold_of(request.compaction, self._ready.setup.context_length))

    def _compact_from(self, threshold_tokens: int) -> None:
        start, ready = self._prepared
        setup = ready.setup
        self._compacting = CompactingInference(
            setup.inference, start.history, threshold_tokens, self.record.request.instructions
        )
        length = setup.context_length
        if length is not None and threshold_tokens < length:
            # Else the loop would leave out what does not fit the window before it could be made shorter.
            length = None
        self._ready = replace(ready, setup=replace(setup, inference=self._compacting, context_length=length))

    def listed(self) -> list[JsonObject]:
        """Events of the tools of MCP servers, told before the model is asked."""
        return [event for listing in self._prepared[1].listings for event in self.encoder.listed(listing)]

    @property
    def failure(self) -> StackError | None:
        """Why the response cannot be made after all."""
        return self._prepared[1].failure

    @property
    def continued(self) -> Origin | None:
        """What a response begins with that continues this one; None where it cannot be continued."""
        origin, output = self._origin, self.encoder.response["output"]
        if origin is None or self._turn is None or self.encoder.response["status"] not in ("completed", "incomplete"):
            return None
        told = told_after(origin.told, self.record.request.input, output, self._turn)
        return Origin(told, [], origin.labels | labels_listed(output), [*origin.turns, self._turn])

    @property
    def _prepared(self) -> tuple[Beginning, Ready]:
        if self._beginning is None or self._ready is None:
            raise RuntimeError("prepare() comes first")
        return self._beginning, self._ready

    # --- the turn --------------------------------------------------------------------------------------------------

    async def foreground(self, *, raises: bool) -> AsyncGenerator[JsonObject, None]:
        """The response's events. What fails before anything was said is raised and leaves nothing behind.

        raises: the answer is read as a whole: what fails later is raised, too, once it is stored; else it is told by
        the last event. Once a tool has run nothing is raised: clients repeat requests that failed, and the tool would
        run again.
        """
        waiting = [*self.encoder.created(), *self.encoder.in_progress(), *self.listed()]
        if raises:
            _, ready = self._prepared
            self._ready = replace(ready, setup=replace(ready.setup, whole=True))
        is_begun = is_over = has_run = False
        try:
            if self.failure is not None:
                raise self.failure
            async with aclosing(self.turn_events()) as events:
                async for event in events:
                    waiting += await self.told(event)
                    is_over = is_over or isinstance(event, TurnAwaitingInput | TurnCompleted)
                    has_run = has_run or isinstance(event, ToolCallStarted)
                    is_begun = is_begun or not _is_preliminary(event)
                    while is_begun and waiting:
                        yield waiting.pop(0)
        except Exception as error:
            is_over = True
            named_as_sent(error)
            if not is_begun:
                await self._forget()
                raise
            failure = self.failed(error)
            await self.finish()
            if raises and not has_run:
                raise
            for late in failure:
                yield late
        finally:
            if not is_over:
                # The caller has left: what was said until then stays.
                self.encoder.cancelled()
                await asyncio.shield(self.finish())

    async def turn_events(self) -> AsyncGenerator[AgentEvent, None]:
        """Run the turn, or what is left of it, each step stored before it is told."""
        start, ready = self._prepared
        record = self.record
        new = Turn(
            turn_id=record.turn_id, session_id=record.session_id, input=start.input, started_at=datetime.now(UTC)
        )
        async with AsyncExitStack() as exits:
            if not record.request.store:
                events = self._run(new.model_copy(update={"steps": start.steps}), start.decisions)
            else:
                # One in the background was stored when it was queued.
                first, is_unseen = None, False
                if not record.request.background:
                    decided = approvals_of(start.decisions, start.requests)
                    first = self._stores.responses.inserting(record, self._caller, approvals=decided)
                    # Who waits for the whole answer learns the response's id with it.
                    is_unseen = ready.setup.whole and record.request.conversation is None and not decided
                opened = self._stores.agents.open_turn(new, self._caller, first=first, is_unseen=is_unseen)
                held = await exits.enter_async_context(opened)
                events = await self._held_events(held)
            async with aclosing(events):
                async for event in events:
                    yield event

    async def resumed_events(self) -> AsyncGenerator[AgentEvent, None]:
        """Take up the turn of a response whose maker is gone; first what was done before is told again."""
        turn = await self._stores.responses.turn(self.record, self._caller)
        if turn is None:
            async with aclosing(self.turn_events()) as events:
                async for event in events:
                    yield event
            return
        seeded = len(self._prepared[0].steps)
        for event in replayed(turn.steps[seeded:]):
            yield event
        if turn.end_reason is not None:
            await self._judge(turn)
            yield TurnCompleted(turn=turn)
            return
        reopened = self._stores.agents.reopen_turn(self.record.session_id, self.record.turn_id, self._caller)
        async with reopened as held, aclosing(await self._held_events(held)) as events:
            async for event in events:
                yield event

    async def _held_events(self, held: OpenTurn) -> AsyncGenerator[AgentEvent, None]:
        start, _ = self._prepared
        for step in start.steps[len(held.turn.steps) :]:
            await held.append_step(step)
        turn = held.turn
        is_decided = any(isinstance(step, ApprovalStep) for step in turn.steps)
        decisions = () if is_decided else start.decisions
        return kept(self._run(turn, decisions), held, ending=self._ending)

    def _run(self, turn: Turn, decisions: Sequence[ApprovalDecision]) -> AsyncGenerator[AgentEvent, None]:
        start, ready = self._prepared
        if not self.record.request.generate:
            return _only_kept(turn)
        events = resume_turn(ready.setup, start.history, turn, decisions=decisions)
        if decisions:
            approvals = approvals_of(decisions, start.requests)
            events = once(events, approvals, self._stores.used, self._caller.owner, self.record.response_id)
        return events if self._moderating is None else self._moderated(events)

    async def _moderated(self, events: AsyncGenerator[AgentEvent, None]) -> AsyncGenerator[AgentEvent, None]:
        """The same events; what they say is judged before the last one, with which the response is kept."""
        async with aclosing(events):
            async for event in events:
                if isinstance(event, TurnAwaitingInput | TurnCompleted):
                    await self._judge(event.turn)
                yield event

    async def _judge(self, turn: Turn) -> None:
        if self._moderating is not None:
            self.encoder.response["moderation"] = await self._moderating.results(turn)

    def _ending(self, last: Sequence[AgentEvent]) -> Work | None:
        if self.record.request.conversation is not None:
            return None  # the items must be in the conversation first
        self._told.extend(self._encoded(event) for event in last)
        return self._stores.responses.finishing(self.record.response_id, self.encoder.response, self._caller)

    async def told(self, event: AgentEvent) -> list[JsonObject]:
        """What one of the turn's events, taken in order, means to the response's reader. The last one is kept first."""
        if self._told:
            return self._told.popleft()
        told = self._encoded(event)
        if isinstance(event, TurnAwaitingInput | TurnCompleted):
            await self.finish()
        return told

    def _encoded(self, event: AgentEvent) -> list[JsonObject]:
        made = self._compacting.made if self._compacting is not None else []
        while made:
            compacted = made.pop(0)
            self.encoder.compacted(sealed_window(compacted.window), compacted.usage, self._steps)
        match event:
            case StepCompleted():
                self._steps += 1
            case TurnAwaitingInput() | TurnCompleted():
                self._turn = event.turn
            case _:
                pass
        return self.encoder.feed(event)

    # --- the end ---------------------------------------------------------------------------------------------------

    def failed(self, error: Exception) -> list[JsonObject]:
        """The last events of a response that failed; what is no StackError is a bug of ours and tells nothing."""
        if not isinstance(error, StackError):
            logger.exception("response %s failed", self.record.response_id)
            error = StackError("internal error; the server's log tells more under the response's id")
        named_as_sent(error)
        return self.encoder.failed(error)

    def cancelled(self) -> list[JsonObject]:
        return self.encoder.cancelled()

    async def end_as_abandoned(self) -> None:
        """Keep a response whose process died with what its turn holds, as failed."""
        with suppress(StackError):
            # Without them, calls are not told apart by the tools they belong to; what was said stays.
            await self.prepare()
        turn = await self._stores.responses.turn(self.record, self._caller)
        for event in replayed(turn.steps if turn is not None else []):
            self.encoder.feed(event)
        self.failed(StackError("the server was stopped while it made this response; ask again"))
        await self.finish()

    async def finish(self) -> None:
        """Keep the response as it is now, and add its items to its conversation."""
        request, body = self.record.request, self.encoder.response
        if not request.store:
            return
        if request.conversation is not None and body["status"] in ("completed", "incomplete"):
            try:
                await self._stores.conversations.add_missing_items(
                    request.conversation, [*request.input, *body["output"]], self._caller
                )
            except NotFound:
                # Deleted meanwhile; the response itself is kept all the same.
                logger.info("conversation %s of %s is gone", request.conversation, self.record.response_id)
        await self._stores.responses.finish(self.record.response_id, body, self._caller)

    async def _forget(self) -> None:
        if self.record.request.store:
            try:
                await self._stores.responses.delete(self.record, self._caller, was_told=False)
            except NotFound:
                return


def _is_preliminary(event: AgentEvent) -> bool:
    """Whether neither the model nor a tool has said anything by then."""
    is_judged = isinstance(event, StepCompleted) and isinstance(event.step, ShieldCallStep)
    return is_judged or isinstance(event, TurnStarted | StepStarted)


async def _only_kept(turn: Turn) -> AsyncGenerator[AgentEvent, None]:
    """A turn whose input the next one goes on from; the model is not asked."""
    yield TurnCompleted(turn=turn.model_copy(update={"end_reason": "completed", "completed_at": datetime.now(UTC)}))


async def origin_of(stores: Stores, request: ResponseRequest, caller: Caller) -> Origin:
    """What a response continues.

    Raises NotFound for a response or conversation that is not there, InvalidRequest for one that cannot be continued.
    """
    if request.previous_response_id is not None:
        chain = await stores.responses.chain(request.previous_response_id, caller)
        outputs = [item for earlier, _ in chain for item in (earlier.body or {}).get("output", ())]
        return Origin(told_by(chain), [], labels_listed(outputs), [turn for _, turn in chain])
    if request.conversation is not None:
        items = await stores.conversations.all_items(request.conversation, caller)
        return Origin(Told(), items, labels_listed(items))
    return Origin(Told(), [], labels_listed(request.input))


_KNOWN_BY_ID = frozenset({"item_reference", "file_search_call", "web_search_call", "code_interpreter_call"})
"""Items that mean an output item of an earlier response. A hosted tool's call is shown without what the model read."""


async def with_items(stores: Stores, items: list[JsonObject], caller: Caller) -> list[JsonObject]:
    """The items, each that means an output item of an earlier response replaced by that; one that means none stays."""
    resolved: list[JsonObject] = []
    for item in items:
        found = None
        if item["type"] in _KNOWN_BY_ID and "_output" not in item:
            found = await stores.responses.output_item(item["id"], caller)
        is_meant = found is not None and item["type"] in ("item_reference", found["type"])
        resolved.append(found if found is not None and is_meant else item)
    return resolved
