"""Files that come with a response's input: read once, and kept as they were read beside the part that brought them.

So a response can be continued after the file was deleted, and each time the model is given the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.inference import Capabilities
from llama_stack.api.messages import FilePart
from llama_stack.api.responses import ResponseRequest
from llama_stack.api.sent_files import SentFile, check_count, has_files
from llama_stack.api.stack import ServedStack
from llama_stack.errors import ContextOverflow, StackError, UnsupportedParameter
from llama_stack.wire.openai_responses.items import FILE_FIELDS
from llama_stack.wire.openai_responses.telling import READ_AS, Told, tell


async def with_files(
    stack: ServedStack, items: list[JsonObject], model: str, caller: Caller, path: str = "input"
) -> list[JsonObject]:
    """The items; each part of them that brings a file says what the model is given in its place.

    path: of the items in the request. Raises NotFound, InvalidRequest and UnsupportedParameter naming the part's field,
    and NotFound for an unknown model.
    """
    if not any(_is_asked_of_model(part) for item in items for _, part in _parts(item)):
        return items
    await stack.model(model, caller)
    able = stack.inference.capabilities(model)
    read, count = [], 0
    for position, item in enumerate(items):
        for place, part in _parts(item):
            field = f"{path}.{position}.{place}"
            if _is_unread_file(part):
                file = _sent(part, field)
                count += 1
                check_count(count, file.field)
                content = await (await stack.memory()).sent_files.read(file, able, caller)
                item = _with_part(item, place, {**part, READ_AS: content.model_dump(mode="json")})
            elif item["type"] == "message" and part.get("image_url") is not None:
                _check_sees(able, model, f"{field}.image_url")
        read.append(item)
    return read


async def told_with_files(
    stack: ServedStack, request: ResponseRequest, before: Told, earlier: list[JsonObject], caller: Caller
) -> Told:
    """The conversation as the request's model can read it. earlier: items of a conversation, as they were put there."""
    earlier = await with_files(stack, earlier, request.model, caller, "conversation")
    told = tell(request.input, before, earlier=earlier)
    if has_files(told.messages):
        await stack.model(request.model, caller)
        able = stack.inference.capabilities(request.model)
        if not able.files:
            # An earlier model has read them by itself.
            files = (await stack.memory()).sent_files
            told.messages = await files.in_messages(told.messages, able, caller, _input)
    return told


def named_as_sent(error: Exception) -> None:
    """Let an error about a message, or about all of them, name the field of a response's request: it has none."""
    if not isinstance(error, StackError):
        return
    is_of_all = error.param is None and isinstance(error, ContextOverflow)
    if is_of_all or (error.param or "").partition(".")[0] == "messages":
        error.param = "input"


# --- parts ---------------------------------------------------------------------------------------------------------


def _parts(item: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """What a message or an output is made of, each part with its path in the item."""
    for name in ("content", "output"):
        parts = item.get(name)
        if isinstance(parts, list):
            yield from ((f"{name}.{number}", part) for number, part in _objects(parts))


def _objects(parts: Sequence[Any]) -> Iterable[tuple[int, JsonObject]]:
    return ((number, part) for number, part in enumerate(parts) if isinstance(part, dict))


def _is_asked_of_model(part: JsonObject) -> bool:
    return part.get("type") in ("input_file", "input_image") and READ_AS not in part


def _is_unread_file(part: JsonObject) -> bool:
    return _is_asked_of_model(part) and part.get("image_url") is None


def _sent(part: JsonObject, field: str) -> SentFile:
    name = next(name for name in FILE_FIELDS if part.get(name) is not None)
    return SentFile(
        field=f"{field}.{name}",
        file_id=part.get("file_id"),
        data=part.get("file_data"),
        url=part.get("file_url"),
        filename=part.get("filename"),
        is_picture=part["type"] == "input_image",
        detail=part.get("detail"),
    )


def _with_part(item: JsonObject, place: str, part: JsonObject) -> JsonObject:
    name, _, number = place.partition(".")
    return {**item, name: [part if at == int(number) else one for at, one in enumerate(item[name])]}


def _check_sees(able: Capabilities, model: str, field: str) -> None:
    if not able.vision:
        raise UnsupportedParameter(
            f"{field}: the model {model!r} cannot read pictures; use another model or leave it out", param=field
        )


def _input(message: int, number: int, part: FilePart) -> str:
    return "input"
