"""What the reader and its worker processes say to each other over pipes: JSON behind its length, then raw bytes.

No pickle: a worker that a malicious file has taken over can answer nonsense, and nothing more.
"""

import json
import struct
from typing import Any, BinaryIO

LENGTH = struct.Struct(">I")


def encoded(value: dict[str, Any]) -> bytes:
    """A frame of JSON."""
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return LENGTH.pack(len(body)) + body


def decoded_body(body: bytes) -> dict[str, Any]:
    """The value of a frame's body. Raises ValueError for what is no JSON object."""
    value = json.loads(body.decode("utf-8", "replace"))
    if not isinstance(value, dict):
        raise ValueError("a frame must hold a JSON object")
    return value


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """The next frame of a blocking stream; None at its end."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    return decoded_body(stream.read(LENGTH.unpack(head)[0]))
