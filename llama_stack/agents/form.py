"""The form of a final answer: asked for, checked, and asked for once more when it was missed."""

import json

from pydantic_core import from_json

from llama_stack.agents.json_schema import schema_faults
from llama_stack.api.agents import InferenceStep, Turn
from llama_stack.api.inference import (
    Capabilities,
    ChatEvent,
    JsonObjectFormat,
    JsonSchemaFormat,
    ResponseFormat,
    TextDelta,
    TextFormat,
    ToolCallStart,
)
from llama_stack.api.messages import UserMessage, text_of
from llama_stack.errors import StructuredOutputInvalid

MAX_ATTEMPTS = 2
SHOWN_CHARS = 2000


def is_wanted(form: ResponseFormat) -> bool:
    return not isinstance(form, TextFormat)


def enforced_by(able: Capabilities, form: ResponseFormat) -> bool:
    """Whether the provider holds the model to this form; where it does not, the model can only be told."""
    return able.json_schema or not isinstance(form, JsonObjectFormat | JsonSchemaFormat)


def is_sure(able: Capabilities, form: ResponseFormat) -> bool:
    """Whether an answer asked for in this form cannot be off it. What nobody checks here, a grammar, cannot either."""
    return not isinstance(form, JsonObjectFormat | JsonSchemaFormat) or (able.json_schema and able.form_guaranteed)


def told(form: ResponseFormat) -> str:
    """The wish for the form in words, for a model that nobody holds to it."""
    if isinstance(form, JsonSchemaFormat):
        return f"Answer with JSON only, without any other text. It must fit this schema: {json.dumps(form.json_schema)}"
    return "Answer with one JSON object only, without any other text."


def faults(text: str, form: ResponseFormat) -> list[str]:
    """What is wrong with an answer of this form; empty when nothing is. Grammars are the provider's to keep."""
    if not isinstance(form, JsonObjectFormat | JsonSchemaFormat):
        return []
    try:
        value = from_json(text)
    except ValueError as error:
        return [f"it is not valid JSON: {error}"]
    schema = form.json_schema if isinstance(form, JsonSchemaFormat) else {"type": "object"}
    return [fault.replace("the arguments must", "the answer must", 1) for fault in schema_faults(value, schema)]


def is_met(text: str, form: ResponseFormat) -> bool:
    """Whether a text is known to have the form, though it may not have been asked for. Nobody checks a grammar here."""
    return isinstance(form, JsonObjectFormat | JsonSchemaFormat) and not faults(text, form)


class HeldText:
    """Keeps the text of an answer from its readers until it is known that the answer stays.

    Not where a provider vouches for the form: such an answer is told as it comes, and is never asked for again.

    An answer off its form is asked for again; a reader who was told both would take them for one. Text before a call
    is let out with the call, which shows that it was not meant to be the answer.
    holds: whether anything is held at all.
    """

    def __init__(self, *, holds: bool) -> None:
        self._holds = holds
        self._held: list[ChatEvent] = []

    def feed(self, event: ChatEvent) -> list[ChatEvent]:
        """Take an event; gives those that may go out now, in their order."""
        if isinstance(event, ToolCallStart):
            self._holds = False
        self._held.append(event)
        if self._holds and any(isinstance(one, TextDelta) for one in self._held):
            return []
        return self._taken()

    def finish(self, *, stays: bool) -> list[ChatEvent]:
        """The rest of the answer; without its text where the answer does not stay."""
        return [event for event in self._taken() if stays or not isinstance(event, TextDelta)]

    def _taken(self) -> list[ChatEvent]:
        taken, self._held = self._held, []
        return taken


def missed(turn: Turn, form: ResponseFormat) -> InferenceStep | None:
    """The turn's last answer, if it was asked for in this form and has not got it.

    Raises StructuredOutputInvalid, with the text, when that has happened for the second time.
    """
    attempts = [step for step in turn.steps if isinstance(step, InferenceStep)]
    if not attempts or attempts[-1].ends_turn is not None or not attempts[-1].is_formed:
        return None
    if len(attempts) >= MAX_ATTEMPTS and attempts[-2].is_formed:
        raise invalid(text_of(attempts[-1].message.content), form)
    return attempts[-1]


def invalid(text: str, form: ResponseFormat) -> StructuredOutputInvalid:
    """The error for an answer that is off its form and is not asked for again."""
    problem = "; ".join(faults(text, form)[:3])
    shown = text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."
    return StructuredOutputInvalid(f"the model's answer does not fit the response format: {problem}. It said: {shown}")


def repair_request(step: InferenceStep, form: ResponseFormat) -> UserMessage:
    """What the model is told of an answer that missed its form."""
    problem = "; ".join(faults(text_of(step.message.content), form)[:5])
    return UserMessage(content=f"Your answer does not have the form that was asked for: {problem}. {told(form)}")
