"""The shape of the files' requests and answers, for the OpenAPI document."""

from typing import Any, Literal

from starlette.responses import FileResponse

from llama_stack.api.common import JsonObject
from llama_stack.api.files import MAX_EXPIRY_S, MIN_EXPIRY_S, UPLOAD_PURPOSES
from llama_stack.server.schema import Answer


class FileObject(Answer):
    """A file (OpenAI API reference, "The file object"); `mime_type` and `sha256` are this server's own."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"]
    status_details: None
    mime_type: str
    sha256: str


class FileList(Answer):
    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


_UPLOAD_FORM: JsonObject = {
    "type": "object",
    "required": ["file", "purpose"],
    "additionalProperties": False,
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": [purpose.value for purpose in UPLOAD_PURPOSES]},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": MIN_EXPIRY_S, "maximum": MAX_EXPIRY_S},
    },
}


def taking_an_upload(description: dict[str, Any]) -> dict[str, Any]:
    """What `describe` says of a route, whose body is a form with a file."""
    body = {"required": True, "content": {"multipart/form-data": {"schema": _UPLOAD_FORM}}}
    return {**description, "openapi_extra": {"requestBody": body}}


def giving_bytes(description: dict[str, Any]) -> dict[str, Any]:
    """What `describe` says of a route, whose answer is a file's content."""
    content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    answers = {**description["responses"], 200: {"description": "The bytes, under their own type", "content": content}}
    return {**description, "responses": answers, "response_class": FileResponse}
