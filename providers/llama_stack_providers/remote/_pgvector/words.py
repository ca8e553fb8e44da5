"""Search by words: an inverted index over our own stems (GIN over `bigint[]`), ranked by BM25 in one statement.

A word is kept as a 64-bit digest of its stem: looking one up in a row then is several times as fast as with text, and
among a million different words two are the same with a chance of one in thirty million.

score = sum over the query's words of idf * f * (K1 + 1) / (f + K1 * (1 - B + B * length / average length)), with
idf = ln(1 + (N - n + 0.5) / (n + 0.5)): Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond" (2009), with Lucene's idf, which is never negative. The chunks that hold any of the words are read once, which
gives the frequencies f of each word and the numbers n of chunks with it. That takes some microseconds a chunk; in a
large bank, therefore, words that very many chunks have only add to the scores of chunks that rarer words choose, unless
these are too few. Which words those are, PostgreSQL knows from its statistics (pg_stats, most_common_elems).
"""

# ruff: noqa: S608  what is put into the statement are names and placeholders of our own making

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from llama_stack_providers.remote._pgvector.filters import Arguments

K1 = 1.2
B = 0.75
MAX_QUERY_WORDS = 48
"""Different words of one query that count; the first ones. Ordinary questions have a dozen."""
COMMON_SHARE = 0.25
"""Of the chunks. Words that more of them have choose none where rarer words of the query choose enough."""
COMMON_SINCE_CHUNKS = 20_000
"""In smaller banks every word chooses, which is exact."""
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


@dataclass(frozen=True)
class Statistics:
    """Of a whole bank. words: in a chunk, on average. common: how many chunks have a word that many have."""

    chunks: int
    words: float
    common: Mapping[int, float]


def search_statement(
    table: str,
    words: list[int],
    candidates: list[int],
    selected: str,
    columns: str,
    arguments: Arguments,
    limit: int,
    statistics: Statistics,
) -> str:
    """The best of the chunks that have any of the candidates among the words.

    selected: the filter as SQL. arguments: bound so far, to which this adds.
    """
    asked, wanted = arguments.bind(words), arguments.bind(candidates)
    chunks = f"{arguments.bind(float(statistics.chunks))}::double precision"
    average = f"{arguments.bind(max(statistics.words, 1.0))}::double precision"
    known = arguments.bind([float(statistics.common.get(word, 0.0)) for word in words])
    numbers = range(1, len(words) + 1)
    frequencies = ", ".join(
        f"coalesce(get_byte(word_counts, array_position(words, ({asked}::bigint[])[{i}]) - 1), 0) as f{i}"
        for i in numbers
    )
    holders = [f"greatest(({known}::double precision[])[{i}], count(*) filter (where f{i} > 0))" for i in numbers]
    weights = ", ".join(
        f"ln(1 + (greatest({chunks}, count(*), {holder}) - {holder} + 0.5) / ({holder} + 0.5)) as w{i}"
        for i, holder in enumerate(holders, start=1)
    )
    length = f"{K1} * ({1 - B} + {B} * word_count / {average})"
    score = " + ".join(f"w{i} * f{i} * {K1 + 1} / (f{i} + {length})" for i in numbers)
    return f"""
        with hits as materialized (
            select chunk_id, word_count, {selected} as selected, {frequencies}
            from {table} where words && {wanted}::bigint[]
        ), weights as (select {weights} from hits),
        best as (
            select chunk_id, {score} as score from hits, weights where selected
            order by score desc, chunk_id limit {arguments.bind(limit)}
        )
        select {columns}, score from best join {table} using (chunk_id) order by score desc, chunk_id
    """
