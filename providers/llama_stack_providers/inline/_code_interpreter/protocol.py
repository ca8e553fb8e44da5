"""What a worker says, checked: nothing that comes out of a sandbox is taken for true.

A request is one line with an id of its own (`nonce`), which code in the sandbox cannot read. Whatever does not fit the
words below, has another nonce, or comes when nothing was asked, is refused, and the session ends.
"""

import base64
import binascii
import struct
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_SIDE_LIMIT = 16_384
PNG_PIXELS_LIMIT = 1 << 25
"""Read again, each pixel takes four bytes, however few the compressed image has."""
TEXT_LIMIT = 64_000


class ReplyRefused(Exception):
    """The worker said something that a worker does not say."""


def decode_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def png_size(image: bytes) -> tuple[int, int]:
    """Width and height in pixels. Raises ValueError for anything but a PNG of a sane size (PNG, 3rd edition, 5.2)."""
    if len(image) < 33 or not image.startswith(PNG_MAGIC) or image[12:16] != b"IHDR":
        raise ValueError("not a PNG image")
    width, height = struct.unpack(">II", image[16:24])
    if not (0 < width <= PNG_SIDE_LIMIT and 0 < height <= PNG_SIDE_LIMIT and width * height <= PNG_PIXELS_LIMIT):
        raise ValueError(f"a PNG image of {width} x {height}")
    return width, height


def _is_base64(text: str) -> str:
    try:
        decode_base64(text)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    return text


def _is_png(text: str) -> str:
    png_size(decode_base64(_is_base64(text)))
    return text


Base64 = Annotated[str, AfterValidator(_is_base64)]
PngInBase64 = Annotated[str, AfterValidator(_is_png)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


def _stays_inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ValueError("a name that leads out of its folder")
    if not name.isprintable():
        raise ValueError("a name with control characters")
    return name


Name = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_stays_inside)]


class MadeFile(_Strict):
    """A new or changed file, or one that was asked for. A caller may keep it under its name.

    content: None where it was too large to take, or not asked for. changed_at: seconds since 1970, of one asked for.
    """

    name: Name
    size: int = Field(ge=0)
    content: Base64 | None
    changed_at: int = Field(default=0, ge=0, le=1 << 33)


class Reply(_Strict):
    """How one call went, by the word of the process that ran the code.

    figure_names: of the files in which the first of the figures are as well.
    """

    token: str
    error: str | None = Field(max_length=TEXT_LIMIT)
    limit: Literal["memory", "processes", "disk"] | None
    figures: list[PngInBase64] = Field(max_length=32)
    figure_names: list[Name] = Field(default=[], max_length=32)
    files: list[MadeFile] = Field(max_length=2048)


class Ready(_Strict):
    type: Literal["ready"]
    nonce: str
    python: str = Field(max_length=64)
    uid: int


class Output(_Strict):
    type: Literal["output"]
    nonce: str
    stream: Literal["stdout", "stderr"]
    text: Base64


class Done(_Strict):
    type: Literal["done"]
    nonce: str
    reply: str


class Died(_Strict):
    type: Literal["died"]
    nonce: str
    status: int | None


class Forged(_Strict):
    type: Literal["forged"]
    nonce: str
    why: str = Field(max_length=200)


Said = Annotated[Ready | Output | Done | Died | Forged, Field(discriminator="type")]
_SAID: TypeAdapter[Ready | Output | Done | Died | Forged] = TypeAdapter(Said)


def decode_line(line: bytes, nonce: str) -> Ready | Output | Done | Died | Forged:
    """What the worker said to the request with this nonce. Raises ReplyRefused."""
    try:
        said = _SAID.validate_json(line)
    except ValidationError as error:
        raise ReplyRefused(f"a line that no worker writes ({error.errors()[0]['msg']})") from error
    if said.nonce != nonce:
        raise ReplyRefused("a line that does not belong to the call")
    return said


def decode_reply(text: str) -> Reply:
    """Raises ReplyRefused for what does not fit."""
    try:
        return Reply.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise ReplyRefused(f"a reply that does not fit ({'.'.join(map(str, first['loc']))}: {first['msg']})") from error
