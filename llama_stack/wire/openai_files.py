"""Files in OpenAI's dialect (API reference, "Files"): the uploaded form, the file object and their lists.

A form has, beside the part `file`, the fields `purpose`, `expires_after[anchor]` and `expires_after[seconds]`.
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
    MIN_EXPIRY_S,
    UPLOAD_PURPOSES,
    File,
    FilePurpose,
    NewFile,
)
from llama_stack.errors import InvalidRequest, ProviderFailed
from llama_stack.wire.upload_forms import MIME_TYPE, FormDecoder

_FIELDS = ("purpose", "expires_after", "expires_after[anchor]", "expires_after[seconds]")


# --- the form ------------------------------------------------------------------------------------------------------


class UploadDecoder(FormDecoder):
    """A form with a file to keep; `end` gives what it says of the file."""

    def __init__(self, content_type: str) -> None:
        super().__init__(content_type, _FIELDS)

    def end(self) -> NewFile:
        """Raises InvalidRequest for a form that broke off or says too little."""
        self.finish()
        if self.filename is None:
            raise InvalidRequest("file: is required, as a part of the form with a file name", param="file")
        purpose = read_purpose(self.text("purpose"), allowed=UPLOAD_PURPOSES)
        lifetime = self._expires_after()
        return NewFile(filename=self.filename, purpose=purpose, mime_type=self.mime_type, expires_after_s=lifetime)

    def _expires_after(self) -> int | None:
        """Seconds. Written as two fields, or as one of JSON."""
        anchor, seconds = self.text("expires_after[anchor]"), self.text("expires_after[seconds]")
        whole = self.text("expires_after")
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


def read_purpose(value: str | None, *, allowed: Sequence[FilePurpose] = tuple(FilePurpose)) -> FilePurpose:
    known = ", ".join(purpose.value for purpose in allowed)
    if value is None:
        raise InvalidRequest(f"purpose: is required, one of {known}", param="purpose")
    if value not in [purpose.value for purpose in allowed]:
        raise InvalidRequest(f"purpose: must be one of {known}, not {value[:50]!r}", param="purpose")
    return FilePurpose(value)


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
    kind = about.mime_type if MIME_TYPE.fullmatch(about.mime_type) else "application/octet-stream"
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
