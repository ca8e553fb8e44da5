r"""RTF (Rich Text Format Specification, version 1.9.1): paragraphs, headings, lists, tables and notes.

Words that begin with a backslash change the state of the group they stand in (`\s1`), stand for a character
(`\emdash`) or say where the group's text goes (`\footnote`). Text is bytes of the font's code page, or `\u` numbers.
"""

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from llama_stack.documents.blocks import DocumentBuilder
from llama_stack.documents.failures import DocumentUnreadable, damaged
from llama_stack.documents.formats.rich_text_body import RichTextBody

MAX_DEPTH = 1000

_TOKEN = re.compile(
    rb"\\([A-Za-z]{1,32})(-?\d{1,10})? ?"  # a word with its number; one blank behind it belongs to it
    rb"|\\'([0-9A-Fa-f]{2})"
    rb"|\\([^A-Za-z])"
    rb"|([{}])"
    rb"|[\r\n\0]+"
    rb"|([^\\{}\r\n\0]+)",
    re.S,
)
_CHARACTERS = {
    "tab": "\t", "line": "\n", "lbr": "\n", "emdash": "\u2014", "endash": "\u2013", "bullet": "\u2022",
    "lquote": "\u2018", "rquote": "\u2019", "ldblquote": "\u201c", "rdblquote": "\u201d", "emspace": "\u2003",
    "enspace": "\u2002", "qmspace": "\u2005", "nestcell": " ", "nestrow": " ", "sect": "", "page": "\n",
}  # fmt: skip
_SYMBOLS = {b"~": "\u00a0", b"_": "-", b"\\": "\\", b"{": "{", b"}": "}", b"\t": "\t"}
_UNSEEN = frozenset({
    "colortbl", "filetbl", "revtbl", "listtable", "listoverridetable", "rsidtbl", "pict", "objdata", "objclass",
    "objname", "header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr", "footerf", "fldinst",
    "annotation", "atnid", "atnauthor", "atrfstart", "atrfend", "xe", "tc", "sp", "shprslt", "nonshppict",
    "nonesttables", "themedata", "colorschememapping", "latentstyles", "datastore", "xmlnstbl", "generator",
    "keycode", "author", "operator", "keywords", "comment", "doccomm", "company", "manager", "category", "subject",
    "hlinkbase", "buptim", "creatim", "revtim", "printim", "template", "panose", "falt", "fontemb", "ftnsep",
    "ftnsepc", "aftnsep", "aftnsepc", "pnseclvl", "background", "bkmkstart", "bkmkend",
})  # fmt: skip
"""Destinations whose text is no part of the document's."""
_SEEN_THOUGH_STARRED = frozenset({"shpinst", "shptxt", "footnote", "pntext", "listtext", "fldrslt", "nesttableprops"})
"""Behind `\\*` stands what a reader may skip that does not know it; we know these."""
_CODE_PAGES = {
    0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gbk", 136: "big5", 161: "cp1253",
    162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874",
    238: "cp1250", 254: "cp437", 255: "cp437",
}  # fmt: skip
"""Of a font, by its `\\fcharset`."""
_DOCUMENT_CODE_PAGES = {"ansi": "cp1252", "mac": "mac_roman", "pc": "cp437", "pca": "cp850"}
_HEADING_NAME = re.compile(r"heading (\d)", re.I)


@dataclass
class _State:
    """What a group changes until it ends. skip: characters to leave out behind each `\\u`. text_of: the destination
    that the text belongs to; empty is the document itself."""

    text_of: str = ""
    font: int = -1
    skip: int = 1
    hidden: bool = False
    style: int = 0
    level: int = 0
    in_table: bool = False
    begins_destination: bool = True
    starred: bool = False


@dataclass
class _Fonts:
    default: str = "cp1252"
    first: int = -1
    of: dict[int, str] = field(default_factory=dict)

    def code_page(self, number: int) -> str:
        return self.of.get(self.first if number < 0 else number, self.default)


def read_rich_text(content: bytes, builder: DocumentBuilder) -> None:
    """Raises DocumentUnreadable: `damaged`, `too_complex` or `too_large`."""
    reader = _Reader(RichTextBody(builder))
    reader.read(content)
    builder.title = reader.title.strip()
    if not reader.is_whole:
        if builder.is_empty:
            raise damaged("RTF document", "its end is missing")
        builder.warn("its end is missing; what stands before it was read")


class _Reader:
    def __init__(self, body: RichTextBody) -> None:
        self.title = ""
        self.is_whole = False
        self._body = body
        self._state = _State()
        self._outer: list[_State] = []
        self._fonts = _Fonts()
        self._levels: dict[int, int] = {}
        self._bytes = bytearray()
        self._encoding = ""
        self._skipping = 0
        self._style_name = ""

    def read(self, content: bytes) -> None:
        position, end = content.index(b"{"), len(content)
        while position < end:
            found = _TOKEN.match(content, position)
            if found is None:  # a lone backslash at the very end
                break
            position = found.end()
            word, number, octet, symbol, brace, text = found.groups()
            if word is not None:
                position += self._word(word.decode(), None if number is None else int(number))
            elif octet is not None:
                self._add_bytes(bytes([int(octet, 16)]))
            elif symbol is not None:
                self._symbol(symbol)
            elif brace == b"{":
                self._open()
            elif brace == b"}":
                self._close()
                if not self._outer:
                    self.is_whole = True
                    break
            elif text is not None:
                self._add_bytes(text)
        self._flush()
        self._body.end()

    # --- groups -------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._flush()
        self._skipping = 0
        if len(self._outer) >= MAX_DEPTH:
            raise DocumentUnreadable(
                f"its groups are nested more than {MAX_DEPTH} deep; open it with its program and save it again",
                code="too_complex",
            )
        self._outer.append(self._state)
        self._state = replace(self._state, begins_destination=True, starred=False)

    def _close(self) -> None:
        self._flush()
        self._skipping = 0
        ended, self._state = self._state, self._outer.pop()
        if ended.text_of == "footnote" and self._state.text_of != "footnote":
            self._body.end_note()
        if ended.text_of == "stylesheet":
            self._end_style(ended)

    def _end_style(self, ended: _State) -> None:
        """A style was described: its name, or its place in the outline, says whether it is a heading's."""
        name = self._style_name.strip(" ;")
        self._style_name = ""
        found = _HEADING_NAME.match(name)
        level = int(found[1]) if found else 1 if name.casefold() == "title" else ended.level
        if level:
            self._levels[ended.style] = level

    # --- words --------------------------------------------------------------------------------------------------

    def _word(self, word: str, number: int | None) -> int:
        """Follow a control word. Returns how many bytes behind it are raw ones."""
        state = self._state
        if word == "bin":
            return max(0, number or 0)
        if self._skipping and word not in ("u", "uc"):
            # A control word counts as one character of those that stand for a `\u`.
            self._skipping -= 1
            return 0
        begins, state.begins_destination = state.begins_destination, False
        if begins and self._begin_destination(word):
            return 0
        if word == "u" and number is not None:
            self._add_unicode(number)
        elif word in _CHARACTERS:
            self._add_text(_CHARACTERS[word])
        elif (follow := _WORDS.get(word)) is not None:
            self._flush()
            follow(self, number)
        return 0

    def _begin_destination(self, word: str) -> bool:
        """Whether the word, the first of its group, says that the group's text goes elsewhere."""
        state = self._state
        if word in _UNSEEN or (state.starred and word not in _SEEN_THOUGH_STARRED):
            state.text_of = "unseen"
        elif state.text_of == "unseen":
            pass
        elif word in ("fonttbl", "stylesheet", "footnote", "title", "pntext", "listtext"):
            state.text_of = word
        else:
            return False
        return True

    def _symbol(self, symbol: bytes) -> None:
        if symbol == b"*":
            self._state.starred = True
        elif symbol in b"\r\n":
            self._end_paragraph(None)
        elif symbol in _SYMBOLS:
            if self._skipping:
                self._skipping -= 1
            else:
                self._add_text(_SYMBOLS[symbol])

    def _end_paragraph(self, number: int | None) -> None:
        self._flush()
        state = self._state
        if state.text_of == "footnote":
            self._body.add_note("\n")
        elif not state.text_of:
            level = state.level or self._levels.get(state.style, 0)
            self._body.end_paragraph(level=level, in_table=state.in_table)

    def _end_cell(self, number: int | None) -> None:
        if not self._state.text_of:
            self._body.end_cell()

    def _end_row(self, number: int | None) -> None:
        if not self._state.text_of:
            self._body.end_row()

    def _plain_paragraph(self, number: int | None) -> None:
        state = self._state
        state.style = state.level = 0
        state.in_table = False

    def _plain_letters(self, number: int | None) -> None:
        self._state.hidden = False
        self._state.font = -1

    def _set_font(self, number: int | None) -> None:
        self._state.font = number or 0

    def _set_font_charset(self, number: int | None) -> None:
        if self._state.text_of == "fonttbl" and (number or 0) in _CODE_PAGES and number not in (None, 0, 255):
            self._fonts.of[self._state.font] = _CODE_PAGES[number or 0]

    def _set_default_font(self, number: int | None) -> None:
        self._fonts.first = number or 0

    def _set_code_page(self, number: int | None) -> None:
        encoding = {10000: "mac_roman", 65001: "utf-8"}.get(number or 0, f"cp{number}")
        try:
            codecs.lookup(encoding)
        except LookupError:
            return
        if self._state.text_of == "fonttbl":
            self._fonts.of[self._state.font] = encoding
        else:
            self._fonts.default = encoding

    def _set_skip(self, number: int | None) -> None:
        self._state.skip = max(0, 1 if number is None else number)

    def _set_hidden(self, number: int | None) -> None:
        self._state.hidden = number != 0

    def _set_style(self, number: int | None) -> None:
        self._state.style = number or 0

    def _set_level(self, number: int | None) -> None:
        self._state.level = number + 1 if number is not None and 0 <= number < 9 else 0

    def _set_in_table(self, number: int | None) -> None:
        self._state.in_table = number != 0

    # --- text ---------------------------------------------------------------------------------------------------

    def _add_bytes(self, text: bytes) -> None:
        self._state.begins_destination = False
        if self._skipping:
            left_out = min(self._skipping, len(text))
            self._skipping -= left_out
            text = text[left_out:]
        encoding = self._fonts.code_page(self._state.font)
        if encoding != self._encoding:
            self._flush()
            self._encoding = encoding
        self._bytes += text

    def _add_unicode(self, number: int) -> None:
        self._flush()
        self._skipping = self._state.skip
        self._add_text(chr(number % 65536) if number < 65536 else chr(number) if number < 0x110000 else "\ufffd")

    def _flush(self) -> None:
        """A letter may be two bytes that came one by one: they become text together."""
        if self._bytes:
            raw, self._bytes = bytes(self._bytes), bytearray()
            self._add_text(raw.decode(self._encoding or "cp1252", "replace"))

    def _add_text(self, text: str) -> None:
        if self._bytes:
            self._flush()
        state = self._state
        state.begins_destination = False
        if state.text_of in ("unseen", "fonttbl") or state.hidden:
            return
        if state.text_of == "stylesheet":
            self._style_name = (self._style_name + text)[-200:]
        elif state.text_of == "title":
            self.title = (self.title + text)[:1000]
        elif state.text_of == "footnote":
            self._body.add_note(text)
        elif state.text_of in ("pntext", "listtext"):
            self._body.set_mark(text)
        else:
            self._body.add_text(text)


_WORDS: dict[str, Callable[[_Reader, int | None], None]] = {
    "par": _Reader._end_paragraph,
    "pard": _Reader._plain_paragraph,
    "plain": _Reader._plain_letters,
    "cell": _Reader._end_cell,
    "row": _Reader._end_row,
    "intbl": _Reader._set_in_table,
    "s": _Reader._set_style,
    "outlinelevel": _Reader._set_level,
    "v": _Reader._set_hidden,
    "deleted": _Reader._set_hidden,
    "f": _Reader._set_font,
    "fcharset": _Reader._set_font_charset,
    "deff": _Reader._set_default_font,
    "ansicpg": _Reader._set_code_page,
    "cpg": _Reader._set_code_page,
    "uc": _Reader._set_skip,
    **{
        word: lambda reader, _, name=name: setattr(reader._fonts, "default", name)  # type: ignore[misc]
        for word, name in _DOCUMENT_CODE_PAGES.items()
    },
}
