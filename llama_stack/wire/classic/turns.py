"""What begins a classic turn and what goes on with one: messages, documents, tool responses and approvals."""

import re
from base64 import b64decode
from binascii import Error as NotBase64
from urllib.parse import unquote_to_bytes

from pydantic import Field

from llama_stack.api.agents import ApprovalDecision
from llama_stack.api.messages import ContentPart, ImagePart, TextPart, ToolMessage, UserMessage
from llama_stack.errors import InvalidRequest, UnsupportedParameter
from llama_stack.wire.classic.agents import ToolGroupChoiceBody
from llama_stack.wire.classic.body import ClassicBody
from llama_stack.wire.classic.content import ContentBody, UrlBody, content_parts, decode_content
from llama_stack.wire.classic.messages import (
    ToolResponseMessageBody,
    UserMessageBody,
    decode_tool_message,
    decode_user_message,
)
from llama_stack.wire.classic.tools import ToolConfigBody


class DocumentBody(ClassicBody):
    """A document for one turn: its text, content items, or a URL."""

    content: ContentBody | UrlBody
    mime_type: str | None = None


class ClassicTurnBody(ClassicBody):
    """Body of POST /v1/agents/{agent_id}/session/{session_id}/turn."""

    messages: list[UserMessageBody | ToolResponseMessageBody] = Field(min_length=1)
    documents: list[DocumentBody] | None = None
    toolgroups: list[ToolGroupChoiceBody] | None = None
    tool_config: ToolConfigBody | None = None
    stream: bool | None = None


class ToolResponseBody(ClassicBody):
    call_id: str
    tool_name: str | None = None
    content: ContentBody | None = None


class ApprovalBody(ClassicBody):
    """Ours: a person's word on one call. `reason` is told to the model when the call is denied."""

    call_id: str
    approve: bool
    reason: str | None = None


class ClassicResumeBody(ClassicBody):
    """Body of POST .../turn/{turn_id}/resume. `approvals` is ours, for calls that wait for a person's word."""

    tool_responses: list[ToolResponseBody] | None = None
    approvals: list[ApprovalBody] | None = None
    stream: bool | None = None


class ClassicSessionBody(ClassicBody):
    """Body of POST /v1/agents/{agent_id}/session."""

    session_name: str = Field(min_length=1)


def decode_turn_messages(body: ClassicTurnBody) -> list[UserMessage | ToolMessage]:
    """The documents stand behind the user's last words.

    Raises InvalidRequest for a document that cannot be used, or that no user's message can hold.
    """
    messages = [
        decode_user_message(message) if isinstance(message, UserMessageBody) else decode_tool_message(message)
        for message in body.messages
    ]
    parts = [
        part for position, document in enumerate(body.documents or ()) for part in _document_parts(document, position)
    ]
    if not parts:
        return messages
    for position in reversed(range(len(messages))):
        message = messages[position]
        if isinstance(message, UserMessage):
            content = _joined([*content_parts(message.content), *parts])
            messages[position] = message.model_copy(update={"content": content})
            return messages
    raise InvalidRequest("documents: need a message of the user to go with", param="documents")


def _joined(parts: list[ContentPart]) -> str | list[ContentPart]:
    """One text where there is nothing but text, as models without vision want it."""
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    return "".join(texts) if len(texts) == len(parts) else parts


def _document_parts(document: DocumentBody, position: int) -> list[ContentPart]:
    where = f"documents.{position}"
    mime_type = (document.mime_type or "text/plain").partition(";")[0].strip().lower()
    content = document.content
    url = content.uri if isinstance(content, UrlBody) else content if _is_url(content) else None
    if mime_type.startswith("image/") and isinstance(url, str):
        return [ImagePart(url=url)]
    if isinstance(url, str):
        return [_titled(_text_of_data_url(url, where), mime_type)]
    if isinstance(content, UrlBody | str):
        _check_is_text(mime_type, where)
        return [_titled(str(content), mime_type)]
    parts = content_parts(decode_content(content))
    return [_titled(part.text, mime_type) if isinstance(part, TextPart) else part for part in parts]


def _is_url(content: object) -> bool:
    return isinstance(content, str) and re.fullmatch(r"(?:https?://|file://|data:)\S+", content) is not None


def _titled(text: str, mime_type: str) -> TextPart:
    return TextPart(text=f"\n\nDocument ({mime_type}):\n{text}")


def _check_is_text(mime_type: str, where: str) -> None:
    is_text = mime_type.startswith("text/") or mime_type.endswith(("json", "xml", "yaml", "javascript"))
    if not is_text:
        raise UnsupportedParameter(
            f"{where}: a document of type {mime_type} cannot be read here; send its text", param=where
        )


def _text_of_data_url(url: str, where: str) -> str:
    """A URL that leads elsewhere is not followed: a server that fetches what callers name can be led inside."""
    head, comma, data = url.partition(",")
    if not head.lower().startswith("data:") or not comma:
        raise UnsupportedParameter(
            f"{where}: documents are not fetched from URLs; send the text, or a data: URL", param=where
        )
    parameters = head[len("data:") :].split(";")
    _check_is_text(parameters[0].lower() or "text/plain", where)
    try:
        raw = b64decode(data, validate=True) if "base64" in parameters[1:] else unquote_to_bytes(data)
        return raw.decode("utf-8")
    except (NotBase64, UnicodeDecodeError):
        raise InvalidRequest(f"{where}: the data: URL holds no UTF-8 text", param=where) from None


def decode_tool_responses(body: ClassicResumeBody) -> list[ToolMessage]:
    return [
        ToolMessage(
            tool_call_id=response.call_id,
            name=response.tool_name,
            content="" if response.content is None else decode_content(response.content),
        )
        for response in body.tool_responses or ()
    ]


def decode_approvals(body: ClassicResumeBody) -> list[ApprovalDecision]:
    return [
        ApprovalDecision(tool_call_id=given.call_id, approve=given.approve, reason=given.reason)
        for given in body.approvals or ()
    ]


# --- results of calls that the stack has never seen ---------------------------------------------------------------

_OBSERVATION = re.compile(r"Observation from (\S+): ")


def as_observation(result: ToolMessage) -> UserMessage:
    """A tool's result as the user's words.

    A client that finds calls in the model's text itself (ReAct) brings results for calls the model has not made as
    such; providers refuse a tool's message that answers no call.
    """
    before = TextPart(text=f"Observation from {_one_word(result.name)}: ")
    return UserMessage(content=_joined([before, *content_parts(result.content)]))


def _one_word(name: str | None) -> str:
    return "_".join((name or "").split()) or "tool"


def as_result(message: UserMessage | ToolMessage, call_id: str) -> ToolMessage | None:
    """The result an observation was made of, its call's id lost; None for any other message."""
    if isinstance(message, ToolMessage):
        return message
    first, *rest = content_parts(message.content) or [TextPart(text="")]
    found = _OBSERVATION.match(first.text) if isinstance(first, TextPart) else None
    if found is None or not isinstance(first, TextPart):
        return None
    said = TextPart(text=first.text[found.end() :])
    return ToolMessage(tool_call_id=call_id, name=found[1], content=_joined([said, *rest] if said.text else rest))
