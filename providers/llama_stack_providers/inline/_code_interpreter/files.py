"""Files that a caller gives to the code: from `data:` URLs and plain text to names and bytes."""

import base64
import binascii
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote_to_bytes

from llama_stack.errors import InvalidRequest

NAME_LIMIT = 200


def given_files(files: Any, most_bytes: int) -> dict[str, bytes]:
    """`files` of a call: names to text, or to `data:` URLs (RFC 2397).

    Raises InvalidRequest for anything else, for a name that leads out of the folder, and for too many bytes.
    """
    if files is None:
        return {}
    if not isinstance(files, dict):
        raise InvalidRequest("files must be an object of file names and contents", param="files")
    given = {checked_name(name): _content(name, value) for name, value in files.items()}
    check_size(given, most_bytes)
    return given


def check_size(files: dict[str, bytes], most_bytes: int) -> None:
    """Raises InvalidRequest for more bytes than are taken at once."""
    size = sum(map(len, files.values()))
    if size > most_bytes:
        raise InvalidRequest(f"files hold {size} bytes together; at most {most_bytes} are taken", param="files")


def checked_name(name: str) -> str:
    """The name as the code finds the file under. Raises InvalidRequest for one that leads out of the folder."""
    path = PurePosixPath(name)
    parts_are_plain = all(part not in ("", "..") and not part.startswith(".") for part in path.parts)
    if not path.parts or path.is_absolute() or not parts_are_plain or len(name) > NAME_LIMIT or "\0" in name:
        raise InvalidRequest(
            f"{name!r} in files is no name for a file; use a relative path without hidden parts", param="files"
        )
    return str(path)


def _content(name: str, value: Any) -> bytes:
    if not isinstance(value, str):
        raise InvalidRequest(f"the content of {name!r} in files must be text or a data: URL", param="files")
    if not value.startswith("data:"):
        return value.encode("utf-8", "surrogatepass")
    head, comma, body = value.partition(",")
    if not comma:
        raise InvalidRequest(f"the data: URL of {name!r} in files has no comma", param="files")
    if not head.endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(unquote_to_bytes(body), validate=True)
    except binascii.Error as error:
        raise InvalidRequest(f"the data: URL of {name!r} in files is not base64: {error}", param="files") from error
