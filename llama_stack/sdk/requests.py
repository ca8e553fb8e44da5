"""From the arguments a person types to the request the stack understands."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from llama_stack.api.inference import ChatRequest, JsonSchemaFormat, ResponseFormat, Sampling
from llama_stack.api.messages import Message, SystemMessage, UserMessage
from llama_stack.errors import InvalidRequest


def conversation(messages: str | Message | Sequence[Message]) -> list[Message]:
    """A text is what the user says. Raises InvalidRequest for what is no conversation."""
    if isinstance(messages, str):
        return [UserMessage(content=messages)]
    if isinstance(messages, BaseModel):
        return [messages]
    if not isinstance(messages, Sequence) or isinstance(messages, bytes):
        raise InvalidRequest(
            f"messages: should be a text, a message or a list of messages, not {type(messages).__name__}",
            param="messages",
        )
    return [*messages]


def response_format(wanted: ResponseFormat | type[BaseModel]) -> ResponseFormat:
    """A Pydantic model class asks for JSON of its shape."""
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        return JsonSchemaFormat(name=wanted.__name__, json_schema=wanted.model_json_schema(), strict=True)
    return wanted


def chat_request(messages: str | Message | Sequence[Message], model: str, options: Mapping[str, Any]) -> ChatRequest:
    """The request with options of ChatRequest and of Sampling side by side. Raises InvalidRequest for a wrong one."""
    fields = dict(options)
    talk = conversation(messages)
    if instructions := fields.pop("instructions", None):
        talk.insert(0, SystemMessage(content=instructions))
    sampling = {name: fields.pop(name) for name in Sampling.model_fields if name in fields}
    if "response_format" in fields:
        fields["response_format"] = response_format(fields["response_format"])
    try:
        if sampling:
            given = fields.get("sampling") or Sampling()
            fields["sampling"] = Sampling(**{**given.model_dump(exclude_unset=True), **sampling})
        return ChatRequest(model=model, messages=talk, **fields)
    except ValidationError as error:
        raise wrong_option(error, (*ChatRequest.model_fields, *Sampling.model_fields, "instructions")) from error
    except TypeError as error:
        raise InvalidRequest(str(error)) from error


def wrong_option(error: ValidationError, known: Iterable[str] = ()) -> InvalidRequest:
    """The first fault, by the option's name; for one that there is not, the nearest of those that are known."""
    fault = error.errors(include_url=False)[0]
    name = ".".join(map(str, fault["loc"]))
    problem = fault["msg"]
    if fault["type"] == "extra_forbidden":
        near = get_close_matches(name, known, n=1)
        problem = f"is no option; did you mean {near[0]!r}?" if near else "is no option"
    return InvalidRequest(f"{name}: {problem}", param=name)
