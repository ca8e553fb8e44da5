"""Why a document could not be read, as stable codes with the remedy in words."""

from typing import Literal

from llama_stack.errors import InvalidRequest

FailureCode = Literal[
    "unsupported_file",
    "file_type_mismatch",
    "encrypted",
    "empty",
    "no_text",
    "too_large",
    "too_complex",
    "damaged",
    "missing_library",
]
"""unsupported_file: a format nobody here reads. file_type_mismatch: the name says one format, the content another.
encrypted: it asks for a password. empty: no bytes, or nothing but white space. no_text: pictures only, and nothing to
read them with. too_large: over a limit that counts. too_complex: over a limit of time, memory, nesting or unpacked
size. damaged: broken off or malformed. missing_library: an extra is not installed."""

INSTALL_DOCUMENTS = "pip install 'llama-stack[documents]'"


class DocumentUnreadable(InvalidRequest):
    """A file that cannot be read. `code` is one of `FailureCode`; the message ends with what to do."""

    def __init__(self, message: str, *, code: FailureCode) -> None:
        super().__init__(message, code=code)


def missing_library(library: str, what: str, install: str = INSTALL_DOCUMENTS) -> DocumentUnreadable:
    """library: as people know it. what: the files that it reads, in the plural."""
    return DocumentUnreadable(f"reading {what} needs {library}; run: {install}", code="missing_library")


def damaged(what: str, how: str) -> DocumentUnreadable:
    """what: such as `PDF file`. how: what is wrong with it."""
    return DocumentUnreadable(
        f"it is not a whole {what}: {how}; open it with its program, save it again and send that file", code="damaged"
    )
