"""Safety: shields that judge messages before they reach a model or a person."""

from enum import StrEnum
from typing import Protocol

from llama_stack.api.common import Caller, JsonObject, Word
from llama_stack.api.messages import Message
from llama_stack.api.resources import Shield


class ViolationLevel(StrEnum):
    """info: only recorded. warn: shown to the caller. error: the content must not be used."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class Violation(Word):
    """Why a shield objects. `user_message` may be shown to a person; `metadata` names categories and matches."""

    level: ViolationLevel
    user_message: str | None = None
    metadata: JsonObject = {}


class ShieldVerdict(Word):
    """`violation` is None when the shield has no objection."""

    violation: Violation | None = None


class Safety(Protocol):
    """Runs the shields of one provider.

    A provider that can tell what can never work has a method `async check_shield(shield, caller) -> list[str]`, which
    is asked before a caller's shield is registered. It raises InvalidRequest, reaches out to nobody, and gives the
    identifiers of the models that the shield would ask: the stack refuses those that it has not.
    """

    async def run_shield(
        self, shield: Shield, messages: list[Message], caller: Caller, params: JsonObject | None = None
    ) -> ShieldVerdict:
        """Judge the last message in the light of the earlier ones.

        An implementer that cannot read its guard's answer says so as a violation (fails closed) unless it is
        configured otherwise. Raises ProviderFailed when the guard cannot be asked.
        """
        ...
