"""Uploaded forms: multipart/form-data (RFC 7578) with the part `file`, whose content is passed on as it comes, and
small fields in any order.
"""

import re
from collections.abc import Collection

from llama_stack.api.files import MAX_FILENAME_BYTES, base_name
from llama_stack.errors import InvalidRequest

MAX_FORM_BYTES = 64 * 1024
"""All of a form beside the content of its file."""
MIME_TYPE = re.compile(r"[\w.+-]{1,127}/[\w.+-]{1,127}", re.ASCII)


class FormDecoder:
    """Reads an uploaded form as it comes: `feed` gives content of the file; what else it says is there after `finish`.

    filename: of the file, None where the form has none. mime_type: empty where nobody says it. Raises InvalidRequest,
    naming the field, for whatever such a form may not have.
    """

    def __init__(self, content_type: str, fields: Collection[str]) -> None:
        """content_type: the request's header. fields: those that it may have beside its file."""
        from python_multipart.multipart import MultipartParser, parse_options_header

        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            said = f"not {content_type[:100]!r}" if content_type else "which is missing"
            raise InvalidRequest(
                f"the header Content-Type must be multipart/form-data with a boundary, {said}",
                param="Content-Type",
                code="invalid_header",
            )
        self._known = fields
        self._options = parse_options_header
        self._has_ended = False
        self._form_bytes = 0
        self._content: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._header: tuple[bytes, bytes] = (b"", b"")
        self._field = ""
        self._fields: dict[str, bytes] = {}
        self.filename: str | None = None
        self.mime_type = ""
        self._faults = _parser_faults()
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_header_name,
                    "on_header_value": self._add_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_data,
                    "on_end": self._end,
                },
            )
        except self._faults as error:
            raise _broken(error) from error

    def feed(self, chunk: bytes) -> list[bytes]:
        """Content of the file, as far as this chunk of the body has any."""
        try:
            self._parser.write(chunk)
        except self._faults as error:
            raise _broken(error) from error
        content, self._content = self._content, []
        return content

    def finish(self) -> None:
        """Raises InvalidRequest for a form that broke off."""
        if not self._has_ended:
            raise _broken("it ends before its last boundary")

    def text(self, name: str) -> str | None:
        value = self._fields.get(name)
        return None if value is None else value.decode("utf-8", errors="replace")

    # --- what the parser tells -------------------------------------------------------------------------------------

    def _begin_part(self) -> None:
        self._headers = {}
        self._header = (b"", b"")

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._header = (self._header[0] + data[start:end], self._header[1])

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._header = (self._header[0], self._header[1] + data[start:end])

    def _end_header(self) -> None:
        name, value = self._header
        self._headers[name.lower()] = value
        self._header = (b"", b"")

    def _end_headers(self) -> None:
        # Browsers and programs write UTF-8 into this header; the library's parser speaks Latin-1 (RFC 7578, 5.1).
        _, options = self._options(self._headers.get(b"content-disposition", b"").decode("latin-1"))
        name = _text_of(options.get(b"name", b""))
        if name == "file":
            if b"filename" not in options:
                raise InvalidRequest("file: must be sent as a file, with a file name", param="file")
            if self.filename is not None:
                raise InvalidRequest("file: stands twice; send one file at a time", param="file")
            # How browsers and httpx write a quotation mark (HTML, "Multipart form data").
            self.filename = _read_filename(_text_of(options[b"filename"]).replace("%22", '"'))
            self.mime_type = _read_mime_type(self._headers.get(b"content-type", b""))
        elif name not in self._known:
            shown = name[:100] or "a part without a name"
            raise InvalidRequest(f"{shown}: is not a known field; remove it", param=shown)
        elif name in self._fields:
            raise InvalidRequest(f"{name}: stands twice", param=name)
        else:
            self._fields[name] = b""
        self._field = name

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._field == "file":
            self._content.append(data[start:end])
        else:
            self._count(end - start)
            self._fields[self._field] += data[start:end]

    def _end(self) -> None:
        self._has_ended = True

    def _count(self, more_bytes: int) -> None:
        self._form_bytes += more_bytes
        if self._form_bytes > MAX_FORM_BYTES:
            raise InvalidRequest(f"the fields of the form are larger than {MAX_FORM_BYTES} bytes together")


def _parser_faults() -> type[Exception]:
    from python_multipart.exceptions import FormParserError

    return FormParserError


def _broken(why: object) -> InvalidRequest:
    return InvalidRequest(f"the body is no valid multipart form: {why}", code="invalid_form")


def _text_of(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _read_filename(name: str) -> str:
    name = base_name(name)
    if not name:
        raise InvalidRequest("file: needs a file name", param="file")
    if len(name.encode()) > MAX_FILENAME_BYTES:
        raise InvalidRequest(f"file: its name is longer than {MAX_FILENAME_BYTES} bytes", param="file")
    return name


def _read_mime_type(header: bytes) -> str:
    """The type without its parameters; nothing where it says nothing, because the file's name then tells more."""
    kind = header.decode("latin-1").partition(";")[0].strip().lower()
    return kind if MIME_TYPE.fullmatch(kind) and kind != "application/octet-stream" else ""
