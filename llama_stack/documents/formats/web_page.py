"""HTML: the text of a page's main content, with its headings, lists, tables and code.

Read as a stream of tags, as browsers' reader views do it in spirit: no tree is built, so that neither depth nor
unclosed tags cost more than their length. What an element means is said in the HTML standard (WHATWG), section 4.
"""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

from llama_stack.documents.blocks import BlockKind, DocumentBuilder
from llama_stack.documents.failures import DocumentUnreadable
from llama_stack.documents.formats.plain import text_of
from llama_stack.documents.formats.tables import add_table

MAX_DEPTH = 2000
MAIN_CONTENT_SHARE = 0.2
"""An element that says it is the main content is believed when it holds at least this share of the text."""

_UNSEEN = frozenset({
    "script", "style", "template", "noscript", "svg", "math", "head", "iframe", "object", "canvas", "select",
    "button",
})  # fmt: skip
_AROUND = frozenset({
    "nav", "footer", "aside", "form", "menu", "dialog",
})  # fmt: skip
_AROUND_ROLES = frozenset({"navigation", "banner", "contentinfo", "search", "complementary"})
_MAIN = frozenset({"main", "article"})
_VOID = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
})  # fmt: skip
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset({
    "p", "div", "section", "article", "main", "header", "li", "ul", "ol", "dl", "dt", "dd", "blockquote",
    "figure", "figcaption", "address", "table", "thead", "tbody", "tfoot", "tr", "td", "th", "caption", "pre",
    "details", "summary", "fieldset", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "body", "html", "title",
})  # fmt: skip
_STRUCTURE = _BLOCKS | _UNSEEN | _AROUND | _MAIN
_CELLS = frozenset({"td", "th"})
_TABLE = frozenset({"table"})
_LISTS = frozenset({"ul", "ol", "dl", "table"})
_IMPLIED = {
    "tr": (_CELLS | {"tr", "caption"}, _TABLE),
    "td": (_CELLS, _TABLE | {"tr"}),
    "th": (_CELLS, _TABLE | {"tr"}),
    "tbody": (_CELLS | {"tr", "thead", "tbody", "caption"}, _TABLE),
    "li": (frozenset({"li"}), _LISTS),
    "dt": (frozenset({"dt", "dd"}), _LISTS),
    "dd": (frozenset({"dt", "dd"}), _LISTS),
}
"""Which open elements a start tag ends, and which elements hide those outside them."""
MAX_IMPLIED_DEPTH = 64
"""How far a tag looks for the element it ends: further would cost the square of the depth."""

_CHARSET = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?([\w-]+)|\A\s*<\?xml[^>]*\sencoding\s*=\s*["']([\w-]+)""", re.I)
_BLANKS = re.compile(r"[ \t\n\xa0]+")


def read_html(content: bytes, builder: DocumentBuilder) -> None:
    add_html(text_of(content, builder, named_charset(content)), builder)


def named_charset(content: bytes) -> str:
    """The encoding that the page names itself; empty where it names none."""
    found = _CHARSET.search(content[:4096])
    return (found[1] or found[2]).decode("ascii") if found else ""


def add_html(markup: str, builder: DocumentBuilder, *, whole: bool = False) -> None:
    """Add the page's main content; of a page that is nothing but surroundings, those. whole: add all of it."""
    page = _Page()
    page.feed(markup)
    page.close()
    page.end()
    builder.title = builder.title or _words("".join(page.title))
    parts = page.parts
    if whole:
        for part in parts:
            _add(part, builder)
        return
    within = [part for part in parts if part.in_main and not part.around]
    content = [part for part in parts if not part.around]
    if within and sum(part.size for part in within) >= MAIN_CONTENT_SHARE * sum(part.size for part in content):
        names = [part for part in content if part.level == 1 and not part.in_main]
        content = within if any(part.level == 1 for part in within) else [*names[:1], *within]
    for part in content or parts:
        _add(part, builder)


@dataclass
class _Part:
    """A block of the page. rows: of a table, or of a list with one cell each. in_main, around: where it stands."""

    kind: BlockKind
    text: str
    level: int = 0
    rows: list[list[str]] = field(default_factory=list)
    in_main: bool = False
    around: bool = False

    @property
    def size(self) -> int:
        return len(self.text) + sum(len(cell) for row in self.rows for cell in row)


def _add(part: _Part, builder: DocumentBuilder) -> None:
    if part.kind is BlockKind.TABLE and len(part.rows) > 1 and max(map(len, part.rows)) > 1:
        add_table(part.rows, builder)
    elif part.kind is BlockKind.TABLE:
        # A table of one row or one column is there for the looks.
        builder.add(BlockKind.PARAGRAPH, "\n".join(" ".join(row) for row in part.rows))
    elif part.kind is BlockKind.LIST:
        builder.add(part.kind, "\n".join(line for (line,) in part.rows))
    elif part.kind is BlockKind.HEADING:
        builder.add_heading(part.text, part.level)
    else:
        builder.add(part.kind, part.text)


class _Page(HTMLParser):
    """Collects the parts of a page as its tags pass by."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[_Part] = []
        self.title: list[str] = []
        self._open: list[str] = []
        self._text: list[str] = []
        self._unseen = 0
        self._around = 0
        self._main = 0
        self._lists = 0
        self._pre = 0
        self._level = 0
        self._around_tags: list[int] = []
        self._tables: list[list[list[str]]] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag in _VOID:
            self._handle_void(tag, attributes)
            return
        stands_aside = attributes.get("role") in _AROUND_ROLES or "hidden" in attributes
        # What only dresses the text leaves no trace, however deep and unclosed it is.
        if tag not in _STRUCTURE and not stands_aside:
            return
        self._close_implied(tag)
        if tag in _BLOCKS:
            self.end_block()
        self._open.append(tag)
        if len(self._open) > MAX_DEPTH:
            raise DocumentUnreadable(
                f"its HTML is nested more than {MAX_DEPTH} elements deep; simplify the page, or send its text",
                code="too_complex",
            )
        self._enter(tag, stands_aside=stands_aside)

    def _close_implied(self, tag: str) -> None:
        """Elements whose end tag may be left out end where the next begins (HTML standard, 13.1.2.4)."""
        if tag == "body" and "head" in self._open[:3]:
            self._close_through("head")
        if tag in _BLOCKS and self._open and self._open[-1] == "p":
            self._close_through("p")
        siblings, scope = _IMPLIED.get(tag, (frozenset(), frozenset()))
        for depth, opened in enumerate(reversed(self._open[-MAX_IMPLIED_DEPTH:]), 1):
            if opened in scope:
                return
            if opened in siblings:
                for _ in range(depth):
                    self._close_through(self._open[-1])
                self._close_implied(tag)
                return

    def _enter(self, tag: str, *, stands_aside: bool) -> None:
        self._in_title = self._in_title or tag == "title"
        self._unseen += tag in _UNSEEN
        self._main += tag in _MAIN
        self._lists += tag in ("ul", "ol")
        self._pre += tag == "pre"
        if tag in _AROUND or stands_aside:
            self._around += 1
            self._around_tags.append(len(self._open))
        self._level = _HEADINGS.get(tag, self._level)
        if tag == "table":
            self._tables.append([])
        elif tag == "tr" and self._tables:
            self._tables[-1].append([])
        elif tag == "li" and not self._tables:
            self._text.append("- ")

    def _handle_void(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag == "br":
            self._text.append("\n" if self._pre else " \x1f")
        elif tag == "hr":
            self.end_block()
        elif tag == "img" and attributes.get("alt") and not self._unseen:
            self._text.append(f" {attributes['alt']} ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        if tag in self._open[-MAX_IMPLIED_DEPTH:]:
            self._close_through(tag)

    def _close_through(self, tag: str) -> None:
        """Close the open elements up to and with the innermost of this name."""
        while self._open:
            inner = self._open[-1]
            if inner in _BLOCKS:
                self._end(inner)
            self._leave(inner)
            self._open.pop()
            if inner == tag:
                return

    def _leave(self, tag: str) -> None:
        self._unseen -= tag in _UNSEEN
        self._main -= tag in _MAIN
        self._lists -= tag in ("ul", "ol")
        self._pre -= tag == "pre"
        if self._around_tags and self._around_tags[-1] == len(self._open):
            self._around_tags.pop()
            self._around -= 1
        if tag in _HEADINGS:
            self._level = 0
        if tag == "table" and self._tables:
            self._end_table()

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not self._unseen:
            self._text.append(data)

    def end(self) -> None:
        """The page ends, and with it what it left open."""
        while self._open:
            self._close_through(self._open[-1])
        self.end_block()

    def end_block(self) -> None:
        """What was gathered since the last block ended is one, unless it stands in a table's cell."""
        if self._tables:
            self._text.append(" ")
            return
        gathered = "".join(self._text)
        self._text.clear()
        text = gathered.replace("\x1f", "\n").strip("\n") if self._pre else _words(gathered)
        if not text.strip() or text == "-":
            return
        if self._level:
            self._add(BlockKind.HEADING, text, level=self._level)
        elif self._pre:
            self._add(BlockKind.CODE, text)
        elif self._lists:
            self._add_item(text)
        else:
            self._add(BlockKind.CAPTION if "figcaption" in self._open[-3:] else BlockKind.PARAGRAPH, text)

    def _add(self, kind: BlockKind, text: str, *, level: int = 0, rows: list[list[str]] | None = None) -> None:
        self.parts.append(_Part(kind, text, level, rows or [], self._main > 0, self._around > 0))

    def _add_item(self, text: str) -> None:
        """Items of one list are one block."""
        last = self.parts[-1] if self.parts else None
        line = "  " * (self._lists - 1) + (text if text.startswith("- ") else f"  {text}")
        if last is not None and last.kind is BlockKind.LIST and last.around == (self._around > 0):
            last.rows.append([line])
            return
        self._add(BlockKind.LIST, "", rows=[[line]])

    def _end(self, tag: str) -> None:
        if not self._tables or tag not in ("td", "th", "caption"):
            self.end_block()
            return
        text = _words("".join(self._text))
        self._text.clear()
        if tag == "caption":
            self._add(BlockKind.CAPTION, text)
            return
        if not self._tables[-1]:
            self._tables[-1].append([])
        self._tables[-1][-1].append(text)

    def _end_table(self) -> None:
        rows = [row for row in self._tables.pop() if any(row)]
        if self._tables:
            # A table inside a cell is read as the cell's text.
            self._text.append(" ".join(" ".join(row) for row in rows))
            return
        # What stands in no cell has lost its way into the table, such as all that follows one that is never ended.
        outside = _words("".join(self._text))
        self._text.clear()
        if rows:
            self._add(BlockKind.TABLE, "", rows=rows)
        if outside:
            self._add(BlockKind.PARAGRAPH, outside)


def _words(text: str) -> str:
    """Text as a browser lays it out: white space is one blank, a `<br>` a new line."""
    return "\n".join(_BLANKS.sub(" ", line).strip() for line in text.split("\x1f")).strip()
