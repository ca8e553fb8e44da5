"""Texts that clients keep for us, as the opaque `encrypted_content` of reasoning and of compaction items.

A token hides nothing: whoever gets one may read what is in it anyway. A client may have made one up, so what is in it
is checked like any other input.
"""

import base64
import binascii
from dataclasses import dataclass, field

import orjson
from pydantic import TypeAdapter, ValidationError

from llama_stack.api.messages import Message, SystemMessage, UserMessage
from llama_stack.errors import InvalidRequest

SUMMARY_HEAD = "Summary of the conversation so far:\n"


@dataclass(frozen=True)
class Window:
    """A conversation made short, which stands for all that was said before it.

    before: instructions that the conversation began with. after: what the user said last, word for word.
    """

    summary: str
    before: list[SystemMessage] = field(default_factory=list)
    after: list[UserMessage] = field(default_factory=list)

    @property
    def messages(self) -> list[Message]:
        return [*self.before, summary_message(self.summary), *self.after]


_SYSTEM: TypeAdapter[list[SystemMessage]] = TypeAdapter(list[SystemMessage])
_USER: TypeAdapter[list[UserMessage]] = TypeAdapter(list[UserMessage])


def summary_message(summary: str) -> SystemMessage:
    return SystemMessage(content=f"{SUMMARY_HEAD}{summary}")


def sealed(text: str) -> str:
    return _token({"v": 1, "text": text})


def unsealed(token: str, path: str) -> str:
    """Raises InvalidRequest for a token somebody else made."""
    return str(_opened(token, path)["text"])


def sealed_window(window: Window) -> str:
    before, after = _SYSTEM.dump_python(window.before, mode="json"), _USER.dump_python(window.after, mode="json")
    return _token({"v": 2, "text": window.summary, "before": before, "after": after})


def opened_compaction(token: str, path: str) -> Window | str:
    """A whole window, or a summary that what the user said still stands beside. Raises InvalidRequest as `unsealed`."""
    told = _opened(token, path)
    if "after" not in told:
        return str(told["text"])
    try:
        before, after = _SYSTEM.validate_python(told.get("before")), _USER.validate_python(told["after"])
    except ValidationError as error:
        raise _not_ours(path) from error
    return Window(str(told["text"]), before, after)


def _token(told: dict[str, object]) -> str:
    return base64.b64encode(orjson.dumps(told)).decode()


def _opened(token: str, path: str) -> dict[str, object]:
    try:
        told = orjson.loads(base64.b64decode(token, validate=True))
        told["text"]
    except (binascii.Error, ValueError, KeyError, TypeError, IndexError) as error:
        raise _not_ours(path) from error
    if not isinstance(told, dict):
        raise _not_ours(path)
    return told


def _not_ours(path: str) -> InvalidRequest:
    return InvalidRequest(
        f"{path}.encrypted_content: was not made by this stack; leave the item out", param=f"{path}.encrypted_content"
    )
