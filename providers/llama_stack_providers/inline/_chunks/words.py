"""The search by words: BM25 in a bank's FTS5 index, computed only for chunks that can be among the best.

Telling that a chunk holds a word is cheap; its score takes ten times as long, and most chunks hold but one common
word of the query. So a score is guessed that enough chunks will reach, and only those chunks are scored whose words
could reach it together, however often they stood there: MaxScore (Turtle and Flood, "Query Evaluation: Strategies and
Optimizations", 1995) on sets of words, as WAND has it (Broder et al., 2003). Where too few reach the guess, what they
do reach is the next one. So the chunks found, and their scores, are those that scoring every chunk would give.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_stack_providers.inline._chunks.filters import Condition
from llama_stack_providers.inline._chunks.keeper import Scored
from llama_stack_providers.inline._chunks.rows import json_list, select

if TYPE_CHECKING:
    import apsw

COUNTS_TABLE = "CREATE VIRTUAL TABLE temp.counts USING fts5vocab (main, words, row)"
"""In how many chunks each stem stands. For each connection that searches."""

_MOST = 2.2
"""Times its rarity, what a word adds to a score at most: k1 + 1 (https://sqlite.org/fts5.html#the_bm25_function)."""
_LEAST_RARITY = 1e-6
"""FTS5's, of words that stand in half of all chunks or more."""
_FEW = 5_000
"""Chunks that are scored sooner than it is found out which need not be."""
_SPARE = 2
"""So many times more chunks than wanted are expected to reach the guess."""
_MANY_WORDS = 12
"""More together could reach nearly any score, so there is nothing to spare."""
_GUESSED_WITH = 6
"""The rarest words of a query, from whose sets the score is guessed."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class _Term:
    """chunks: how many hold it. rarity: its inverse document frequency, or a little more."""

    stem: str
    chunks: int
    rarity: float

    @property
    def most(self) -> float:
        return self.rarity * _MOST * (1 + _ROUNDING)


def best_by_words(
    connection: "apsw.Connection", stems: Sequence[str], limit: int, selected: Condition | None
) -> Scored:
    """The best `limit` chunks that hold one of the stems, best first. selected: SELECT of the ids of those that count.

    connection: one with COUNTS_TABLE.
    """
    if selected is not None:
        # How many of the chunks that reach a score are selected nobody knows, and the others are not scored anyway.
        return _scored(connection, _any_of(stems), limit, selected)
    chunks: int = connection.execute("SELECT next_id FROM bank").get
    terms = _terms(connection, stems, chunks)
    if not terms:
        return []
    matching = _any_of(term.stem for term in terms)
    if sum(term.chunks for term in terms) > _FEW:
        rarest = sorted(terms, key=lambda term: term.rarity, reverse=True)
        floor = _likely_score(rarest, chunks, _SPARE * limit)
        for _ in range(2):
            reaching = _reaching(rarest, floor)
            if reaching is None:
                break
            found = _scored(connection, matching, limit, ("SELECT rowid FROM words WHERE words MATCH ?", [reaching]))
            if len(found) < limit:
                break
            reached = found[-1][1]
            if reached >= floor:
                return found
            floor = reached
    return _scored(connection, matching, limit, None)


def _scored(connection: "apsw.Connection", matching: str, limit: int, selected: Condition | None) -> Scored:
    sql, values = selected or ("", [])
    # With `ORDER BY rank` FTS5 would sort all rows instead of keeping the best. Without the plus SQLite would begin the
    # whole search anew for every selected row.
    statement = (
        "SELECT rowid, -bm25(words) AS score FROM words WHERE words MATCH ?"  # noqa: S608  every value is bound
        f"{f' AND +rowid IN ({sql})' if sql else ''} ORDER BY +score DESC LIMIT ?"
    )
    return select(connection, statement, (matching, *values, limit))


def _terms(connection: "apsw.Connection", stems: Sequence[str], chunks: int) -> list[_Term]:
    """Those that stand in any chunk, in their order. chunks: how many there are at most."""
    statement = "SELECT term, doc FROM temp.counts WHERE term IN (SELECT value FROM json_each(?))"
    held: dict[str, int] = dict(select(connection, statement, (json_list(stems),)))
    return [_Term(stem, held[stem], _rarity(held[stem], chunks)) for stem in stems if held.get(stem)]


def _rarity(with_term: int, chunks: int) -> float:
    return max(math.log(max(chunks - with_term + 0.5, 0.5) / (with_term + 0.5)), _LEAST_RARITY)


def _likely_score(rarest: Sequence[_Term], chunks: int, wanted: int) -> float:
    """A score that about so many chunks reach, if words stand independently, and once in a chunk of middling length."""
    sets: list[tuple[float, float]] = [(0.0, float(chunks))]
    for term in rarest[:_GUESSED_WITH]:
        share = min(1.0, term.chunks / chunks)
        with_it = [(score + term.rarity, expected * share) for score, expected in sets]
        sets = with_it + [(score, expected * (1 - share)) for score, expected in sets]
    reaching = 0.0
    for score, expected in sorted(sets, reverse=True):
        reaching += expected
        if reaching >= wanted:
            return score
    return 0.0


def _reaching(rarest: Sequence[_Term], floor: float) -> str | None:
    """What matches all chunks whose words could reach the score together; None where that would spare little."""
    if len(rarest) > _MANY_WORDS:
        return None
    alone = sum(term.chunks for term in rarest if term.most >= floor)
    if 2 * alone > sum(term.chunks for term in rarest):
        return None
    # Each level multiplies how often a word is looked for.
    return _sets(rarest, floor, levels=3 if len(rarest) <= _GUESSED_WITH else 2) or None


def _sets(rarest: Sequence[_Term], floor: float, levels: int) -> str:
    """levels: words of a set that are asked for; of larger sets the rest is taken for granted."""
    left = sum(term.most for term in rarest)
    sets: list[str] = []
    for place, term in enumerate(rarest):
        if left < floor:
            break
        others = _sets(rarest[place + 1 :], floor - term.most, levels - 1) if term.most < floor and levels > 1 else ""
        sets.append(f"({_quoted(term.stem)} AND ({others}))" if others else _quoted(term.stem))
        left -= term.most
    return " OR ".join(sets)


def _any_of(stems: Iterable[str]) -> str:
    return " OR ".join(map(_quoted, stems))


def _quoted(stem: str) -> str:
    return f'"{stem}"'
