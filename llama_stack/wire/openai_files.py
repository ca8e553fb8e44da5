"""Files in OpenAI's dialect (API reference, "Files"): the uploaded form, the file object and their lists.

A form is multipart/form-data (RFC 7578) with the part `file`, whose content is passed on as it comes, and small fields:
`purpose`, `expires_after[anchor]` and `expires_after[seconds]`, in any order.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from llama_stack.api.common import JsonObject, Page
from llama_stack.api.files import (
    MAX_EXPIRY_S,
    MAX_FILENAME_BYTES,
    MIN_EXPIRY_S,
    UPLOAD_PURPOSES,
    File,
    FilePurpose,
    NewFile,
    base_name,
)
from llama_stack.errors import InvalidRequest, ProviderFailed

MAX_FORM_BYTES = 64 * 1024
"""All of a form beside the content of its file."""
_FIELDS = ("purpose", "expires_after", "expires_after[anchor]", "expires_after[seconds]")
_MIME_TYPE = re.compile(r"[\w.+-]{1,127}/[\w.+-]{1,127}", re.ASCII)


# --- the form ------------------------------------------------------------------------------------------------------


class UploadDecoder:
    """Reads an uploaded form as it comes: `feed` gives content of the file, `end` what the form says of it.

    Raises InvalidRequest, naming the field, for whatever such a form may not have.
    """

    def __init__(self, content_type: str) -> None:
        """content_type: the request's header."""
        from python_multipart.multipart import MultipartParser, parse_options_header

        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            said = f"not {content_type[:100]!r}" if content_type else "which is missing"
            raise InvalidRequest(
                f"the header Content-Type must be multipart/form-data with a boundary, {said}",
                param="Content-Type",
                code="invalid_header",
            )
        self._options = parse_options_header
        self._has_ended = False
        self._form_bytes = 0
        self._content: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._header: tuple[bytes, bytes] = (b"", b"")
        self._field = ""
        self._fields: dict[str, bytes] = {}
        self._filename: str | None = None
        self._mime_type = ""
        self._faults = _parser_faults()
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_header_name,
                    "on_header_value": self._add_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_data,
                    "on_end": self._end,
                },
            )
        except self._faults as error:
            raise _broken(error) from error

    def feed(self, chunk: bytes) -> list[bytes]:
        """Content of the file, as far as this chunk of the body has any."""
        try:
            self._parser.write(chunk)
        except self._faults as error:
            raise _broken(error) from error
        content, self._content = self._content, []
        return content

    def end(self) -> NewFile:
        """What the form says. Raises InvalidRequest for a form that broke off or says too little."""
        if not self._has_ended:
            raise _broken("it ends before its last boundary")
        if self._filename is None:
            raise InvalidRequest("file: is required, as a part of the form with a file name", param="file")
        purpose = read_purpose(self._text("purpose"), allowed=UPLOAD_PURPOSES)
        lifetime = self._expires_after()
        return NewFile(filename=self._filename, purpose=purpose, mime_type=self._mime_type, expires_after_s=lifetime)

    def _text(self, name: str) -> str | None:
        value = self._fields.get(name)
        return None if value is None else value.decode("utf-8", errors="replace")

    def _expires_after(self) -> int | None:
        """Seconds. Written as two fields, or as one of JSON."""
        anchor, seconds = self._text("expires_after[anchor]"), self._text("expires_after[seconds]")
        whole = self._text("expires_after")
        if whole is not None:
            anchor, seconds = _expiry_fields(whole)
        if anchor is None and seconds is None:
            return None
        if anchor != "created_at":
            said = "is required" if anchor is None else f"not {anchor[:50]!r}"
            raise InvalidRequest(f'expires_after.anchor: must be "created_at", {said}', param="expires_after.anchor")
        number = int(seconds) if seconds is not None and re.fullmatch(r"[0-9]{1,9}", seconds) else -1
        if not MIN_EXPIRY_S <= number <= MAX_EXPIRY_S:
            said = "is required" if seconds is None else f"not {seconds[:50]!r}"
            raise InvalidRequest(
                f"expires_after.seconds: must be a whole number from {MIN_EXPIRY_S} to {MAX_EXPIRY_S}, {said}",
                param="expires_after.seconds",
            )
        return number

    # --- what the parser tells -------------------------------------------------------------------------------------

    def _begin_part(self) -> None:
        self._headers = {}
        self._header = (b"", b"")

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._header = (self._header[0] + data[start:end], self._header[1])

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._header = (self._header[0], self._header[1] + data[start:end])

    def _end_header(self) -> None:
        name, value = self._header
        self._headers[name.lower()] = value
        self._header = (b"", b"")

    def _end_headers(self) -> None:
        # Browsers and programs write UTF-8 into this header; the library's parser speaks Latin-1 (RFC 7578, 5.1).
        _, options = self._options(self._headers.get(b"content-disposition", b"").decode("latin-1"))
        name = _text_of(options.get(b"name", b""))
        if name == "file":
            if b"filename" not in options:
                raise InvalidRequest("file: must be sent as a file, with a file name", param="file")
            if self._filename is not None:
                raise InvalidRequest("file: stands twice; send one file at a time", param="file")
            # How browsers and httpx write a quotation mark (HTML, "Multipart form data").
            self._filename = _read_filename(_text_of(options[b"filename"]).replace("%22", '"'))
            self._mime_type = _read_mime_type(self._headers.get(b"content-type", b""))
        elif name not in _FIELDS:
            shown = name[:100] or "a part without a name"
            raise InvalidRequest(f"{shown}: is not a known field; remove it", param=shown)
        elif name in self._fields:
            raise InvalidRequest(f"{name}: stands twice", param=name)
        else:
            self._fields[name] = b""
        self._field = name

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._field == "file":
            self._content.append(data[start:end])
        else:
            self._count(end - start)
            self._fields[self._field] += data[start:end]

    def _end(self) -> None:
        self._has_ended = True

    def _count(self, more_bytes: int) -> None:
        self._form_bytes += more_bytes
        if self._form_bytes > MAX_FORM_BYTES:
            raise InvalidRequest(f"the fields of the form are larger than {MAX_FORM_BYTES} bytes together")


def _parser_faults() -> type[Exception]:
    from python_multipart.exceptions import FormParserError

    return FormParserError


def _broken(why: object) -> InvalidRequest:
    return InvalidRequest(f"the body is no valid multipart form: {why}", code="invalid_form")


def _text_of(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _read_filename(name: str) -> str:
    name = base_name(name)
    if not name:
        raise InvalidRequest("file: needs a file name", param="file")
    if len(name.encode()) > MAX_FILENAME_BYTES:
        raise InvalidRequest(f"file: its name is longer than {MAX_FILENAME_BYTES} bytes", param="file")
    return name


def read_purpose(value: str | None, *, allowed: Sequence[FilePurpose] = tuple(FilePurpose)) -> FilePurpose:
    known = ", ".join(purpose.value for purpose in allowed)
    if value is None:
        raise InvalidRequest(f"purpose: is required, one of {known}", param="purpose")
    if value not in [purpose.value for purpose in allowed]:
        raise InvalidRequest(f"purpose: must be one of {known}, not {value[:50]!r}", param="purpose")
    return FilePurpose(value)


def _read_mime_type(header: bytes) -> str:
    """The type without its parameters; nothing where it says nothing, because the file's name then tells more."""
    kind = header.decode("latin-1").partition(";")[0].strip().lower()
    return kind if _MIME_TYPE.fullmatch(kind) and kind != "application/octet-stream" else ""


def _expiry_fields(text: str) -> tuple[str | None, str | None]:
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InvalidRequest(
            'expires_after: must be an object such as {"anchor": "created_at", "seconds": 3600}', param="expires_after"
        )
    return _as_text(value.get("anchor")), _as_text(value.get("seconds"))


def _as_text(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else json.dumps(value)


def encode_upload(about: NewFile, boundary: str) -> tuple[bytes, bytes]:
    """What stands in a form before and after the content of its file."""
    fields: dict[str, str] = {"purpose": about.purpose.value}
    if about.expires_after_s is not None:
        fields["expires_after[anchor]"] = "created_at"
        fields["expires_after[seconds]"] = str(about.expires_after_s)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    kind = about.mime_type if _MIME_TYPE.fullmatch(about.mime_type) else "application/octet-stream"
    name = about.filename.replace('"', "%22")
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    return "".join(parts).encode(), f"\r\n--{boundary}--\r\n".encode()


# --- the file object -----------------------------------------------------------------------------------------------


def encode_file(file: File) -> JsonObject:
    """OpenAI's file object, and beside it the type and the digest of the content, which OpenAI's has not."""
    return {
        "id": file.file_id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at.timestamp()),
        "expires_at": None if file.expires_at is None else int(file.expires_at.timestamp()),
        "filename": file.filename,
        "purpose": file.purpose.value,
        "status": file.status,
        "status_details": None,
        "mime_type": file.mime_type,
        "sha256": file.sha256,
    }


def encode_deleted_file(file_id: str) -> JsonObject:
    return {"id": file_id, "object": "file", "deleted": True}


def decode_file(body: Any) -> File:
    """Moments lose what is less than a second. Raises ProviderFailed for what is no file of a stack."""
    try:
        return File(
            file_id=body["id"],
            filename=body["filename"],
            purpose=body["purpose"],
            mime_type=body["mime_type"],
            size_bytes=body["bytes"],
            sha256=body["sha256"],
            created_at=datetime.fromtimestamp(body["created_at"], UTC),
            expires_at=None if body.get("expires_at") is None else datetime.fromtimestamp(body["expires_at"], UTC),
        )
    except (KeyError, TypeError, ValidationError) as error:
        raise ProviderFailed("the server answered what is no file of a stack; is the URL that of a stack?") from error


def decode_file_page(body: Any) -> Page[File]:
    if not isinstance(body, Mapping) or not isinstance(body.get("data"), list):
        raise ProviderFailed("the server answered what is no list of files; is the URL that of a stack?")
    entries = [decode_file(one) for one in body["data"]]
    return Page(entries=entries, next_after=entries[-1].file_id if entries and body.get("has_more") else None)


def file_path(file_id: str) -> str:
    """The path of one file below the server's root."""
    return f"v1/files/{quote(file_id, safe='')}"
