"""How many tokens each of many texts has, in few exchanges with the worker."""

from collections.abc import Iterator, Sequence

from llama_stack_providers.inline._llama_cpp.embeddings import as_tokenized
from llama_stack_providers.inline._llama_cpp.engine import Engine

CHARACTERS_A_CALL = 200_000
_SEPARATORS = ("tokenizer.ggml.seperator_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.bos_token_id")
"""A special token cuts the text around it for good, so it can stand between two texts. (llama.cpp's own spelling.)"""


async def count_texts(engine: Engine, texts: Sequence[str]) -> list[int]:
    """Tokens of each text, without begin and end tokens."""
    separator = _separator(engine)
    counts: list[int] = []
    for part in _parts([as_tokenized(engine, text) for text in texts]):
        counts.extend(await _counted(engine, part, separator))
    return counts


async def _counted(engine: Engine, texts: list[str], separator: int | None) -> list[int]:
    if separator is not None and len(texts) > 1:
        mixed: list[str | int] = []
        for text in texts:
            mixed += [text, separator]
        tokens = await engine.tokens_of(mixed, special=False, parse_special=False)
        counts = _between(tokens, separator)
        if len(counts) == len(texts):
            return counts
    return [len(await engine.tokens_of(text, special=False, parse_special=False)) for text in texts]


def _between(tokens: Sequence[int], separator: int) -> list[int]:
    counts, current = [], 0
    for token in tokens:
        if token == separator:
            counts.append(current)
            current = 0
        else:
            current += 1
    return counts


def _separator(engine: Engine) -> int | None:
    for name in _SEPARATORS:
        token = engine.header.values.get(name)
        if isinstance(token, int):
            return token
    return None


def _parts(texts: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for text in texts:
        if part and size + len(text) > CHARACTERS_A_CALL:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    if part:
        yield part
