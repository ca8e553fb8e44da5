"""E-mail (RFC 5322 with MIME, RFC 2045 to 2049): headers, the body once, and what is attached."""

from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from llama_stack.documents.blocks import BlockKind, DocumentBuilder
from llama_stack.documents.decoding import decoded
from llama_stack.documents.detection import display_name
from llama_stack.documents.failures import DocumentUnreadable, damaged
from llama_stack.documents.formats.plain import add_plain
from llama_stack.documents.formats.web_page import add_html

MAX_ATTACHMENTS = 50

ReadAttachment = Callable[[bytes, str, str], None]
"""Adds an attachment, given with its name and type, to the same document. Raises DocumentUnreadable."""

_HEADERS = ("From", "To", "Cc", "Date")


def read_mail(content: bytes, builder: DocumentBuilder, read_attachment: ReadAttachment) -> None:
    """An attachment that cannot be read is a warning; the mail is still worth reading."""
    try:
        message = message_from_bytes(content, policy=policy.default)
        _add_message(message, builder, read_attachment)
    except RecursionError as error:
        raise DocumentUnreadable(
            "its parts are nested too deeply; forward the message as text and send that", code="too_complex"
        ) from error
    # The standard library's mail parser raises what its parts happen to raise when headers are malformed.
    except (ValueError, LookupError, AttributeError, TypeError, AssertionError) as error:
        raise damaged("e-mail", "its headers or parts are malformed") from error


def _add_message(message: EmailMessage, builder: DocumentBuilder, read_attachment: ReadAttachment) -> None:
    subject = _header(message, "Subject")
    builder.title = builder.title or subject
    builder.add_heading(subject, 1)
    headers = [f"{name}: {value}" for name in _HEADERS if (value := _header(message, name))]
    builder.add(BlockKind.PARAGRAPH, "\n".join(headers))
    texts: list[Any] = []
    attachments: list[Any] = []
    _sort(message, texts, attachments)
    for part in texts:
        text = _content(part)
        add_html(text, builder) if part.get_content_type() == "text/html" else add_plain(text, builder)
    for part in attachments[:MAX_ATTACHMENTS]:
        _add_attachment(part, builder, read_attachment)
    if len(attachments) > MAX_ATTACHMENTS:
        builder.warn(f"it has more than {MAX_ATTACHMENTS} attachments; the others were left out")


def _sort(part: Any, texts: list[Any], attachments: list[Any]) -> None:
    """Part what is said from what is attached, wherever programs put the one and the other.

    Of alternatives the first that says anything is read, so plain text before a page, but what is attached to any of
    them is attached: some programs put files into the last one.
    """
    kind = part.get_content_type()
    if kind == "message/rfc822":
        attachments.append(part)
    elif kind == "multipart/alternative":
        said: list[Any] = []
        for alternative in part.iter_parts():
            others: list[Any] = []
            _sort(alternative, others, attachments)
            said = said or [one for one in others if _content(one).strip()]
        texts += said
    elif part.is_multipart():
        for inner in part.iter_parts():
            _sort(inner, texts, attachments)
    elif part.is_attachment() or part.get_filename():
        attachments.append(part)
    elif kind in ("text/plain", "text/html"):
        texts.append(part)
    elif "content-id" not in part and part.get_content_maintype() != "text":
        # What has such an id is a picture within the page.
        attachments.append(part)


def _add_attachment(part: Any, builder: DocumentBuilder, read_attachment: ReadAttachment) -> None:
    name = display_name(part.get_filename() or "")
    mime_type = part.get_content_type()
    if part.is_multipart():
        inner = part.get_content() if mime_type == "message/rfc822" else None
        content = b"" if inner is None else inner.as_bytes()
        name = name if name != "document" else "message.eml"
    else:
        content = part.get_payload(decode=True) or b""
    if not content.strip():
        return
    charset = part.get_content_charset()
    try:
        read_attachment(content, name, f"{mime_type}; charset={charset}" if charset else mime_type)
    except DocumentUnreadable as failure:
        builder.warn(f"the attachment {name!r} was left out: {failure.message}")


def _header(message: EmailMessage, name: str) -> str:
    return " ".join(str(message[name] or "").split())


def _content(part: Any) -> str:
    """The part's text. Its charset may be missing, unknown or wrong, so the bytes are asked, too."""
    return decoded(part.get_payload(decode=True) or b"", part.get_content_charset("") or "")[0]
