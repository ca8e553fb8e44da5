"""Settings that every tool over a vendor's service has. Imported with every declaration, so it imports little."""

from pydantic import AnyHttpUrl, Field, SecretStr, field_validator

from llama_stack.provider import ProviderConfig
from llama_stack_providers.remote._openai.keys import is_sendable


class ResultSettings(ProviderConfig):
    timeout_s: float = Field(10.0, gt=0, le=120, description="longest wait for an answer; a refusal is tried once more")
    max_result_bytes: int = Field(
        8 * 1024, ge=512, le=64 * 1024, description="longest result handed to the model, in bytes of UTF-8"
    )


class ServiceSettings(ResultSettings):
    base_url: AnyHttpUrl | None = Field(None, description="where the API begins; the vendor's own by default")
    api_key: SecretStr | None = Field(None, description="the vendor's key; without one, callers must send their own")

    @field_validator("api_key")
    @classmethod
    def _sendable(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None or not key.get_secret_value():
            return None
        if not is_sendable(key.get_secret_value()):
            raise ValueError("must be printable ASCII without line breaks")
        return key
