"""The shape of the answers of shields and moderations, for the OpenAPI document; see `llama_stack.server.schema`."""

from typing import Any, Literal

from llama_stack.server.schema import Answer


class ShieldAnswer(Answer):
    identifier: str
    provider_id: str
    provider_resource_id: str
    type: Literal["shield"]
    params: dict[str, Any]


class ShieldList(Answer):
    data: list[ShieldAnswer]


class ShieldRemoved(Answer):
    identifier: str
    deleted: Literal[True]


class SafetyViolation(Answer):
    """`metadata.violation_type`: the hazard category's code, or the rule's name."""

    violation_level: Literal["info", "warn", "error"]
    user_message: str | None
    metadata: dict[str, Any]


class ShieldRun(Answer):
    violation: SafetyViolation | None


class ModerationResult(Answer):
    """Categories are OpenAI's and the shield's own; a score is 1 or 0 unless the shield tells how sure it is."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[Literal["text", "image"]]]
    user_message: str | None = None
    metadata: dict[str, Any] | None = None


class Moderation(Answer):
    id: str
    model: str
    results: list[ModerationResult]
