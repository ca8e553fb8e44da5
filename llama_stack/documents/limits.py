"""How much one file may take to be read."""

from pydantic import Field

from llama_stack.api.common import Word


class ReadingLimits(Word):
    """Of one file; each has an error that names it.

    max_file_bytes: of the file as it came. max_text_characters: of the text found in it. max_unpacked_bytes: of all
    that a packed format (such as DOCX, ODT or EPUB) holds, unpacked. time_limit_s: from the file's arrival at the
    worker to its text. max_memory_bytes: address space of the worker process, where the system can limit it.
    """

    max_file_bytes: int = Field(512 * 1024 * 1024, ge=1)
    max_text_characters: int = Field(20_000_000, ge=1)
    max_pages: int = Field(10_000, ge=1)
    max_unpacked_bytes: int = Field(1024 * 1024 * 1024, ge=1)
    time_limit_s: float = Field(120.0, gt=0)
    max_memory_bytes: int = Field(2 * 1024 * 1024 * 1024, ge=256 * 1024 * 1024)
