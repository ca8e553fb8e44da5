"""Every error this framework raises, as one tree.

    StackError
    ├── InvalidRequest            400  what the caller sent cannot be used; `param` names the field
    │   ├── UnsupportedParameter  400  understood, but this model or provider cannot do it
    │   └── ContextOverflow       400  prompt and answer do not fit the model's context window
    ├── NotAuthenticated          401
    ├── NotPermitted              403
    ├── NotFound                  404  unknown model, session, file, ...
    ├── Conflict                  409  the resource is in a state that forbids this
    ├── PayloadTooLarge           413
    ├── RateLimited               429  ours or an upstream's; keeps Retry-After
    ├── ProviderFailed            502  an upstream failed; keeps its status and message when it sent a 4xx
    │   ├── ProviderUnavailable   503  it cannot be reached, or is still starting
    │   └── ProviderTimeout       504
    ├── StructuredOutputInvalid   502  the model's answer does not match the schema that was asked for
    └── ConfigError                 -  a distribution, provider or setting is wrong; ends the command, never a request
        └── MissingVariable         -  a distribution needs an environment variable that is not set

Anything else that reaches the server is our own bug and becomes a 500 without details. Messages say what was
wanted, what was there and what to do; they never hold a secret.
"""

from typing import Any, ClassVar

MAX_MESSAGE = 8_000
MAX_PARAM = 400
"""Characters. Whoever sends a name of a megabyte is not sent it back, and no log keeps it."""


def _shortened(text: str, most: int) -> str:
    """The text, without its middle where it is longer: what is wrong stands at the beginning, the remedy at the end."""
    if len(text) <= most:
        return text
    left_out = len(text) - most
    return f"{text[: most * 3 // 4]} [... {left_out} characters ...] {text[-(most // 4) :]}"


class StackError(Exception):
    """The root. `message` is meant for a person, `code` for a program.

    status: HTTP status the error becomes. type: OpenAI's coarse error class. param: the offending request field.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        # It may repeat what somebody else said or what a file is called; it must always be fit to be sent.
        message = _shortened(message, MAX_MESSAGE).encode(errors="replace").decode()
        super().__init__(message)
        self.message = message
        self.param = None if param is None else _shortened(param, MAX_PARAM)
        if code is not None:
            self.code = code

    @property
    def http_status(self) -> int:
        """Status of the answer; differs from the class's only where an upstream's own status is kept."""
        return self.status

    @property
    def retry_after_s(self) -> float | None:
        """Seconds the caller should wait before trying again, where that is known."""
        return None


class InvalidRequest(StackError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class UnsupportedParameter(InvalidRequest):
    code = "unsupported_parameter"


class ContextOverflow(InvalidRequest):
    """The message states how many tokens were asked for and how many fit."""

    code = "context_length_exceeded"


class NotAuthenticated(StackError):
    status = 401
    type = "authentication_error"
    code = "not_authenticated"


class NotPermitted(StackError):
    status = 403
    type = "permission_error"
    code = "not_permitted"


class NotFound(StackError):
    status = 404
    type = "not_found_error"
    code = "not_found"


class Conflict(StackError):
    status = 409
    type = "conflict_error"
    code = "conflict"


class PayloadTooLarge(StackError):
    status = 413
    type = "invalid_request_error"
    code = "payload_too_large"


class RateLimited(StackError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limited"

    def __init__(self, message: str, *, retry_after_s: float | None = None, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self._retry_after_s = retry_after_s

    @property
    def retry_after_s(self) -> float | None:
        return self._retry_after_s


class ProviderFailed(StackError):
    """An upstream failed. `upstream_status` is what it answered, if it answered.

    An upstream's 4xx keeps its status: the caller can mend a bad parameter, not a 502.
    """

    status = 502
    type = "provider_error"
    code = "provider_failed"

    def __init__(
        self, message: str, *, upstream_status: int | None = None, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.upstream_status = upstream_status

    @property
    def http_status(self) -> int:
        if self.upstream_status is not None and 400 <= self.upstream_status < 500:
            return self.upstream_status
        return self.status


class ProviderUnavailable(ProviderFailed):
    status = 503
    code = "provider_unavailable"


class ProviderTimeout(ProviderFailed):
    status = 504
    code = "provider_timeout"


class StructuredOutputInvalid(StackError):
    status = 502
    type = "provider_error"
    code = "structured_output_invalid"


class ConfigError(StackError):
    """`remedy` is the sentence a person follows to mend it; `where` names file and key."""

    code = "config_error"

    def __init__(self, message: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.where = where
        self.remedy = remedy
        text = f"{where}: {message}" if where else message
        super().__init__(f"{text}\n  {remedy}" if remedy else text)


class MissingVariable(ConfigError):
    """`name` is the environment variable."""

    code = "missing_variable"

    def __init__(self, name: str, message: str, *, where: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        # Between processes an error is made anew of what stands in `args`, which has no name of a variable.
        return _same_missing_variable, (self.name, self.message), self.__dict__


def _same_missing_variable(name: str, message: str) -> MissingVariable:
    return MissingVariable(name, message)
