"""Moderations in OpenAI's shape (API reference, "Create moderation"): any shield can answer them.

A shield says yes or no, so a score is 1 or 0, unless the shield tells how sure it is. Beside OpenAI's categories stand
those of the shield itself: the hazard codes of Llama Guard (`S1`), the names of rules.
"""

from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import uuid4

from pydantic import Field, ValidationError

from llama_stack.api.common import JsonObject
from llama_stack.api.messages import ContentPart, ImagePart, ImageUrl, Message, TextPart, UserMessage, has_images
from llama_stack.api.safety import ShieldVerdict, Violation, ViolationLevel
from llama_stack.errors import InvalidRequest
from llama_stack.wire.validation import Body, OpenBody, invalid_request

MOST_INPUTS = 512

OPENAI_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
OPENAI_NAMES: Mapping[str, tuple[str, ...]] = {
    "S1": ("violence",),
    "S2": ("illicit",),
    "S3": ("sexual",),
    "S4": ("sexual/minors",),
    "S5": ("harassment",),
    "S9": ("illicit/violent",),
    "S10": ("hate",),
    "S11": ("self-harm",),
    "S12": ("sexual",),
}
"""Llama Guard's hazard codes by OpenAI's names; the others (advice, privacy, copyright, elections, code) have none."""

_IMAGE_CATEGORIES = frozenset(
    {"self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "violence", "violence/graphic"}
)


class ModerationTextBody(Body):
    type: Literal["text"]
    text: str


class ModerationImageUrlBody(Body):
    url: ImageUrl


class ModerationImageBody(Body):
    type: Literal["image_url"]
    image_url: ModerationImageUrlBody


ModerationItemBody = Annotated[ModerationTextBody | ModerationImageBody, Field(discriminator="type")]


class ModerationBody(OpenBody):
    """Body of POST /v1/moderations. model: the id of a shield; default: the first one of the stack."""

    input: str | list[str] | list[ModerationItemBody]
    model: str | None = None


def decode_moderation(body: object) -> tuple[list[UserMessage], str | None]:
    """What is to be judged, a result for each, and the shield's id where the caller names one.

    Texts in a list are judged one by one; parts with a `type` belong together and have one result. Raises
    InvalidRequest naming the wrong field.
    """
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    try:
        parsed = ModerationBody.model_validate(body)
    except ValidationError as error:
        raise invalid_request(error, body) from None
    if not isinstance(parsed.input, str) and not 1 <= len(parsed.input) <= MOST_INPUTS:
        raise InvalidRequest(f"input: needs 1 to {MOST_INPUTS} items, not {len(parsed.input)}", param="input")
    if isinstance(parsed.input, str):
        return [UserMessage(content=parsed.input)], parsed.model
    parts: list[ContentPart] = []
    texts: list[UserMessage] = []
    for item in parsed.input:
        match item:
            case str():
                texts.append(UserMessage(content=item))
            case ModerationTextBody():
                parts.append(TextPart(text=item.text))
            case ModerationImageBody():
                parts.append(ImagePart(url=item.image_url.url))
    return texts or [UserMessage(content=parts)], parsed.model


def encode_moderation(verdicts: list[ShieldVerdict], judged: list[UserMessage], shield_id: str) -> JsonObject:
    return {
        "id": f"modr-{uuid4().hex}",
        "model": shield_id,
        "results": [
            encode_moderation_result(verdict.violation, message)
            for verdict, message in zip(verdicts, judged, strict=True)
        ],
    }


def encode_moderation_result(violation: Violation | None, message: Message) -> JsonObject:
    """`user_message` and `metadata` are ours: why the shield objects. What it only records flags nothing."""
    flagged = violation is not None and violation.level is not ViolationLevel.INFO
    own = _own_categories(violation) if violation is not None else []
    named = {name for category in own for name in OPENAI_NAMES.get(category, ())}
    categories = {category: flagged and category in named for category in OPENAI_CATEGORIES}
    categories.update(dict.fromkeys(own, flagged))
    told = violation.metadata.get("score") if violation is not None else None
    score = float(told) if isinstance(told, int | float) else 1.0
    kinds = ["text", "image"] if has_images([message]) else ["text"]
    result: JsonObject = {
        "flagged": flagged,
        "categories": categories,
        "category_scores": {category: score if holds else 0.0 for category, holds in categories.items()},
        "category_applied_input_types": {
            category: kinds if category not in OPENAI_CATEGORIES or category in _IMAGE_CATEGORIES else ["text"]
            for category in categories
        },
    }
    if violation is not None:
        result["user_message"] = violation.user_message
        result["metadata"] = violation.metadata
    return result


def _own_categories(violation: Violation) -> list[str]:
    """The shield's own names for what it found."""
    metadata = violation.metadata
    found = [str(metadata.get("violation_type") or "violation")]
    if isinstance(categories := metadata.get("categories"), dict):
        found += categories
    if isinstance(matches := metadata.get("matches"), list):
        found += [str(match["rule"]) for match in matches if isinstance(match, dict) and "rule" in match]
    return list(dict.fromkeys(found))
