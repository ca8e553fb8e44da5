"""Files that come with messages, for models that read text and pictures: what is said of one, and who reads it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol

from llama_stack.api.common import Caller, Word
from llama_stack.api.inference import Capabilities
from llama_stack.api.messages import ContentPart, FilePart, Message
from llama_stack.errors import InvalidRequest

MAX_SENT_FILES = 50
"""That one request may bring."""


class SentFile(Word):
    """One file, by exactly one of three ways.

    file_id: of an uploaded file of the caller's. data: a `data:` URL, or its base64 alone. url: http(s), to be fetched.
    field: how the caller's request calls that value, named in errors. filename: what the caller calls the file; an
    uploaded file has its own name. is_picture: it was sent as a picture, and must be one.
    """

    field: str
    file_id: str | None = None
    data: str | None = None
    url: str | None = None
    filename: str | None = None
    is_picture: bool = False
    detail: Literal["auto", "low", "high"] | None = None


FieldOf = Callable[[int, int, FilePart], str]
"""The field of a file part as its caller named it, from the message's place, the part's place in it, and the part."""


class SentFiles(Protocol):
    """Reads files that come with messages.

    Every method raises, naming the field, NotFound for an id that is none of the caller's files, InvalidRequest with
    the reader's code for what cannot be read, UnsupportedParameter for a picture where the model sees none, and
    RateLimited when too many files wait.
    """

    async def read(self, file: SentFile, able: Capabilities, caller: Caller) -> ContentPart:
        """The file as what the model can take: its text under its name, a picture, or, where the provider reads such
        files itself, the file with its content.
        """
        ...

    async def in_messages(
        self, messages: Sequence[Message], able: Capabilities, caller: Caller, field_of: FieldOf
    ) -> list[Message]:
        """The messages with each file part read."""
        ...


def has_files(messages: Iterable[Message]) -> bool:
    """Whether any message holds a file part."""
    # Loops, because every chat is looked through, and generators take twice the time.
    for message in messages:
        content = message.content
        if isinstance(content, list):
            for part in content:
                if isinstance(part, FilePart):
                    return True
    return False


def check_count(count: int, field: str) -> None:
    """Raises InvalidRequest for one file more than a request may bring. field: of the file with that number."""
    if count > MAX_SENT_FILES:
        raise InvalidRequest(
            f"{field}: a request may bring {MAX_SENT_FILES} files; put more into a vector store and search it",
            param=field,
        )
