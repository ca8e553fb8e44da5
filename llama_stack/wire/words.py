"""The framework's own words on the wire: nothing lost between a stack and its client, whatever the other dialects know.

A body is the JSON of the word; a stream is one `data:` frame an event and ends with `[DONE]`. A client that wants the
words where another dialect has the same path asks for this media type in its Accept header.
"""

from typing import Any, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from llama_stack.api.agents import (
    AgentEvent,
    ApprovalDecision,
    ToolOutcome,
    TurnAwaitingInput,
    TurnCompleted,
    TurnSettings,
)
from llama_stack.api.common import Word
from llama_stack.api.memory import Document
from llama_stack.api.messages import ToolMessage, UserMessage
from llama_stack.errors import InvalidRequest, ProviderFailed
from llama_stack.wire.validation import invalid_request

MEDIA_TYPE = "application/vnd.llama-stack+json"

WordT = TypeVar("WordT", bound=BaseModel)
_EVENT: TypeAdapter[AgentEvent] = TypeAdapter(AgentEvent)
_DONE = b"data: [DONE]\n\n"


class SessionBody(Word):
    """Body of a new session."""

    name: str = ""


class TurnBody(Word):
    """Body of a new turn."""

    messages: list[UserMessage | ToolMessage] = Field(min_length=1)
    settings: TurnSettings | None = None
    turn_id: str | None = None
    documents: list[Document] = []


class ResumeBody(Word):
    """Body of a turn's resumption."""

    results: list[ToolMessage] = []
    decisions: list[ApprovalDecision] = []
    outcomes: list[ToolOutcome] = []


def decode_word(word: type[WordT], body: Any) -> WordT:
    """A request's body. Raises InvalidRequest naming the wrong field."""
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    try:
        return word.model_validate(body)
    except ValidationError as error:
        raise invalid_request(error, body) from None


def read_word(word: type[WordT], body: Any) -> WordT:
    """An answer's body. Raises ProviderFailed for what is not this word: the other end is of another version."""
    try:
        return word.model_validate(body)
    except ValidationError as error:
        raise not_understood(error) from error


def read_event(frame: Any) -> AgentEvent:
    """One event of a turn's stream; raises as `read_word` does."""
    try:
        return _EVENT.validate_python(frame)
    except ValidationError as error:
        raise not_understood(error) from error


def event_frame(event: AgentEvent) -> bytes:
    """The frame of an event; the last one of a turn closes the stream."""
    frame = b"data: " + event.model_dump_json().encode() + b"\n\n"
    return frame + _DONE if isinstance(event, TurnCompleted | TurnAwaitingInput) else frame


def not_understood(error: ValidationError) -> ProviderFailed:
    """What to raise for an answer that is not the word it should be."""
    fault = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, fault["loc"]))
    return ProviderFailed(f"the stack's answer is not understood ({place}: {fault['msg']}); is it of another version?")
