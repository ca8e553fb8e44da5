"""What Pydantic says about a bad body, turned into one InvalidRequest that names the field as the caller wrote it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from llama_stack.errors import InvalidRequest, StackError


class Body(BaseModel):
    """Base of what enters as JSON: no coercion (the text "3" is no number) and no unknown field."""

    model_config = ConfigDict(extra="forbid", strict=True)


class OpenBody(Body):
    """A body whose unknown fields are kept, because somebody further on may understand them."""

    model_config = ConfigDict(extra="allow", strict=True)

    def unknown(self) -> dict[str, Any]:
        """The fields this body does not declare, nulls left out."""
        return {key: value for key, value in (self.__pydantic_extra__ or {}).items() if value is not None}


def invalid_request(error: ValidationError, body: object, *, under: str = "") -> InvalidRequest:
    """One error for the deepest problem found, its `param` a dotted path such as `messages.0.content`.

    body: the value that was validated; it tells real keys from the names Pydantic gives to members of a union.
    under: path of `body` itself inside the request.
    """
    found: dict[tuple[str | int, ...], list[str]] = {}
    for detail in error.errors(include_url=False, include_context=True):
        path, problem = _place_and_problem(detail, body)
        found.setdefault(path, []).append(problem)
    deepest = max(found, key=len)
    param = ".".join([under, *map(str, deepest)] if under else map(str, deepest))
    problems = " or ".join(dict.fromkeys(found[deepest]))
    return InvalidRequest(f"{param}: {problems}" if param else problems, param=param or None)


@contextmanager
def naming(**fields: str) -> Iterator[None]:
    """Let errors name the request's fields: each of these, a word of ours, by the path at which the caller wrote it."""
    try:
        yield
    except StackError as error:
        named(error, **fields)
        raise


def named(error: StackError, **fields: str) -> StackError:
    """The same error as `naming` raises it."""
    ours = error.param or ""
    if ours not in fields:
        return error
    theirs = fields[ours]
    error.param = theirs
    error.message = f"{theirs}: {error.message.removeprefix(f'{ours}: ')}"
    error.args = (error.message,)
    return error


def checked_url(text: str, param: str) -> SplitResult:
    """The parts of a URL at which a server can be asked. Raises InvalidRequest naming `param`."""
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        url = SplitResult("", "", "", "", "")
    if url.scheme not in ("http", "https") or not url.hostname or not text.isprintable() or " " in text:
        raise InvalidRequest(f"{param}: must be an http or https URL with a host", param=param)
    return url


def _place_and_problem(detail: ErrorDetails, body: object) -> tuple[tuple[str | int, ...], str]:
    path = _real_path(detail["loc"], body, missing=detail["type"] == "missing")
    context = detail.get("ctx") or {}
    match detail["type"]:
        case "missing":
            return path, "is required"
        case "extra_forbidden":
            return path, "is not a known field; remove it"
        case "union_tag_invalid":
            tag = str(context["discriminator"]).strip("'")
            return (*path, tag), f"must be one of {context['expected_tags']}, not {context['tag']!r}"
        case "union_tag_not_found":
            return (*path, str(context["discriminator"]).strip("'")), "is required"
        case "value_error":
            return path, str(context.get("error", detail["msg"]))
        case _:
            return path, detail["msg"].replace("Input should be", "should be", 1)


def _real_path(loc: Sequence[str | int], body: object, *, missing: bool) -> tuple[str | int, ...]:
    path: list[str | int] = []
    here = body
    for position, step in enumerate(loc):
        in_object = isinstance(here, Mapping) and step in here
        in_list = isinstance(here, list) and isinstance(step, int) and step < len(here)
        if in_object or in_list:
            here = here[step]  # type: ignore[index]  # one of the two containers just tested
        elif not (missing and position == len(loc) - 1):
            continue
        path.append(step)
    return tuple(path)
