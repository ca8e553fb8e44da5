"""What the text and the structure of each format look like."""

import json

import pytest

from llama_stack.documents.blocks import Block, BlockKind, ReadDocument, from_json, to_json
from llama_stack.documents.failures import DocumentUnreadable
from llama_stack.documents.frames import LENGTH, decoded_body, encoded
from llama_stack.documents.limits import ReadingLimits
from llama_stack.documents.parsing import parse
from tests.documents.files import mail_file, pdf_file, scanned_pdf, slides_file, spreadsheet_file, word_file

Shown = list[tuple[str, str]]


def read(content: bytes | str, filename: str, limits: ReadingLimits | None = None) -> ReadDocument:
    """The document, after a look that its blocks hold all of its text."""
    content = content.encode() if isinstance(content, str) else content
    document = parse(content, filename, "", limits or ReadingLimits())
    reached = 0
    for block in document.blocks:
        assert reached <= block.start < block.end, block
        assert not document.text[reached : block.start].strip()
        reached = block.end
    assert not document.text[reached:].strip()
    assert from_json(to_json(document)) == document
    return document


def shown(document: ReadDocument) -> Shown:
    return [(str(block.kind), document.text_of(block)) for block in document.blocks]


def block(document: ReadDocument, kind: BlockKind) -> Block:
    return next(block for block in document.blocks if block.kind is kind)


def test_plain_text_stays_as_it_stands_and_blank_lines_part_it() -> None:
    text = "One\nparagraph.\n\n\n- a\n- b\n \t\nLast."
    document = read(text, "notes.txt")
    assert document.text == text
    assert document.mime_type == "text/plain"
    assert shown(document) == [("paragraph", "One\nparagraph."), ("list", "- a\n- b"), ("paragraph", "Last.")]


def test_markdown_keeps_its_text_and_shows_its_blocks() -> None:
    text = (
        '---\ntitle: "Guide"\n---\n# Set *up* [here](http://x.org)\n\nSome\ntext.\n\n1. one\n2. two\n\n'
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n```py\n# no heading\n\nx = 1\n```\n\nUnder\n---\n\n> said\n\n[ref]: http://y.org\n"
    )
    document = read(text, "guide.md")
    assert document.text == text
    assert (document.title, document.mime_type) == ("Guide", "text/markdown")
    assert shown(document) == [
        ("code", '---\ntitle: "Guide"\n---'),
        ("heading", "# Set *up* [here](http://x.org)"),
        ("paragraph", "Some\ntext."),
        ("list", "1. one\n2. two"),
        ("table", "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("code", "```py\n# no heading\n\nx = 1\n```"),
        ("heading", "Under\n---"),
        ("paragraph", "> said"),
        ("paragraph", "[ref]: http://y.org"),
    ]
    headings = [(block.level, block.title) for block in document.blocks if block.kind is BlockKind.HEADING]
    assert headings == [(1, "Set up here"), (2, "Under")]
    table = block(document, BlockKind.TABLE)
    assert document.text[table.start : table.header_end] == "| a | b |\n|---|---|"


def test_a_title_of_nothing_but_blanks_takes_no_time() -> None:
    assert read("---\ntitle: " + " " * 50_000 + "x\n---\n\nText.", "a.md").title == "x"


@pytest.mark.parametrize("title", ["untitled", "Untitled Document", "Microsoft Word - plan.doc", "(unspecified)"])
def test_a_title_that_a_program_wrote_is_none(title: str) -> None:
    assert read(pdf_file(["The plan."], title=title), "plan.pdf").title == ""


def test_a_web_page_is_its_main_content() -> None:
    page = """<!DOCTYPE html><html><head><title>Tents &amp; more</title><style>p{}</style></head><body>
    <nav><ul><li>Home</ul></nav><h1>Shop</h1><div hidden>secret</div>
    <main><h2>Tents</h2><p>Two
    lines<br>break &eacute;.<p>Unclosed<ul><li>a<ul><li>b</ul><li>c</ul>
    <table><caption>Prices</caption><tr><th>Name<th>Price<tr><td>Fjell | 2<td>399</table>
    <pre>x = 1\n\n  y</pre><figure><img src=t.png alt="a red tent"><figcaption>The tent</figcaption></figure>
    <script>document.write("<p>no</p>")</script><div>loose<div>inner</div></div></main>
    <footer>Imprint</footer></body></html>"""
    document = read(page, "shop.html")
    assert (document.title, document.mime_type) == ("Tents & more", "text/html")
    assert shown(document) == [
        ("heading", "Shop"),
        ("heading", "Tents"),
        ("paragraph", "Two lines\nbreak é."),
        ("paragraph", "Unclosed"),
        ("list", "- a\n  - b\n- c"),
        ("caption", "Prices"),
        ("table", "| Name | Price |\n| --- | --- |\n| Fjell \\| 2 | 399 |"),
        ("code", "x = 1\n\n  y"),
        ("paragraph", "a red tent"),
        ("caption", "The tent"),
        ("paragraph", "loose"),
        ("paragraph", "inner"),
    ]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<html><nav><a>Only</a> <a>links</a></nav></html>", "Only links"),
        ("<html><p>Before<main></main><p>after</html>", "Before\n\nafter"),
        ("<html><table><tr><td>for looks</td></tr></table></html>", "for looks"),
        ("<html><table><tr><td>a<table><tr><td>in</td></tr></table></td><td>b</td></tr><tr><td>c<td>d</table></html>",
         "| a in | b |\n| --- | --- |\n| c | d |"),
        ("<html>" + "<font><b>" * 3000 + "deep", "deep"),
        ("<html><p>Before<table><tr><td>a<td>b<tr><td>c<td>d", "Before\n\n| a | b |\n| --- | --- |\n| c | d |"),
        ("<html><table><tr><td>a</td></tr><h1>Not in a cell</h1><p>After</html>", "a\n\nNot in a cell After"),
        ("<html><svg><title>icon</title></svg><p>Text</html>", "Text"),
        ("<html><template><p>no</template><noscript>no</noscript>yes", "yes"),
    ],
)  # fmt: skip
def test_odd_web_pages(page: str, expected: str) -> None:
    assert read(page, "page.html").text == expected


def test_a_page_in_the_charset_that_it_names() -> None:
    page = '<html><meta charset="iso-8859-2"><p>Zażółć gęślą</html>'
    assert read(page.encode("iso-8859-2"), "a.html").text == "Zażółć gęślą"


@pytest.mark.parametrize(
    ("content", "filename", "expected"),
    [
        ('name,age\nAda,36\n"B, ob",4\n', "a.csv", "| name | age |\n| --- | --- |\n| Ada | 36 |\n| B, ob | 4 |"),
        ("name;age\nAda;36,5\n", "a.csv", "| name | age |\n| --- | --- |\n| Ada | 36,5 |"),
        ("name\tage\nA, da\t36\n", "a.tsv", "| name | age |\n| --- | --- |\n| A, da | 36 |"),
        ("a,,b\n1,,2\n\n,,\n3,,\n", "a.csv", "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 |  |"),
        ('a,b\n"two\nlines",x|y\n', "a.csv", "| a | b |\n| --- | --- |\n| two lines | x\\|y |"),
    ],
)
def test_rows_with_separators_are_a_table(content: str, filename: str, expected: str) -> None:
    document = read(content, filename)
    assert document.text == expected
    table = block(document, BlockKind.TABLE)
    assert document.text[: table.header_end] == "\n".join(expected.split("\n")[:2])


@pytest.mark.parametrize(
    ("content", "filename", "expected"),
    [
        ('[{"a": 1, "b": {"c": [1, 2]}}, "x"]', "a.json", ["a: 1\nb.c: 1, 2", "x"]),
        ('{"v": 2, "users": [{"n": "Ada"}, {"n": null}], "m": {"k": true}}', "a.json",
         ["v: 2", "users[0].n: Ada", "users[1].n: null", "m.k: true"]),
        ('{"a": 1}\n\n{"a": 2}\n', "a.jsonl", ["a: 1", "a: 2"]),
        ('{"a": 1}\n{"a": 2}\n', "a.json", ["a: 1", "a: 2"]),
        ('"text"', "a.json", ["text"]),
    ],
)  # fmt: skip
def test_json_is_a_line_a_value_under_its_path(content: str, filename: str, expected: list[str]) -> None:
    assert [text for _, text in shown(read(content, filename))] == expected


def test_a_notebook_is_its_texts_its_code_and_what_that_printed() -> None:
    outputs = [
        {"output_type": "stream", "text": ["42\n"]},
        {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo", "text/plain": "<Figure>"}},
        {"output_type": "error", "ename": "KeyError", "evalue": "'x'"},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Tents\n", "\n", "We count."]},
        {"cell_type": "code", "source": "x = 1\n\nprint(x)", "outputs": outputs},
    ]
    document = read(json.dumps({"cells": cells, "nbformat": 4}), "a.ipynb")
    assert document.title == "Tents"
    assert shown(document) == [
        ("heading", "# Tents"), ("paragraph", "We count."), ("code", "x = 1\n\nprint(x)"), ("code", "42"),
        ("code", "KeyError: 'x'"),
    ]  # fmt: skip
    assert read('{"cells": 7}', "a.ipynb").text == "cells: 7"


def test_broken_json_is_read_as_text_and_says_so() -> None:
    document = read('{"a": 1,', "a.json")
    assert document.text == '{"a": 1,'
    assert "not valid JSON" in document.warnings[0]


def test_half_a_surrogate_pair_is_marked_and_moves_no_span() -> None:
    content = json.dumps({"cut": "\ud83d end", "next": {"whole": "\U0001f600"}})
    document = from_json(decoded_body(encoded(to_json(read(content, "a.json")))[LENGTH.size :]))
    assert [text for _, text in shown(document)] == ["cut: \N{REPLACEMENT CHARACTER} end", "next.whole: \U0001f600"]


def test_python_is_parted_at_its_definitions() -> None:
    methods = "".join(f"    def method_{number}(self):\n        return {number}\n\n" for number in range(40))
    function = "# why\n@cached\ndef f():\n    x = 1\n\n    return x"
    code = f'"""Module."""\n\nimport os\n\n{function}\n\nclass Long:\n    a = 1\n\n{methods}'
    document = read(code, "m.py")
    titles = [block.title for block in document.blocks]
    assert document.text == code
    assert titles == ["", "f", "Long", *(f"Long.method_{number}" for number in range(40))]
    assert document.text_of(document.blocks[1]) == function


@pytest.mark.parametrize("filename", ["broken.py", "main.c"])
def test_other_code_is_parted_where_a_line_stands_at_the_margin(filename: str) -> None:
    code = "#include <x>\n\nint a() {\n  b;\n\n  c;\n\n}\n\nint d;\n"
    assert [text for _, text in shown(read(code, filename))] == [
        "#include <x>", "int a() {\n  b;\n\n  c;\n\n}", "int d;",
    ]  # fmt: skip


def test_a_pdf_has_pages_headings_and_whole_paragraphs() -> None:
    wrapped = "This is a paragraph that is long enough to be broken into several lines because it has many words. " * 2
    wrapped += "That was all of it."
    pages = [f"Kept on page {number}. {wrapped}\nShort one.\n- first\n- second" for number in range(1, 4)]
    document = read(pdf_file(pages, title="Manual", headings=["Start", "Middle", "End"]), "m.pdf")
    assert (document.title, document.pages, document.mime_type) == ("Manual", 3, "application/pdf")
    second = [(str(b.kind), document.text_of(b)) for b in document.blocks if b.page == 2]
    assert second == [
        ("heading", "Middle"), ("paragraph", f"Kept on page 2. {wrapped}".strip()), ("paragraph", "Short one."),
        ("list", "- first\n- second"),
    ]  # fmt: skip


def test_a_pdf_behind_a_little_of_something_else_is_read_as_pdf() -> None:
    document = read(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n" + pdf_file(["It was saved with its headers."]), "saved.pdf")
    assert (document.mime_type, document.text) == ("application/pdf", "It was saved with its headers.")


def test_a_word_that_a_hyphen_parts_is_whole_again() -> None:
    assert "a sentence follows" in read(pdf_file(["a sen-\ntence follows"]), "h.pdf").text


def test_lines_that_run_over_all_pages_are_no_text() -> None:
    pages = [f"ACME Handbook\nText of page {word}.\nPage {n} of 6" for n, word in enumerate("abcdef", 1)]
    document = read(pdf_file(pages), "run.pdf")
    assert document.text == "\n\n".join(f"Text of page {word}." for word in "abcdef")


def test_what_differs_from_page_to_page_is_no_running_line() -> None:
    pages = [
        f"Invoice {1001 + 7 * page}\nA customer.\nTotal: {page * 95}.00 EUR\nPage {page} of 6" for page in range(1, 7)
    ]
    text = read(pdf_file(pages), "invoices.pdf").text
    assert "Invoice 1043" in text
    assert "Total: 570.00 EUR" in text
    assert "Page" not in text


def test_a_pdf_of_nothing_but_running_lines_keeps_them() -> None:
    assert "Card 3" in read(pdf_file([f"Card {page}" for page in range(1, 6)]), "cards.pdf").text


def test_a_pdf_that_only_its_owner_may_change_is_read() -> None:
    assert read(pdf_file(["open"]), "o.pdf").text == "open"


def test_a_scan_has_no_text_and_says_what_helps() -> None:
    with pytest.raises(DocumentUnreadable, match=r"llama-stack\[ocr\]") as caught:
        read(scanned_pdf(), "scan.pdf")
    assert caught.value.code == "no_text"


def test_a_word_document() -> None:
    document = read(word_file(), "handbook.docx")
    assert document.title == "Handbook"
    assert shown(document) == [
        ("heading", "Tents"),
        ("paragraph", "Every tent is waterproof."),
        ("list", "- poles\n- pegs"),
        ("heading", "Prices"),
        ("table", "| Name | Price |\n| --- | --- |\n| Fjell \\| 2 | 399 |"),
        ("paragraph", "Ask for more."),
    ]
    assert [block.level for block in document.blocks if block.kind is BlockKind.HEADING] == [1, 2]


def has_the_slides_of_a_plan(document: ReadDocument) -> None:
    assert document.pages == 2
    assert [(block.page, *line) for block, line in zip(document.blocks, shown(document), strict=True)] == [
        (1, "heading", "Plan"),
        (1, "list", "- spring\n- summer"),
        (1, "paragraph", "Speak slowly."),
        (2, "heading", "Figures"),
        (2, "table", "| year | sold |\n| --- | --- |\n| 2024 | 17 |"),
    ]


def test_slides_are_pages_with_their_notes() -> None:
    has_the_slides_of_a_plan(read(slides_file(), "plan.pptx"))


def test_a_sheet_is_a_heading_with_a_table_under_its_header() -> None:
    assert shown(read(spreadsheet_file(), "sales.xlsx")) == [
        ("heading", "Sales"),
        ("paragraph", "Report of 2024"),
        ("table", "| item | sold | open |\n| --- | --- | --- |\n| tent | 3 | TRUE |\n| pole | 2.5 |  |"),
    ]


def test_columns_beyond_the_thousandth_are_told_of_and_blank_ones_are_not() -> None:
    wide, blank = ["x"] * 1_001, ["x"] * 1_000 + [" "] * 500
    assert read(",".join(wide), "a.csv").warnings == ("a table has more than 1000 columns; the others were left out",)
    assert read(",".join(blank), "a.csv").warnings == ()


def test_a_mail_with_what_is_attached() -> None:
    inner = mail_file(("deep.md", b"# Deep\n\nfound"))
    document = read(
        mail_file(("../sizes.csv", b"a,b\n1,2\n"), ("x.txt", b"MZ\x90\0\3\0\0\0\4"), ("fwd.eml", inner)), "a.eml"
    )
    assert document.title == "Größen"
    assert shown(document) == [
        ("heading", "Größen"),
        ("paragraph", "From: ada@example.org\nTo: bob@example.org"),
        ("paragraph", "The sizes are attached."),
        ("paragraph", "Regards, Ada"),
        ("heading", "sizes.csv"),
        ("table", "| a | b |\n| --- | --- |\n| 1 | 2 |"),
        ("heading", "fwd.eml"),
        ("heading", "Größen"),
        ("paragraph", "From: ada@example.org\nTo: bob@example.org"),
        ("paragraph", "The sizes are attached."),
        ("paragraph", "Regards, Ada"),
        ("heading", "deep.md"),
        ("heading", "# Deep"),
        ("paragraph", "found"),
    ]
    assert "'x.txt' was left out" in document.warnings[0]


def test_mails_within_mails_end_somewhere() -> None:
    mail = mail_file(("bottom.txt", b"bottom"))
    for _ in range(5):
        mail = mail_file(("inner.eml", mail))
    document = read(mail, "outer.eml")
    assert "bottom" not in document.text
    assert any("too many mails" in warning for warning in document.warnings)


def test_only_so_many_attachments_are_read() -> None:
    document = read(mail_file(*((f"{number}.txt", b"attached") for number in range(60))), "many.eml")
    assert document.text.count("attached") == 50 + 1
    assert document.warnings == ("it has more than 50 attachments; the others were left out",)


def test_the_html_body_of_a_mail_is_read_where_there_is_no_other() -> None:
    mail = b"Subject: Hi\nFrom: a@b.org\nMIME-Version: 1.0\nContent-Type: text/html\n\n<h2>News</h2><p>Today.</p>"
    assert shown(read(mail, "m.eml"))[2:] == [("heading", "News"), ("paragraph", "Today.")]


MAIL = b"Subject: Hi\nMIME-Version: 1.0\nContent-Type: "


@pytest.mark.parametrize(
    ("mail", "expected"),
    [
        (b"text/plain; charset=x-unknown\nContent-Transfer-Encoding: 8bit\n\nGr\xc3\xb6\xc3\x9fe", "Größe"),
        (b"text/plain\nContent-Transfer-Encoding: 8bit\n\nDie Gr\xf6\xdfe ist 3.", "Die Größe ist 3."),
        (b"text/plain; charset=iso-2022-jp\n\n" + "今日は".encode("iso-2022-jp"), "今日は"),
        (b"multipart/alternative; boundary=A\n\n--A\nContent-Type: text/plain\n\n \n--A\nContent-Type: text/html\n\n"
         b"<p>The offer.</p>\n--A--\n", "The offer."),
        (b"multipart/mixed; name=m; boundary=A\n\n--A\nContent-Type: text/plain\n\nOne.\n--A\nContent-Type: text/csv;"
         b" name=t.csv\n\na,b\n1,2\n--A\nContent-Type: text/plain\n\nTwo.\n--A--\n",
         "One.\n\nTwo.\n\nt.csv\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"),
        (b"multipart/alternative; boundary=A\n\n--A\nContent-Type: text/plain\n\nSaid.\n--A\n"
         b"Content-Type: multipart/mixed; boundary=B\n\n--B\nContent-Type: text/html\n\n<p>Said.</p>\n--B\n"
         b"Content-Type: text/html; charset=iso-8859-2; name=p.html\nContent-Transfer-Encoding: 8bit\n\n"
         + "<p>Zażółć".encode("iso-8859-2") + b"\n--B--\n--A--\n", "Said.\n\np.html\n\nZażółć"),
    ],
    ids=["charset unknown", "charset missing", "seven bit", "text blank", "text goes on", "attached to the page"],
)  # fmt: skip
def test_mails_as_programs_write_them(mail: bytes, expected: str) -> None:
    assert read(MAIL + mail, "a.eml").text == f"Hi\n\n{expected}"


def test_a_charset_that_came_with_the_file_is_believed() -> None:
    page = "<p>Zażółć gęślą".encode("iso-8859-2")
    assert parse(page, "", "text/html; charset=ISO-8859-2", ReadingLimits()).text == "Zażółć gęślą"
    assert parse("<p>Grüße".encode(), "", 'text/html; charset="latin-1"', ReadingLimits()).text == "Grüße"


@pytest.mark.parametrize("content", [b"\x01\x02\x03" * 100, b"[" * 100_000, b"a" * 3000])
def test_limits_and_binary_content_are_failures_with_a_code(content: bytes) -> None:
    with pytest.raises(DocumentUnreadable) as caught:
        read(content, "a.json", ReadingLimits(max_text_characters=1000))
    assert caught.value.code in ("file_type_mismatch", "too_complex", "too_large")


def test_more_pages_than_allowed() -> None:
    with pytest.raises(DocumentUnreadable, match="it has 3 pages, more than 2") as caught:
        read(pdf_file(["a", "b", "c"]), "a.pdf", ReadingLimits(max_pages=2))
    assert caught.value.code == "too_large"
