"""What all words share: a strict base model, the caller, and health."""

from enum import StrEnum
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

JsonObject = dict[str, Any]
"""A JSON object as it entered or as it will leave; values are JSON values."""

__all__ = ["Caller", "Health", "HealthStatus", "JsonObject", "JsonValue", "Page", "Word"]

EntryT = TypeVar("EntryT")


class Word(BaseModel):
    """Base of every type that travels between rooms. Unknown fields are refused, so nothing is silently dropped."""

    model_config = ConfigDict(extra="forbid")


class Page(Word, Generic[EntryT]):
    """Some entries of a list. next_after: what to pass as `after` for the next page; None where the list ends."""

    entries: list[EntryT]
    next_after: str | None = None


class Caller(Word):
    """Who a request is for. Every store method and every owner-scoped call takes one as a required argument.

    owner: stable id of the user or tenant whose rows may be seen; never empty.
    provider_credentials: secrets this caller sent for the request's providers, by credential name
        (such as "together_api_key"); never stored, logged or cached across callers.
    """

    owner: str
    provider_credentials: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"Caller(owner={self.owner!r}, provider_credentials={sorted(self.provider_credentials)})"

    __str__ = __repr__


class HealthStatus(StrEnum):
    """ok: serves. starting: will serve. degraded: unreachable now, tried again by itself. failed: needs a person."""

    OK = "ok"
    STARTING = "starting"
    DEGRADED = "degraded"
    FAILED = "failed"


class Health(Word):
    """State of one provider. `message` says, when not ok, what is wrong and what to do."""

    status: HealthStatus
    message: str | None = None
