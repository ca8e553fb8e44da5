"""The metadata at the head of a GGUF file, read without loading the model.

Format: "GGUF" specification of the ggml project (docs/gguf.md), versions 2 and 3, little-endian: magic, version, number
of tensors, number of key-values, the key-values, then one record per tensor with its offset.
"""

import mmap
import struct
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_RANK_POOLING = 4
_CONTROL = 3
_KEPT_ARRAYS = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type")
_ENCODERS = frozenset({"bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3",
                       "modern-bert", "gemma-embedding", "eurobert"})  # fmt: skip


class NotGguf(Exception):
    """The file is not a whole GGUF file; the message says what is wrong with it."""


@dataclass(frozen=True)
class GgufHeader:
    """What the stack needs to know of a model before it is loaded.

    values: scalar and text metadata by key. tokens: the vocabulary, by token id. token_types: their kinds.
    size_bytes: of the file.
    """

    path: Path
    size_bytes: int
    values: dict[str, Any] = field(repr=False)
    tokens: tuple[str, ...] = field(repr=False)
    token_types: bytes = field(repr=False)

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", "unknown"))

    def of_architecture(self, key: str) -> Any:
        return self.values.get(f"{self.architecture}.{key}")

    @property
    def name(self) -> str:
        return str(self.values.get("general.name", self.path.stem))

    @property
    def trained_context(self) -> int:
        return int(self.of_architecture("context_length") or 2048)

    @property
    def width(self) -> int:
        return int(self.of_architecture("embedding_length") or 0)

    @cached_property
    def control_tokens(self) -> list[str]:
        """Texts of the tokens that structure a prompt and may not come from what a user writes."""
        return [text for text, kind in zip(self.tokens, self.token_types, strict=False) if kind == _CONTROL and text]

    @cached_property
    def longest_token_bytes(self) -> int:
        return max((len(text.encode()) for text in self.tokens), default=1)

    @property
    def chat_template(self) -> str | None:
        template = self.values.get("tokenizer.chat_template")
        return template if isinstance(template, str) and template else None

    @property
    def purpose(self) -> str:
        """ "embedding" and "rerank" for models that pool their input into one vector or score, else "chat"."""
        pooling = self.of_architecture("pooling_type")
        if pooling == _RANK_POOLING:
            return "rerank"
        return "embedding" if pooling or self.architecture in _ENCODERS else "chat"

    def cache_bytes_per_token(self) -> int:
        """Memory of the attention cache for one token, keys and values in 16 bits."""
        layers = int(self.of_architecture("block_count") or 0)
        heads = int(self.of_architecture("attention.head_count") or 1)
        kv_heads = self.of_architecture("attention.head_count_kv")
        kv_heads = int(kv_heads) if isinstance(kv_heads, int) else heads
        key = int(self.of_architecture("attention.key_length") or self.width // heads)
        value = int(self.of_architecture("attention.value_length") or self.width // heads)
        return layers * kv_heads * (key + value) * 2


def read_header(path: Path) -> GgufHeader:
    """Read the header; of a model in several files, that of the first, once all are there.

    Raises NotGguf for a file that is no GGUF or is cut short, OSError where it cannot be read.
    """
    header = _read_file(path)
    others = _other_parts(path, int(header.values.get("split.count", 1)))
    return replace(header, size_bytes=header.size_bytes + sum(_read_file(other).size_bytes for other in others))


def _other_parts(path: Path, count: int) -> list[Path]:
    """The further files of a split model, named `name-00002-of-00003.gguf` as llama.cpp's `gguf-split` does."""
    if count < 2:
        return []
    stem, found, _ = path.name.rpartition("-00001-of-")
    if not found:
        raise NotGguf(
            f"{path} is one of the {count} files of a model; name the first, which ends in -00001-of-{count:05}"
        )
    others = [path.with_name(f"{stem}-{number:05}-of-{count:05}.gguf") for number in range(2, count + 1)]
    missing = next((other for other in others if not other.is_file()), None)
    if missing is not None:
        raise NotGguf(f"{path} is one of the {count} files of a model, and {missing.name} is not beside it")
    return others


def _read_file(path: Path) -> GgufHeader:
    size = path.stat().st_size
    if size < 24:
        raise NotGguf(f"{path} is no GGUF file: it has only {size} bytes")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        if mapped[:4] != b"GGUF":
            raise NotGguf(f"{path} is no GGUF file: it begins with {bytes(mapped[:4])!r}")
        try:
            return _Reader(mapped).header(path, size)
        except (struct.error, IndexError, ValueError, KeyError, OverflowError) as error:
            raise NotGguf(f"{path} is cut short or damaged in its header ({size} bytes)") from error


class _Reader:
    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        self._at = 4

    def header(self, path: Path, size: int) -> GgufHeader:
        version = self._scalar("I")
        if version not in (2, 3):
            raise NotGguf(f"{path} has GGUF version {version}; versions 2 and 3 can be read")
        tensors, pairs = self._scalar("Q"), self._scalar("Q")
        values: dict[str, Any] = {}
        tokens: tuple[str, ...] = ()
        token_types = b""
        for _ in range(pairs):
            key, kind = self._text(), self._scalar("I")
            value = self._value(kind, keep=key in _KEPT_ARRAYS)
            if key == "tokenizer.ggml.tokens":
                tokens = tuple(value)
            elif key == "tokenizer.ggml.token_type":
                token_types = bytes(value)
            elif value is not None:
                values[key] = value
        self._check_tensors(path, size, tensors, int(values.get("general.alignment", 32)))
        header = GgufHeader(path, size, values, tokens, token_types)
        # Worked out here, in the reader's thread: a large vocabulary would hold up the event loop later.
        _ = header.control_tokens, header.longest_token_bytes
        return header

    def _check_tensors(self, path: Path, size: int, tensors: int, alignment: int) -> None:
        """A download cut short has a whole header: compare where the last tensor begins with the file's end."""
        last = 0
        for _ in range(tensors):
            self._text()
            dimensions = self._scalar("I")
            self._at += 8 * dimensions + 4
            last = max(last, self._scalar("Q"))
        begin = -(-self._at // alignment) * alignment + last
        if tensors and begin >= size:
            raise NotGguf(f"{path} is cut short: it has {size} bytes and needs more than {begin}; download it again")

    def _scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self._mapped, self._at)
        self._at += struct.calcsize(code)
        return value

    def _text(self) -> str:
        length = self._scalar("Q")
        end = self._at + length
        if end > len(self._mapped):
            raise IndexError(end)
        text = self._mapped[self._at : end].decode("utf-8", "replace")
        self._at = end
        return text

    def _value(self, kind: int, *, keep: bool) -> Any:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._array(keep=keep)
        return self._scalar(_SCALARS[kind])

    def _array(self, *, keep: bool) -> list[Any] | None:
        """The array's members where `keep` asks for them; arrays are passed over otherwise."""
        kind, count = self._scalar("I"), self._scalar("Q")
        if kind in _SCALARS:
            begin, self._at = self._at, self._at + count * struct.calcsize(_SCALARS[kind])
            if self._at > len(self._mapped):
                raise IndexError(self._at)
            return list(struct.unpack_from(f"<{count}{_SCALARS[kind]}", self._mapped, begin)) if keep else None
        if kind == _STRING and keep:
            return [self._text() for _ in range(count)]
        for _ in range(count):
            if kind == _STRING:
                length = self._scalar("Q")
                self._at += length
            else:
                self._value(kind, keep=False)
            if self._at > len(self._mapped):
                raise IndexError(self._at)
        return None
