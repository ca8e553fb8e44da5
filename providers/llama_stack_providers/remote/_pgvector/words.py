"""Search by words: an inverted index over our own stems (GIN over `bigint[]`), ranked by BM25 in one statement.

A word is kept as a 64-bit digest of its stem: looking one up in a row then is several times as fast as with text, and
among a million different words two are the same with a chance of one in thirty million.

score = sum over the query's words of idf * f * (K1 + 1) / (f + K1 * (1 - B + B * length / average length)), with
idf = ln(1 + (N - n + 0.5) / (n + 0.5)): Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond" (2009), with Lucene's idf, which is never negative. The chunks that hold any of the words are read once, which
gives the frequencies f of each word and the numbers n of chunks with it.
"""

# ruff: noqa: S608  what is put into the statement are names and placeholders of our own making

from collections import Counter
from hashlib import blake2b

from llama_stack_providers.remote._pgvector.filters import Arguments

K1 = 1.2
B = 0.75
MAX_QUERY_WORDS = 48
"""Different words of one query that count; the first ones. Ordinary questions have a dozen."""
MAX_COUNT = 255
MAX_DIGESTS = 100_000
"""Kept in memory."""


def digest(stem: str) -> int:
    found = _DIGESTS.get(stem)
    if found is None:
        if len(_DIGESTS) >= MAX_DIGESTS:
            _DIGESTS.clear()
        named = blake2b(stem.encode(errors="replace"), digest_size=8).digest()
        found = _DIGESTS[stem] = int.from_bytes(named, "big", signed=True)
    return found


_DIGESTS: dict[str, int] = {}


def word_columns(stems: list[str]) -> tuple[int, list[int], bytes]:
    """The values of the columns that tables.py calls WORD_COLUMNS."""
    counts = Counter(stems)
    return len(stems), [digest(stem) for stem in counts], bytes(min(count, MAX_COUNT) for count in counts.values())


def search_statement(
    table: str, words: list[int], selected: str, columns: str, arguments: Arguments, limit: int, statistics: list[float]
) -> str:
    """selected: the filter as SQL. arguments: bound so far, to which this adds. statistics: N and average length."""
    asked = arguments.bind(words)
    chunks, average = (f"{arguments.bind(number)}::double precision" for number in statistics)
    numbers = range(1, len(words) + 1)
    frequencies = ", ".join(
        f"coalesce(get_byte(word_counts, array_position(words, ({asked}::bigint[])[{i}]) - 1), 0) as f{i}"
        for i in numbers
    )
    weights = ", ".join(
        f"ln(1 + (greatest({chunks}, count(*)) - count(*) filter (where f{i} > 0) + 0.5)"
        f" / (count(*) filter (where f{i} > 0) + 0.5)) as w{i}"
        for i in numbers
    )
    length = f"{K1} * ({1 - B} + {B} * word_count / {average})"
    score = " + ".join(f"w{i} * f{i} * {K1 + 1} / (f{i} + {length})" for i in numbers)
    return f"""
        with hits as materialized (
            select chunk_id, word_count, {selected} as selected, {frequencies}
            from {table} where words && {asked}::bigint[]
        ), weights as (select {weights} from hits),
        best as (
            select chunk_id, {score} as score from hits, weights where selected
            order by score desc, chunk_id limit {arguments.bind(limit)}
        )
        select {columns}, score from best join {table} using (chunk_id) order by score desc, chunk_id
    """
