"""Shields and what they say in the classic shape (`Shield`, `SafetyViolation` and `safety.run_shield` of
`llama-stack-client` 0.2.12).
"""

from pydantic import Field

from llama_stack.api.common import JsonObject
from llama_stack.api.messages import Message
from llama_stack.api.resources import Shield
from llama_stack.api.safety import ShieldVerdict, Violation
from llama_stack.wire.classic.body import ClassicBody, parse_body
from llama_stack.wire.classic.messages import MessageBody, decode_messages


class RunShieldBody(ClassicBody):
    """Body of POST /v1/safety/run-shield. params: what this call asks of the shield otherwise than usual."""

    shield_id: str = Field(min_length=1)
    messages: list[MessageBody] = Field(min_length=1)
    params: JsonObject | None = None


class RegisterShieldBody(ClassicBody):
    """Body of POST /v1/shields. provider_shield_id: for a guard, the identifier of its model."""

    shield_id: str = Field(min_length=1)
    provider_shield_id: str | None = None
    provider_id: str | None = None
    params: JsonObject | None = None


def decode_run_shield(body: object) -> tuple[str, list[Message], JsonObject]:
    """The shield's id, what it is to judge, and with which params. Raises InvalidRequest naming the wrong field."""
    parsed = parse_body(RunShieldBody, body)
    return parsed.shield_id, decode_messages(parsed.messages), parsed.params or {}


def decode_shield(body: object) -> Shield:
    """A shield to register; what the body leaves open is empty. Raises InvalidRequest naming the wrong field."""
    parsed = parse_body(RegisterShieldBody, body)
    return Shield(
        identifier=parsed.shield_id,
        provider_id=parsed.provider_id or "",
        provider_resource_id=parsed.provider_shield_id or parsed.shield_id,
        params=parsed.params or {},
    )


def encode_shield(shield: Shield) -> JsonObject:
    return {
        "identifier": shield.identifier,
        "provider_id": shield.provider_id,
        "provider_resource_id": shield.provider_resource_id,
        "type": "shield",
        "params": shield.params,
    }


def encode_verdict(verdict: ShieldVerdict) -> JsonObject:
    return {"violation": None if verdict.violation is None else encode_violation(verdict.violation)}


def encode_violation(violation: Violation) -> JsonObject:
    return {
        "violation_level": violation.level.value,
        "user_message": violation.user_message,
        "metadata": violation.metadata,
    }
