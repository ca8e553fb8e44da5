"""The shape of the containers' requests and answers, for the OpenAPI document."""

from typing import Any, Literal

from llama_stack.api.common import JsonObject
from llama_stack.server.schema import Answer


class ContainerExpiry(Answer):
    anchor: Literal["last_active_at"]
    minutes: int


class ContainerNetwork(Answer):
    type: Literal["disabled"]


class ContainerObject(Answer):
    """A container (OpenAI API reference, "The container object")."""

    id: str
    object: Literal["container"]
    created_at: int
    status: Literal["running"]
    expires_after: ContainerExpiry
    last_active_at: int
    memory_limit: str | None
    network_policy: ContainerNetwork
    name: str


class ContainerList(Answer):
    object: Literal["list"]
    data: list[ContainerObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ContainerFileObject(Answer):
    """A file in a container (OpenAI API reference, "The container file object")."""

    id: str
    object: Literal["container.file"]
    created_at: int
    bytes: int
    container_id: str
    path: str
    source: Literal["user", "assistant"]


class ContainerFileList(Answer):
    object: Literal["list"]
    data: list[ContainerFileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


_FORM: JsonObject = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"file": {"type": "string", "format": "binary"}, "file_id": {"type": "string"}},
}


def taking_a_file_or_its_id(description: dict[str, Any]) -> dict[str, Any]:
    """What `describe` says of a route whose body is JSON with an id; a form with a file will do as well."""
    body = description["openapi_extra"]["requestBody"]
    content = {**body["content"], "multipart/form-data": {"schema": _FORM}}
    return {**description, "openapi_extra": {"requestBody": {**body, "content": content}}}
