"""Packed documents (ISO/IEC 29500-2, OpenDocument 1.3 part 2, EPUB OCF 3.3), checked before anything unpacks them.

A few kilobytes can unpack to terabytes, and an XML part can define entities that grow without bound; no part of an
office document needs either.
"""

import io
import re
import zipfile
import zlib

from llama_stack.documents.failures import DocumentUnreadable, damaged
from llama_stack.documents.limits import ReadingLimits

MAX_MEMBERS = 20_000
MAX_RATIO = 200
"""Unpacked to packed, of more than `RATIO_FREE_BYTES`; sheets of equal rows reach about a hundred."""
RATIO_FREE_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 1 << 20
OFFICE_XML = (".xml", ".rels", ".vml")
"""How the names of those parts end that an XML parser will read."""
# In UTF-16 each letter has a NUL beside it.
_ENTITY = rb"<\0?!\0?E\0?N\0?T\0?I\0?T\0?Y"
_ENTITY_DECLARATION = re.compile(_ENTITY)
_ENTITIES = re.compile(rb"<\0?!\0?D\0?O\0?C\0?T\0?Y\0?P\0?E|" + _ENTITY)


def declares_entities(part: bytes) -> bool:
    """Whether an XML part declares entities, by which a few lines can grow without bound."""
    return _ENTITY_DECLARATION.search(part) is not None


def check_package(
    content: bytes, kind: str, limits: ReadingLimits, *, xml_suffixes: tuple[str, ...] = OFFICE_XML
) -> None:
    """Unpack every member to nowhere. kind: such as `DOCX file`. xml_suffixes: of parts that may have no DOCTYPE.

    Raises DocumentUnreadable: `too_complex` for more members or bytes than allowed, or entity declarations;
    `encrypted`; `damaged` when a member is broken.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise _too_complex(f"it holds more than {MAX_MEMBERS} parts")
            _check_sizes(sum(member.file_size for member in members), len(content), limits)
            unpacked = 0
            for member in members:
                if member.flag_bits & 1:
                    raise DocumentUnreadable(
                        "the document is protected by a password; remove the password and send it again",
                        code="encrypted",
                    )
                unpacked += _check_member(archive, member, xml_suffixes)
                _check_sizes(unpacked, len(content), limits)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, OSError) as error:
        raise damaged(kind, "its packing is broken") from error


def _check_sizes(unpacked: int, packed: int, limits: ReadingLimits) -> None:
    if unpacked > limits.max_unpacked_bytes:
        raise _too_complex(f"it unpacks to more than {limits.max_unpacked_bytes} bytes (max_unpacked_bytes)")
    if unpacked > RATIO_FREE_BYTES and unpacked > packed * MAX_RATIO:
        raise _too_complex(f"it unpacks to more than {MAX_RATIO} times its size, as only a bomb does")


def _check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, xml_suffixes: tuple[str, ...]) -> int:
    """Bytes of the member, unpacked."""
    is_xml = member.filename.lower().endswith(xml_suffixes)
    size, tail = 0, b""
    with archive.open(member) as stream:
        while piece := stream.read(_PIECE_BYTES):
            size += len(piece)
            if is_xml and _ENTITIES.search(tail + piece):
                raise _too_complex(f"its part {member.filename[-80:]} declares XML entities")
            tail = piece[-32:]
    return size


def _too_complex(what: str) -> DocumentUnreadable:
    return DocumentUnreadable(
        f"{what}; open it with its program, save it again, or split it into smaller files", code="too_complex"
    )
