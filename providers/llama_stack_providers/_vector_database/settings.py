"""Where a database is. Imported with every declaration, so it imports little."""

from pathlib import Path
from typing import Any

from pydantic import AnyHttpUrl, Field, SecretStr, field_validator

from llama_stack.provider import ProviderConfig
from llama_stack_providers.remote._openai.keys import is_sendable


class FolderSettings(ProviderConfig):
    """What the configs of engines in this process share."""

    folder: Path | None = Field(None, description="where the banks lie; a folder of the provider's own when not given")

    def folder_in(self, state: Path, name: str) -> Path:
        return state / name if self.folder is None else self.folder


class DatabaseSettings(ProviderConfig):
    """What the configs of databases over HTTP share."""

    url: AnyHttpUrl = Field(description="where the server's API begins")
    timeout_s: float = Field(60.0, gt=0, description="longest wait for an answer")
    attempts: int = Field(
        4, ge=1, le=10, description="of a request that the server is too busy for, or cannot serve yet"
    )
    first_pause_s: float = Field(0.25, gt=0, description="before the second attempt; doubled before each further one")
    max_connections: int = Field(32, ge=1, description="requests that may be under way at the same time; others wait")
    write_chunks: int = Field(250, ge=1, le=5_000, description="most chunks in one request")

    @field_validator("*")
    @classmethod
    def _sendable(cls, value: Any) -> Any:
        if isinstance(value, SecretStr) and value.get_secret_value() and not is_sendable(value.get_secret_value()):
            raise ValueError("must be printable ASCII without line breaks")
        return value
