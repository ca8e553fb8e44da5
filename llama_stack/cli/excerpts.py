"""The part of a passage that answers a question best, with the words of the question marked."""

import re
from collections.abc import Callable, Sequence

EXCERPT_CHARS = 320
_WORD = re.compile(r"\w+")
_COMMON = frozenset(
    _WORD.findall(
        "a about all an and any are as at be by can did do does for from has have how i if in is it its me my of on or "
        "our so that the their there they this to was we what when where which who why will with you your "
        "der die das den dem ein eine und ist sind wie was wo wann wer le la les un une et est que qui el los las y es"
    )
)


def excerpt(text: str, question: str, mark: Callable[[str], str], length: int = EXCERPT_CHARS) -> str:
    """At most `length` characters of the text on one line, where most different words of the question stand.

    mark: what a matching word becomes. Words match that begin alike, so that `returned` marks `returns`.
    """
    line = " ".join(text.split())
    wanted = sorted({word for word in _words(question) if word not in _COMMON})
    spots = [(match.start(), match.end(), hit) for match in _WORD.finditer(line) if (hit := _hit(match[0], wanted))]
    start, end = _window(line, spots, length)
    shown, at = "", start
    for first, last, _ in spots:
        if start <= first and last <= end:
            shown += line[at:first] + mark(line[first:last])
            at = last
    return f"{'... ' if start else ''}{shown}{line[at:end]}{' ...' if end < len(line) else ''}"


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _hit(word: str, wanted: Sequence[str]) -> str | None:
    """The word of the question that this one is, or begins like."""
    folded = word.casefold()
    for one in wanted:
        shared = 0
        for mine, theirs in zip(folded, one, strict=False):
            if mine != theirs:
                break
            shared += 1
        if shared == len(one) == len(folded) or shared >= max(4, min(len(one), len(folded)) - 2):
            return one
    return None


def _window(line: str, spots: Sequence[tuple[int, int, str]], length: int) -> tuple[int, int]:
    """Ends of the part that is shown, between words. Of equally good parts the first."""
    if len(line) <= length:
        return 0, len(line)
    best, best_start = 0, 0
    for first, _, _ in spots:
        within = {hit for begin, end, hit in spots if first <= begin and end <= first + length}
        if len(within) > best:
            best, best_start = len(within), first
    # A few words before the first match, so that it can be understood.
    start = max(0, min(best_start - length // 6, len(line) - length))
    end = start + length
    if start:
        start = line.find(" ", start) + 1
    if end < len(line):
        last_gap = line.rfind(" ", start, end)
        end = last_gap if last_gap > start else end
    return start, end
