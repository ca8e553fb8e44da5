"""Where sentences end, by the rules of scripts and the commonest abbreviations; without models or dictionaries.

After the ideas of Unicode Standard Annex 29, section 5 (sentence boundaries), whose rules are followed where they are
certain: a full stop before white space and a small letter ends nothing; ideographic full stops end a sentence without
white space. Thai writes no full stops; there the blanks between phrases are taken.
"""

import re
from bisect import bisect_left

_CLOSERS = "\"'”’»›)\\]」』）】》〉"
_END = re.compile(
    rf"""
    (?P<stop> [.!?…‽؟۔։]+ [{_CLOSERS}“‘]* (?:[ \u00a0\u202f]»)? )  # scripts with blanks between words
    | [।॥။።។๚๛]+ [{_CLOSERS}]*                             # Devanagari and its neighbours, Burmese, Ethiopic, Khmer
    | [。！？｡．]+ [{_CLOSERS}]*                            # Chinese, Japanese
    | (?<=[\u0e00-\u0e7f]) (?=[ \u3000]+[\u0e00-\u0e7f])    # Thai
    | (?=\n[^\S\n]*\n)                                      # a blank line
    | (?P<plain> [A-Za-z0-9,;:'()\- ]+ )                     # ends nothing, and is passed over at once
    """,
    re.X,
)
_LINE_END = re.compile(r"(?=\n)")
_SMALL_FOLLOWS = re.compile(r"\s+[\"'“„«(\[]*(\S)")
_LAST_WORD = re.compile(r"(?:^|[\s(\[\"'“„«\u00a0])([^\s(\[\"'“„«]*)$")
_INITIALS = re.compile(r"(?:[^\W\d_\u0900-\uffff]\.)*[^\W\d_\u0900-\uffff]")
"""Of scripts with capitals: elsewhere a letter is a word or a syllable."""
_LOOKED_BACK = 24

_BEFORE_NAMES = frozenset({
    "mr", "mrs", "ms", "mx", "dr", "drs", "prof", "sr", "sra", "srta", "dra", "st", "ste", "mme", "mlle", "mm",
    "me", "hr", "hrn", "fr", "frl", "dott", "avv", "ing", "sig", "sigg", "ill", "exmo", "exma", "gen", "col",
    "lt", "sgt", "capt", "cmdr", "adm", "rev", "hon", "pres", "gov", "sen", "rep", "messrs", "univ", "art",
    "abs", "kap", "bd", "hl", "dipl", "geb", "gest",
})  # fmt: skip
_ANYWHERE = frozenset({
    "vs", "etc", "al", "cf", "ca", "approx", "resp", "bzw", "usw", "bspw", "evtl", "ggf", "inkl", "exkl",
    "zzgl", "zb", "dh", "ua", "uvm", "sog", "vgl", "nr", "no", "nos", "núm", "num", "fig", "figs", "eq", "vol",
    "pp", "pág", "págs", "pag", "ed", "eds", "dept", "est", "ext", "tel", "cap", "sec", "ej", "av", "avda",
    "pza", "apdo", "ecc", "es", "ex", "env", "éd", "jan", "feb", "mär", "apr", "jun", "jul", "aug", "sep",
    "sept", "okt", "oct", "nov", "dez", "dec", "janv", "févr", "avr", "juil", "déc", "ene", "abr", "ago", "dic",
    "gen",
})  # fmt: skip
_MONTHS = re.compile(
    r"\s+(?:jan|feb|mär|maerz|apr|mai|jun|jul|aug|sep|okt|nov|dez|jahrhundert|quartal|auflage|klasse|stock|etage|platz)",
    re.I,
)


def sentence_ends(text: str, start: int, end: int, *, lines: bool = False) -> list[int]:
    """Positions between `start` and `end` after which a new sentence begins; `end` itself is the last.

    lines: every line is a sentence of its own, as in a list.
    """
    ends = {
        found.end()
        for found in _END.finditer(text, start, end)
        if found.lastgroup is None or (found.lastgroup == "stop" and _is_end(text, found))
    }
    if lines:
        ends.update(found.start() for found in _LINE_END.finditer(text, start, end))
    ordered = sorted(ends)
    # Only what has text on both sides parts anything.
    inner = ordered[bisect_left(ordered, start + 1) : bisect_left(ordered, end)]
    return [*inner, end]


def _is_end(text: str, found: re.Match[str]) -> bool:
    """Whether a stop ends the sentence; none does without white space behind it."""
    if not text[found.end() : found.end() + 1].isspace():
        return False
    following = _SMALL_FOLLOWS.match(text, found.end(), found.end() + 100)
    if following is not None and following[1].islower():
        return False
    if not found["stop"].startswith(".") or found["stop"].startswith(".."):
        return True
    before = _LAST_WORD.search(text[max(0, found.start() - _LOOKED_BACK) : found.start()])
    word = "" if before is None else before[1]
    bare = word.casefold().replace(".", "")
    if word.isdigit():
        return len(word) > 2 or not _begins_ordinal(text, found.start() - len(word), found.end())
    if bare in _BEFORE_NAMES:
        return False
    if bare in _ANYWHERE:
        # They stand at the end of sentences too: then a capital follows, which in German proves nothing.
        return bare in ("etc", "usw", "ecc") and following is not None and following[1].isupper()
    # `J. Smith`, `z. B.`, `U.S. Army`; `Vitamin C. Then` is lost to that.
    return _INITIALS.fullmatch(word) is None


def _begins_ordinal(text: str, start: int, end: int) -> bool:
    """`3. Oktober`, or the number of a list's item at the start of a line."""
    line_start = text.rfind("\n", max(0, start - 4), start)
    at_line_start = start == 0 or (line_start >= 0 and not text[line_start:start].strip())
    return at_line_start or _MONTHS.match(text, end) is not None
