"""The marks by which an answer's text names its sources.

Some are natural text, which a reader understands: `[1]`, `[1, 2]`, `(document handbook.pdf, page 3)`. Others are
written only because models were trained to: `【1†source】` (OpenAI's assistants and gpt-oss), `[citation:1]`
(DeepSeek's search), private characters (ChatGPT). Those are taken out of the text, while it is made.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_MARK_CHARACTERS = 160
"""Longer ones are text."""
MAX_RANGE = 10
"""Sources that `[1-4]` may mean at most; a wider one is a range of something else."""


@dataclass(frozen=True)
class Mark:
    """start, end: where it stands in the text; the same place for one that was taken out.

    numbers: of the passages it names. document_id, page: the document it names. With neither it says only that there
    is a source.
    """

    start: int
    end: int
    numbers: tuple[int, ...] = ()
    document_id: str | None = None
    page: int | None = None


_INNER = "[^【】\\[\\]\ue200\ue201\n]"
_RAW = re.compile(
    rf"【{_INNER}{{0,70}}†{_INNER}{{0,70}}】"
    r"|【\d{1,3}:\d{1,3}】"
    rf"|\[\d{{1,3}}(?::\d{{1,3}})?†{_INNER}{{0,70}}\]"
    r"|\[\[cit(?:e|ation)s?[: ] ?\d[\d,;: ]{0,40}\]\]"
    r"|\[cit(?:e|ation)s?[: ] ?\d[\d,;: ]{0,40}\]"
    rf"|\ue200{_INNER}{{0,150}}\ue201",
    re.IGNORECASE,
)
_MAY_BECOME_RAW = re.compile(
    rf"【{_INNER}{{0,141}}"
    rf"|\[\d{{0,3}}(?::\d{{0,3}})?(?:†{_INNER}{{0,70}})?"
    r"|\[{1,2}(?:c(?:i(?:t(?:e|a(?:t(?:i(?:o(?:n)?)?)?)?)?)?)?)?"
    r"|\[{1,2}cit(?:e|ation)s?(?:[: ][\d,;: ]{0,43}\]?)?"
    rf"|\ue200{_INNER}{{0,150}}",
    re.IGNORECASE,
)
"""Every beginning of what `_RAW` matches, and a little more."""
_OPENER = re.compile("[【\\[\ue200]")
_BLANKS = " \t\u00a0\u3000"
_CLOSING = frozenset(".,;:!?)]}»”’…。、，．；：！？）」』》\n।؟،")


class MarkFilter:
    """Takes marks that are no natural text out of a text that comes in pieces.

    What may be the beginning of such a mark is held back, with the blanks before it, until it is known. However the
    text is cut into pieces, the same comes out. marks: those taken out so far.
    """

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self._held = ""
        self._length = 0
        self._blanks_before = ""
        self._blanks_after = ""
        self._is_after_mark = False

    def feed(self, piece: str) -> str:
        """What can be let out now."""
        return self._let_out(piece, is_end=False)

    def finish(self) -> str:
        """What was held back and turned out to be text."""
        rest = self._let_out("", is_end=True)
        blanks = "" if self._is_after_mark else self._blanks_before
        self._blanks_before = self._blanks_after = ""
        self._length += len(blanks)
        return rest + blanks

    def _let_out(self, piece: str, *, is_end: bool) -> str:
        text = self._held + piece
        out: list[str] = []
        at = 0
        while (opener := _OPENER.search(text, at)) is not None:
            begin = opener.start()
            out.append(self._said(text[at:begin]))
            found = _RAW.match(text, begin)
            if found is not None:
                self.marks.append(Mark(self._length, self._length, _numbers_of(found[0])))
                self._is_after_mark, self._blanks_after = True, ""
                at = found.end()
            elif not is_end and _MAY_BECOME_RAW.fullmatch(text, begin) is not None:
                self._held = text[begin:]
                return "".join(out)
            else:
                out.append(self._said(text[begin]))
                at = begin + 1
        self._held = ""
        out.append(self._said(text[at:]))
        return "".join(out)

    def _said(self, text: str) -> str:
        """The text with the blanks due before it; those at its end wait for what follows."""
        if not text:
            return ""
        front = text.lstrip(_BLANKS)
        leading = text[: len(text) - len(front)]
        if self._is_after_mark:
            self._blanks_after += leading
            blanks = self._blanks_after or self._blanks_before
        else:
            self._blanks_before += leading
            blanks = self._blanks_before
        if not front:
            return ""
        if self._is_after_mark and (front[0] in _CLOSING or not self._length):
            blanks = ""
        body = front.rstrip(_BLANKS)
        self._blanks_before, self._blanks_after, self._is_after_mark = front[len(body) :], "", False
        said = blanks + body
        self._length += len(said)
        return said


def _numbers_of(raw: str) -> tuple[int, ...]:
    """The passages' numbers. `4:0` counts something else: files within messages, from 0."""
    if "†" in raw:
        found = re.findall(r"(?<![\d:])(\d{1,3})(?=†)", raw)
    elif (":" in raw and raw[0] == "【") or raw[0] == "\ue200":
        found = []
    else:
        found = re.findall(r"\d{1,3}", raw)
    return tuple(dict.fromkeys(int(number) for number in found))


# --- marks that stay -----------------------------------------------------------------------------------------------

_NUMBER = r"\d{1,3}"
_NUMBERS = re.compile(
    rf"[\[【［]\^?({_NUMBER}(?:\s*[-–,;、，]\s*{_NUMBER})*)[\]】］]"
    r"|[(\[（]\s*(?:see |siehe |voir |ver |vedi )?"
    r"(?:passages?|documents?|docs?|sources?|references?|refs?|dokumente?|quellen?|passagen?|documentos?|fuentes?"
    r"|fontes?|documenti|documento|fonti|pasajes?|passaggi?o?|источники?|документы?|文档|文檔|来源|來源|資料|文書|出典|출처|문서)"
    rf"\s*[:#]?\s*({_NUMBER}(?:\s*(?:[-–,;、，]|and|und|et|y|e)\s*{_NUMBER})*)\s*[)\]）]",
    re.IGNORECASE,
)
_PAGE = re.compile(
    rf"(?:pages?|pp?\.|seiten?|s\.|páginas?|pág\.|pagin[ae]|pag\.|стр\.|страниц[аы]|页|頁|ページ|쪽)\s*({_NUMBER}\d?)"
    rf"|({_NUMBER})\s*(?:页|頁|ページ|쪽)",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_OPEN, _SHUT = "([（【「", ")]）】」"
MIN_NAME_CHARACTERS = 3


def natural_marks(text: str, names: Iterable[tuple[str, str]]) -> list[Mark]:
    """The marks in a finished text that a reader understands, in its order; those inside code are code.

    names: of documents, each with the document's id.
    """
    code = [found.span() for found in _CODE.finditer(text)]
    marks = [
        Mark(found.start(), found.end(), _listed(found[1] or found[2]))
        for found in _NUMBERS.finditer(text)
        # A link's text is no mark.
        if not text.startswith("](", found.end() - 1)
    ]
    for name, document_id in dict.fromkeys(names):
        if len(name) >= MIN_NAME_CHARACTERS:
            marks.extend(_named(text, name, document_id))
    outside = [mark for mark in marks if not any(begin <= mark.start < end for begin, end in code)]
    return sorted(set(outside), key=lambda mark: (mark.start, mark.end, mark.document_id or ""))


def _listed(numbers: str) -> tuple[int, ...]:
    """`1, 3-5` as 1, 3, 4, 5."""
    listed: dict[int, None] = {}
    for first, last in re.findall(rf"({_NUMBER})(?:\s*[-–]\s*({_NUMBER}))?", numbers):
        end = int(last) if last else int(first)
        is_range = int(first) <= end < int(first) + MAX_RANGE
        listed.update(dict.fromkeys(range(int(first), end + 1) if is_range else (int(first), end)))
    return tuple(listed)


def _named(text: str, name: str, document_id: str) -> list[Mark]:
    """Where the document's name stands in brackets, with whatever stands beside it there."""
    marks: list[Mark] = []
    for found in re.finditer(re.escape(name), text, re.IGNORECASE):
        before = text[max(0, found.start() - 60) : found.start()]
        after = text[found.end() : found.end() + 100]
        opened = max(before.rfind(one) for one in _OPEN)
        shut = min((place for one in _SHUT if (place := after.find(one)) >= 0), default=-1)
        is_enclosed = opened >= 0 and shut >= 0 and not any(one in before[opened:] for one in f"{_SHUT}\n")
        if is_enclosed and "\n" not in after[:shut]:
            page = _PAGE.search(after, 0, shut)
            start = found.start() - len(before) + opened
            number = int(page[1] or page[2]) if page is not None else None
            marks.append(Mark(start, found.end() + shut + 1, (), document_id, number))
    return marks
