"""What begins a classic turn and what goes on with one: messages, documents, tool responses and approvals."""

import re
from base64 import b64decode
from binascii import Error as NotBase64
from hashlib import sha256
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from pydantic import Field

from llama_stack.api.agents import ApprovalDecision, ToolOutcome
from llama_stack.api.common import JsonObject
from llama_stack.api.memory import Document
from llama_stack.api.messages import ContentPart, ImagePart, TextPart, ToolMessage, UserMessage, is_image_url
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
    """metadata: what the tool tells the caller and not the model; kept with the turn."""

    call_id: str
    tool_name: str | None = None
    content: ContentBody | None = None
    metadata: JsonObject | None = None


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


def decode_turn_messages(body: ClassicTurnBody) -> tuple[list[UserMessage | ToolMessage], list[Document]]:
    """The messages, and the documents that come with them; pictures among those stand behind the user's last words.

    Raises InvalidRequest for a document that cannot be used, or that no user's message can hold.
    """
    messages = [
        decode_user_message(message) if isinstance(message, UserMessageBody) else decode_tool_message(message)
        for message in body.messages
    ]
    images: list[ContentPart] = []
    documents: list[Document] = []
    for position, document in enumerate(body.documents or ()):
        for part in _document_parts(document, position):
            if isinstance(part, Document):
                documents.append(part)
            else:
                images.append(part)
    if not images and not documents:
        return messages, []
    for position in reversed(range(len(messages))):
        message = messages[position]
        if isinstance(message, UserMessage):
            content = _joined([*content_parts(message.content), *images])
            messages[position] = message.model_copy(update={"content": content})
            return messages, documents
    raise InvalidRequest("documents: need a message of the user to go with", param="documents")


def _joined(parts: list[ContentPart]) -> str | list[ContentPart]:
    """One text where there is nothing but text, as models without vision want it."""
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    return "".join(texts) if len(texts) == len(parts) else parts


def _document_parts(document: DocumentBody, position: int) -> list[ContentPart | Document]:
    where = f"documents.{position}"
    mime_type = (document.mime_type or "").partition(";")[0].strip().lower()
    content = document.content
    url = content.uri if isinstance(content, UrlBody) else content if _is_url(content) else None
    if mime_type.startswith("image/") and isinstance(url, str):
        if not is_image_url(url):
            raise InvalidRequest(f"{where}.content: must be an http, https or data URL", param=f"{where}.content")
        return [ImagePart(url=url)]
    if isinstance(url, str):
        return [_at_url(url, mime_type, where, position)]
    if isinstance(content, UrlBody | str):
        return [_of_text(str(content), mime_type, where, position)]
    return [
        _of_text(part.text, mime_type, where, position) if isinstance(part, TextPart) else part
        for part in content_parts(decode_content(content))
    ]


def _is_url(content: object) -> bool:
    return isinstance(content, str) and re.fullmatch(r"(?:https?://|file://|data:)\S+", content) is not None


def _of_text(text: str, mime_type: str, where: str, position: int) -> Document:
    if mime_type and not _is_text(mime_type):
        raise UnsupportedParameter(
            f"{where}: a document of type {mime_type} is not sent as text; send it as a data: URL", param=where
        )
    return Document(
        document_id=_id_of(text), content=text, name=f"document {position + 1}", mime_type=mime_type or "text/plain"
    )


def _is_text(mime_type: str) -> bool:
    return mime_type.startswith("text/") or mime_type.endswith(("json", "xml", "yaml", "javascript"))


def _at_url(url: str, mime_type: str, where: str, position: int) -> Document:
    """A text in a `data:` URL as text; what else there is, whoever remembers it reads."""
    head, comma, data = url.partition(",")
    if not head.lower().startswith("data:") or not comma:
        if not url.lower().startswith(("https://", "http://")):
            raise UnsupportedParameter(
                f"{where}: documents are read from http, https and data: URLs only; send the text", param=where
            )
        path = unquote(urlsplit(url).path).rstrip("/")
        name = path.rpartition("/")[2] or urlsplit(url).netloc.rpartition("@")[2]
        return Document(document_id=_id_of(url), url=url, name=name, mime_type=mime_type)
    named, *parameters = head[len("data:") :].split(";")
    data_type = named.lower() or mime_type or "text/plain"
    if not _is_text(data_type):
        return Document(document_id=_id_of(url), url=url, name=f"document {position + 1}", mime_type=data_type)
    try:
        raw = b64decode(data, validate=True) if "base64" in parameters else unquote_to_bytes(data)
        text = raw.decode("utf-8")
    except (NotBase64, UnicodeDecodeError):
        raise InvalidRequest(f"{where}: the data: URL holds no UTF-8 text", param=where) from None
    return Document(
        document_id=_id_of(text), content=text, name=f"document {position + 1}", mime_type=mime_type or data_type
    )


def _id_of(content: str) -> str:
    """The same for a document that is sent again."""
    return f"doc_{sha256(content.encode(errors='replace')).hexdigest()[:24]}"


def decode_tool_responses(body: ClassicResumeBody) -> list[ToolMessage]:
    return [
        ToolMessage(
            tool_call_id=response.call_id,
            name=response.tool_name,
            content="" if response.content is None else decode_content(response.content),
        )
        for response in body.tool_responses or ()
    ]


def decode_outcomes(body: ClassicResumeBody) -> list[ToolOutcome]:
    """What is said of the calls beyond what the model reads."""
    return [
        ToolOutcome(tool_call_id=response.call_id, metadata=response.metadata)
        for response in body.tool_responses or ()
        if response.metadata
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
