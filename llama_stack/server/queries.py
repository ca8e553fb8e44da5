"""Query parameters of OpenAI's lists: limit, order, after, include, metadata."""

import re
from typing import Literal

from starlette.requests import Request

from llama_stack.errors import InvalidRequest

_METADATA = re.compile(r"metadata\[(.+)\]")


def asked_limit(request: Request, default: int = 20, most: int = 100) -> int:
    limit = asked_number(request, "limit", default)
    if not 1 <= limit <= most:
        raise InvalidRequest(f"limit: must be 1 to {most}, not {limit}", param="limit")
    return limit


def asked_number(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name)
    if value is None:
        return default
    try:
        return int(value)
    except ValueError:
        raise InvalidRequest(f"{name}: must be a whole number, not {value[:50]!r}", param=name) from None


def asked_order(request: Request, default: Literal["asc", "desc"] = "desc") -> Literal["asc", "desc"]:
    match request.query_params.get("order"):
        case None:
            return default
        case "asc":
            return "asc"
        case "desc":
            return "desc"
        case other:
            raise InvalidRequest(f'order: must be "asc" or "desc", not {other[:50]!r}', param="order")


def asked_flag(request: Request, name: str) -> bool:
    match request.query_params.get(name):
        case None | "false":
            return False
        case "true":
            return True
        case other:
            raise InvalidRequest(f"{name}: must be true or false, not {other[:50]!r}", param=name)


def asked_include(request: Request) -> list[str]:
    """OpenAI's clients write `include[]=a&include[]=b`; others repeat `include` or join with commas."""
    values = [*request.query_params.getlist("include[]"), *request.query_params.getlist("include")]
    return [name for value in values for name in value.split(",") if name]


def asked_metadata(request: Request) -> dict[str, str]:
    """`metadata[name]=value`, as OpenAI's clients write objects."""
    found = ((_METADATA.fullmatch(name), value) for name, value in request.query_params.items())
    return {match.group(1): value for match, value in found if match is not None}
