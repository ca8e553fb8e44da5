"""The uploaded form: the same from every client and in whatever pieces it comes, and a precise word for each fault."""

import re
from typing import Any

import pytest

from llama_stack.api.files import FilePurpose, NewFile
from llama_stack.errors import InvalidRequest
from llama_stack.wire.openai_files import UploadDecoder, encode_upload
from llama_stack.wire.upload_forms import MAX_FORM_BYTES

BOUNDARY = "a-boundary"
HEADER = f"multipart/form-data; boundary={BOUNDARY}"
CONTENT = b"\r\n--a-bound\r\n--\x00\xff\r\n\r\n--" * 3


def field(name: str, value: str) -> bytes:
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


def part(content: bytes = CONTENT, disposition: str = 'name="file"; filename="a.txt"', kind: str = "") -> bytes:
    kind = f"\r\nContent-Type: {kind}" if kind else ""
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}{kind}\r\n\r\n"
    return head.encode() + content + b"\r\n"


PURPOSE = field("purpose", "assistants")
END = f"--{BOUNDARY}--\r\n".encode()


def decoded(body: bytes, *, size: int = 1 << 20, header: str = HEADER) -> tuple[bytes, NewFile]:
    decoder = UploadDecoder(header)
    content = [piece for start in range(0, len(body), size) for piece in decoder.feed(body[start : start + size])]
    return b"".join(content), decoder.end()


def refusal(*parts: bytes, header: str = HEADER) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        decoded(b"".join(parts), header=header)
    return refused.value


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_a_form_may_come_in_any_pieces_and_its_fields_in_any_order(size: int) -> None:
    expiry = field("expires_after[anchor]", "created_at") + field("expires_after[seconds]", "3600")
    expected = NewFile(filename="a.txt", purpose=FilePurpose.BATCH, mime_type="text/plain", expires_after_s=3600)
    file = part(kind="text/plain; charset=utf-8")
    for body in (field("purpose", "batch") + file + expiry, expiry + file + field("purpose", "batch")):
        assert decoded(body + END, size=size) == (CONTENT, expected)


@pytest.mark.parametrize(
    "new",
    [
        NewFile(filename="plain.txt", purpose=FilePurpose.USER_DATA),
        NewFile(filename='Größe "🦙" 100%.pdf', purpose=FilePurpose.EVALS, mime_type="application/pdf"),
        NewFile(filename="a;b=c.jsonl", purpose=FilePurpose.FINE_TUNE, expires_after_s=2592000),
    ],
)
def test_what_our_client_writes_is_what_the_server_reads(new: NewFile) -> None:
    head, tail = encode_upload(new, BOUNDARY)
    assert decoded(head + CONTENT + tail) == (CONTENT, new)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\\\Users\\\\me\\\\notes.txt", "notes.txt"),
        ("/tmp/a b.txt", "a b.txt"),
        ("a\tb\x1b[31m.txt", "ab[31m.txt"),
        ("%22quoted%22.txt", '"quoted".txt'),
        ("日本語.md", "日本語.md"),
        ("می\u200cخواهم.txt", "می\u200cخواهم.txt"),
        ("bill\u202efdp.exe", "billfdp.exe"),
    ],
)
def test_a_file_name_is_a_name_and_no_path(sent: str, kept: str) -> None:
    _, new = decoded(PURPOSE + part(disposition=f'name="file"; filename="{sent}"') + END)
    assert new.filename == kept


def test_expiry_may_be_one_field_of_json() -> None:
    whole = field("expires_after", '{"anchor": "created_at", "seconds": 7200}')
    assert decoded(PURPOSE + whole + part() + END)[1].expires_after_s == 7200


def expiring(**values: Any) -> bytes:
    return b"".join(field(f"expires_after[{name}]", str(value)) for name, value in values.items())


@pytest.mark.parametrize(
    ("parts", "param", "says"),
    [
        ([PURPOSE], "file", "is required"),
        ([part()], "purpose", "is required, one of assistants, batch, fine-tune, vision, user_data, evals"),
        ([field("purpose", "fun"), part()], "purpose", "must be one of assistants, .*not 'fun'"),
        ([field("purpose", "batch_output"), part()], "purpose", "must be one of"),
        ([PURPOSE, PURPOSE, part()], "purpose", "stands twice"),
        ([PURPOSE, part(), part()], "file", "stands twice"),
        ([PURPOSE, field("file", "text")], "file", "as a file, with a file name"),
        ([PURPOSE, part(disposition='name="file"; filename=""')], "file", "needs a file name"),
        ([PURPOSE, part(disposition='name="file"; filename=".."')], "file", "needs a file name"),
        ([PURPOSE, part(disposition=f'name="file"; filename="{"é" * 300}"')], "file", "longer than 512 bytes"),
        ([PURPOSE, field("colour", "red"), part()], "colour", "not a known field"),
        ([PURPOSE, part(disposition='filename="x"')], "a part without a name", "not a known field"),
        ([PURPOSE, expiring(seconds=3600), part()], "expires_after.anchor", "is required"),
        ([PURPOSE, expiring(anchor="now", seconds=3600), part()], "expires_after.anchor", "not 'now'"),
        ([PURPOSE, expiring(anchor="created_at"), part()], "expires_after.seconds", "is required"),
        ([PURPOSE, expiring(anchor="created_at", seconds=3599), part()], "expires_after.seconds", "3600 to 2592000"),
        ([PURPOSE, expiring(anchor="created_at", seconds=2592001), part()], "expires_after.seconds", "not '2592001'"),
        ([PURPOSE, expiring(anchor="created_at", seconds="1e9"), part()], "expires_after.seconds", "whole number"),
        ([PURPOSE, expiring(anchor="created_at", seconds="٣٦٠٠"), part()], "expires_after.seconds", "whole number"),
        ([PURPOSE, field("expires_after", "soon"), part()], "expires_after", "must be an object"),
    ],
)
def test_a_fault_is_named(parts: list[bytes], param: str, says: str) -> None:
    error = refusal(*parts, END)
    assert error.param == param
    assert error.message.startswith(f"{param}: ")
    assert re.search(says, error.message), error.message


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"no form at all"],
        [PURPOSE, part()],
        [PURPOSE, part()[:-20]],
        [PURPOSE, b"--another\r\n\r\n"],
        [END],
    ],
    ids=["nothing", "text", "no end", "cut off", "another boundary", "empty"],
)
def test_what_is_no_form_is_refused(parts: list[bytes]) -> None:
    error = refusal(*parts)
    assert error.code == "invalid_form" or error.param == "file"


@pytest.mark.parametrize(
    "header", ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=x", "text/plain; boundary=x"]
)
def test_another_content_type_is_refused(header: str) -> None:
    error = refusal(header=header)
    assert (error.param, error.code) == ("Content-Type", "invalid_header")


def test_a_boundary_is_of_bounded_length() -> None:
    assert refusal(header=f"multipart/form-data; boundary={'x' * 5000}").code == "invalid_form"


def test_fields_and_headers_are_of_bounded_size() -> None:
    big = "x" * (MAX_FORM_BYTES + 1)
    assert "larger than" in refusal(field("purpose", big)).message
    many = f"--{BOUNDARY}\r\n" + "".join(f"X-{number}: {'y' * 1000}\r\n" for number in range(100))
    assert refusal(many.encode()).http_status == 400
