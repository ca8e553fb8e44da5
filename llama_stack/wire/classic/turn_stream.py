"""Streamed turns in the classic shape (`AgentTurnResponseStreamChunk` of `llama-stack-client` 0.2.12)."""

from collections.abc import Sequence

from llama_stack.api.agents import (
    AgentEvent,
    InferenceStep,
    ShieldCallStep,
    Step,
    StepCompleted,
    StepProgress,
    StepStarted,
    StepType,
    ToolCallFinished,
    ToolCallStarted,
    ToolExecutionStep,
    Turn,
    TurnAwaitingInput,
    TurnCompleted,
    TurnStarted,
)
from llama_stack.api.common import JsonObject
from llama_stack.api.inference import ChoiceEnd
from llama_stack.api.messages import ToolCall
from llama_stack.wire.classic.deltas import DeltaEncoder, call_delta
from llama_stack.wire.classic.inference_stream import frame
from llama_stack.wire.classic.messages import encode_tool_call
from llama_stack.wire.classic.steps import encode_step, encode_stopped_turn, shown_id, shown_type

_TOUCHPOINTS = {"input": "user-input", "output": "assistant-output", "tool": "tool-output"}


class ClassicTurnEncoder:
    """Writes the events of a turn as `data:` frames; the stream ends with its body, not with `[DONE]`.

    There is no `turn_start`: the last server this client was made for never sent one, so programs that read
    `step_type` off every event until the last would fail on it. The step of calls that the caller must run is begun
    before the turn waits, as the servers of 0.1 and 0.2 began it, and what the caller brings completes it in the stream
    of the resumption; results that come apart from the others complete a step of their own.
    earlier: the turns of ours that the classic turn was made of until now; see `llama_stack.wire.classic.steps`.
    resumed: the turn that is gone on with, as it was. brought: what a new turn of ours goes on with.
    """

    def __init__(
        self,
        *,
        earlier: Sequence[Turn] = (),
        resumed: Turn | None = None,
        brought: ToolExecutionStep | None = None,
    ) -> None:
        self._turn_id = "" if resumed is None else shown_id(resumed.turn_id)
        self._earlier = list(earlier)
        self._brought = brought
        self._has_inferred = resumed is not None and any(isinstance(step, InferenceStep) for step in resumed.steps)
        self._deltas = DeltaEncoder()

    def encode(self, event: AgentEvent) -> bytes:
        """The event's frames; empty for one that the classic stream has no word for."""
        return b"".join(frame({"event": {"payload": payload}}) for payload in self._payloads(event))

    def _payloads(self, event: AgentEvent) -> list[JsonObject]:
        match event:
            case TurnStarted():
                self._turn_id = shown_id(event.turn_id)
                return [] if self._brought is None else [self._completed(self._brought)]
            case ToolCallFinished():
                return []
            case StepStarted():
                return self._started(event)
            case StepProgress(event=ChoiceEnd()):
                return [self._progress("inference", event.step_id, delta) for delta in self._deltas.end()]
            case StepProgress():
                deltas = self._deltas.encode(event.event)
                return [self._progress("inference", event.step_id, delta) for delta in deltas]
            case ToolCallStarted():
                return self._calling(event.step_id, [event.tool_call])
            case StepCompleted():
                return [self._completed(event.step)]
            case TurnAwaitingInput():
                waiting = {"event_type": "turn_awaiting_input", "turn": encode_stopped_turn(event, self._earlier)}
                return [*self._asked(event), waiting]
            case TurnCompleted():
                return [{"event_type": "turn_complete", "turn": encode_stopped_turn(event, self._earlier)}]

    def _asked(self, event: TurnAwaitingInput) -> list[JsonObject]:
        """The step that the caller's results will complete."""
        return self._calling(event.step_id, event.tool_calls) if event.tool_calls and event.step_id else []

    def _calling(self, step_id: str, calls: Sequence[ToolCall]) -> list[JsonObject]:
        deltas = [call_delta("in_progress", encode_tool_call(call)) for call in calls]
        progress = [self._progress("tool_execution", step_id, delta) for delta in deltas]
        return [_start("tool_execution", step_id, {}), *progress]

    def _started(self, event: StepStarted) -> list[JsonObject]:
        if event.step_type in (StepType.TOOL_EXECUTION, StepType.DELEGATION):
            # Told when the call begins, or when the caller was asked.
            return []
        metadata: JsonObject = {}
        if event.step_type == StepType.INFERENCE:
            self._has_inferred = True
            self._deltas = DeltaEncoder()
        elif event.step_type == StepType.SHIELD_CALL:
            metadata["touchpoint"] = _TOUCHPOINTS["output" if self._has_inferred else "input"]
        return [_start(event.step_type.value, event.step_id, metadata)]

    def _progress(self, step_type: str, step_id: str, delta: JsonObject) -> JsonObject:
        return {"event_type": "step_progress", "step_type": step_type, "step_id": step_id, "delta": delta}

    def _completed(self, step: Step) -> JsonObject:
        payload: JsonObject = {
            "event_type": "step_complete",
            "step_type": shown_type(step),
            "step_id": step.step_id,
            "step_details": encode_step(step, self._turn_id),
        }
        if isinstance(step, ShieldCallStep):
            payload["metadata"] = {"touchpoint": _TOUCHPOINTS[step.touchpoint], "shield_id": step.shield}
        return payload


def _start(step_type: str, step_id: str, metadata: JsonObject) -> JsonObject:
    return {"event_type": "step_start", "step_type": step_type, "step_id": step_id, "metadata": metadata}
