"""What a tool of this process may know of the call it serves, and what it may keep for its session.

The state of a session is read from its turns: a call that changed it leaves the whole of it in the step that keeps the
call's result. So state and result are stored together or not at all, and a session taken up after a restart has both.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from llama_stack.api.agents import ToolExecutionStep, Turn
from llama_stack.api.common import Caller, JsonObject

STATE = "session_state"
"""The key under which a result's metadata holds the state that the call left."""
MAX_STATE_BYTES = 64 * 1024


@dataclass(frozen=True)
class ToolContext:
    """A parameter of a tool's function with this annotation is filled in by the agent and never shown to the model.

    caller: on whose behalf the turn runs. call_id: of the call being served. state: JSON values that belong to the
    session, at most MAX_STATE_BYTES of them; what a call changes, later calls and later turns find. inner_turn: where
    an agent serves the call and had to wait, its turn, to be gone on with.
    """

    caller: Caller
    session_id: str = ""
    turn_id: str = ""
    call_id: str = ""
    state: dict[str, Any] = field(default_factory=dict)
    inner_turn: Turn | None = None


_current: ContextVar[ToolContext] = ContextVar("tool_context")


@contextmanager
def serving(context: ToolContext) -> Iterator[None]:
    """While the block runs, in this task and the threads it starts, `current_call` gives this context."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def current_call() -> ToolContext:
    """The context of the call that this task serves; an empty one where no agent runs it."""
    return _current.get(None) or ToolContext(Caller(owner="nobody"))


def state_after(turns: Iterable[Turn]) -> dict[str, Any]:
    """The session's state as the latest of the calls in these turns left it, in a copy of its own."""
    latest: JsonObject = {}
    for turn in turns:
        for step in turn.steps:
            if isinstance(step, ToolExecutionStep):
                for metadata in step.metadata.values():
                    latest = metadata.get(STATE, latest)
    copy: dict[str, Any] = from_json(encoded_state(latest))
    return copy


def encoded_state(state: dict[str, Any]) -> bytes:
    """Raises ValueError, in words for the function's author, for what cannot be kept."""
    try:
        encoded = to_json(state, inf_nan_mode="constants")
    except PydanticSerializationError as error:
        raise ValueError(f"the session's state must be JSON values only: {error}") from error
    if len(encoded) > MAX_STATE_BYTES:
        raise ValueError(f"the session's state has {len(encoded)} bytes; at most {MAX_STATE_BYTES} are kept")
    return encoded


def changed_state(state: dict[str, Any], before: bytes) -> JsonObject:
    """What a result's metadata says of the state: all of it where it differs from `before`, else nothing."""
    after = encoded_state(state)
    return {STATE: from_json(after)} if after != before else {}
