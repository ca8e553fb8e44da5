"""Search by words: an inverted index over our own stems (GIN over `text[]`), ranked by BM25 in one statement.

score = sum over the query's words of idf * f * (K1 + 1) / (f + K1 * (1 - B + B * length / average length)), with
idf = ln(1 + (N - n + 0.5) / (n + 0.5)): Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond" (2009), with Lucene's idf, which is never negative. The chunks that hold any of the words are read once, which
gives the frequencies f of each word and the numbers n of chunks with it.
"""

# ruff: noqa: S608  what is put into the statement are names and placeholders of our own making

from collections import Counter
from collections.abc import Iterable

from llama_stack_providers.remote._pgvector.filters import Arguments

K1 = 1.2
B = 0.75
MAX_QUERY_WORDS = 48
"""Different words of one query that count; the first ones. Ordinary questions have a dozen."""
MAX_COUNT = 255


def word_columns(stems: Iterable[str]) -> tuple[int, list[str], bytes]:
    """The values of the columns that tables.py calls WORD_COLUMNS."""
    counts = Counter(stem for stem in stems if "\0" not in stem)
    words = sorted(counts)
    return counts.total(), words, bytes(min(counts[word], MAX_COUNT) for word in words)


def search_statement(
    table: str, words: list[str], selected: str, columns: str, arguments: Arguments, limit: int, statistics: list[float]
) -> str:
    """selected: the filter as SQL. arguments: bound so far, to which this adds. statistics: N and average length."""
    asked = arguments.bind(words)
    chunks, average = (f"{arguments.bind(number)}::double precision" for number in statistics)
    numbers = range(1, len(words) + 1)
    frequencies = ", ".join(
        f"coalesce(get_byte(word_counts, array_position(words, ({asked}::text[])[{i}]) - 1), 0) as f{i}"
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
            from {table} where words && {asked}::text[]
        ), weights as (select {weights} from hits),
        best as (
            select chunk_id, {score} as score from hits, weights where selected
            order by score desc, chunk_id limit {arguments.bind(limit)}
        )
        select {columns}, score from best join {table} using (chunk_id) order by score desc, chunk_id
    """
