"""Documents and queries as every classic memory route takes them, and the error of a document that was not read."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from llama_stack.api.common import JsonObject
from llama_stack.api.memory import Document, DocumentState, DocumentStatus
from llama_stack.api.messages import Content, ImagePart, TextPart, text_of
from llama_stack.errors import (
    InvalidRequest,
    ProviderFailed,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    StackError,
    UnsupportedParameter,
)
from llama_stack.wire.classic.body import ClassicBody
from llama_stack.wire.classic.content import ContentBody, UrlBody, decode_content

MAX_DOCUMENTS = 1_000
"""In one request; each may be as large as the body may."""

_OTHER_URL = re.compile(r"([a-z][a-z0-9+.-]*)://\S+|(file):\S+", re.IGNORECASE)
_URL = re.compile(r"https?://\S+|data:[\w.+-]*(?:/[\w.+-]+)?[;,].*", re.DOTALL | re.IGNORECASE)


class RagDocumentBody(ClassicBody):
    """A document to remember (`RAGDocument`): its text, content items, or a URL. A text that is nothing but a URL is
    one, too. name: ours, what citations call it.
    """

    document_id: str = Field(min_length=1, max_length=512)
    content: ContentBody | UrlBody
    mime_type: str | None = None
    metadata: JsonObject | None = None
    name: str | None = None


QueryBody = ContentBody | list[str]
"""What is looked for; the clients of 2024 also send a list of texts."""


def decode_documents(documents: Sequence[RagDocumentBody]) -> list[Document]:
    """Raises InvalidRequest for a URL that nobody here would fetch, such as one of a file of the server."""
    return [_decode_document(document, f"documents.{number}.content") for number, document in enumerate(documents)]


def _decode_document(body: RagDocumentBody, param: str) -> Document:
    url, content = _place_and_content(body.content, param)
    return Document(
        document_id=body.document_id,
        content=content,
        url=url,
        name=body.name or "",
        mime_type=body.mime_type or "",
        metadata=body.metadata or {},
    )


def _place_and_content(body: ContentBody | UrlBody, param: str) -> tuple[str | None, Content | None]:
    """Where the content lies, or the content itself."""
    if isinstance(body, UrlBody):
        _refuse_other_url(body.uri, f"{param}.uri")
        return body.uri, None
    if isinstance(body, str):
        # Whoever begins a text with spaces does not mean an address.
        if _URL.fullmatch(body.rstrip()):
            return body.strip(), None
        _refuse_other_url(body, param)
        return None, body
    content = decode_content(body)
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], ImagePart):
        return content[0].url, None
    return None, content


def _refuse_other_url(text: str, param: str) -> None:
    found = _OTHER_URL.fullmatch(text.rstrip())
    if found is None or text[:4].lower() == "http":
        return
    scheme = (found[1] or found[2]).lower()
    raise InvalidRequest(
        f"{param}: is a URL of the scheme {scheme!r}; http, https and data are fetched, and no file of the server is "
        "ever read; send the document itself, or upload it to /v1/files",
        param=param,
    )


def decode_query(body: QueryBody, separator: str = " ") -> str:
    """The texts of the query, one behind the other. Raises InvalidRequest when there is no text in it."""
    if isinstance(body, str):
        texts = [body]
    elif isinstance(body, list):
        texts = [part if isinstance(part, str) else _text_of_item(part) for part in body]
    else:
        texts = [_text_of_item(body)]
    query = separator.join(text for text in texts if text)
    if not query.strip():
        raise InvalidRequest("query: has no text to search for", param="query")
    return query


def _text_of_item(body: Any) -> str:
    content = decode_content(body)
    return text_of([part for part in content if isinstance(part, TextPart)] if isinstance(content, list) else content)


def refuse_expiring(ttl_seconds: object) -> None:
    """Raises UnsupportedParameter: nothing here would make a single chunk go by itself."""
    if ttl_seconds is not None:
        raise UnsupportedParameter(
            "ttl_seconds: documents stay until they are deleted; leave it out, or let a whole vector store expire "
            "(expires_after of /v1/vector_stores)",
            param="ttl_seconds",
        )


_UPSTREAM: dict[str, type[ProviderFailed]] = {
    kind.code: kind for kind in (ProviderFailed, ProviderUnavailable, ProviderTimeout)
}


def unread_documents(statuses: Sequence[DocumentStatus]) -> StackError | None:
    """The error of the documents that could not be read; None when all of them are there.

    It has the code that is kept with the first of them, and the status of that code: a model that is down is not the
    caller's fault.
    """
    failed = [status for status in statuses if status.state is DocumentState.FAILED]
    if not failed:
        return None
    told = "; ".join(f"{one.document_id!r} was not read: {_reason(one)}" for one in failed[:5])
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    kept = len(statuses) - len(failed)
    rest = f" The other {kept} of this request are inserted." if kept else ""
    message = f"documents: {told}{more}.{rest}"
    code = failed[0].error.code if failed[0].error is not None else "unreadable"
    if code in _UPSTREAM:
        return _UPSTREAM[code](message, code=code)
    if code == RateLimited.code:
        return RateLimited(message, code=code)
    return InvalidRequest(message, param="documents", code=code)


def _reason(status: DocumentStatus) -> str:
    return "no reason is known" if status.error is None else status.error.message.rstrip(".")
