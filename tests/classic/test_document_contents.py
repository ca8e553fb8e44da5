"""What the content of a classic document is taken for: a text, or a URL."""

import pytest

from llama_stack.errors import InvalidRequest
from llama_stack.wire.classic.content import UrlBody
from llama_stack.wire.classic.memory.documents import RagDocumentBody, decode_documents


@pytest.mark.parametrize("content", ["file:///etc/passwd", "FILE:/etc/passwd\n", "ftp://host/a.txt", "s3://bucket/key"])
def test_a_url_that_is_not_fetched_is_refused(content: str) -> None:
    for said, param in ((content, "documents.1.content"), (UrlBody(uri=content), "documents.1.content.uri")):
        documents = [RagDocumentBody(document_id="a", content="text"), RagDocumentBody(document_id="b", content=said)]
        with pytest.raises(InvalidRequest, match="http, https and data are fetched, and no file") as refused:
            decode_documents(documents)
        assert refused.value.param == param


@pytest.mark.parametrize(
    ("content", "is_url"),
    [
        ("https://example.org/a", True),
        ("data:text/plain,hello", True),
        ("See file:///etc/passwd for the users.", False),
        ("file: the one on the desk", False),
        ("note: buy milk", False),
        (" file:///etc/passwd", False),
    ],
)
def test_a_text_with_a_url_in_it_is_a_text(content: str, is_url: bool) -> None:
    (document,) = decode_documents([RagDocumentBody(document_id="a", content=content)])
    assert (document.url, document.content) == ((content, None) if is_url else (None, content))
