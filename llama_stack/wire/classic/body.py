"""What all classic bodies share."""

from typing import TypeVar

from pydantic import ConfigDict, ValidationError

from llama_stack.errors import InvalidRequest
from llama_stack.wire.validation import Body, invalid_request


class ClassicBody(Body):
    """Base of what enters in a classic shape.

    Unknown fields are ignored: the classic client passes every key of its dictionaries through, stray ones too. It
    writes an argument given as None as null, so null always means "not given".
    """

    model_config = ConfigDict(extra="ignore", strict=True)


BodyT = TypeVar("BodyT", bound=ClassicBody)


def parse_body(shape: type[BodyT], body: object) -> BodyT:
    """The body in its shape. Raises InvalidRequest naming the wrong field."""
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        raise invalid_request(error, body) from None
