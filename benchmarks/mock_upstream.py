"""A deterministic OpenAI-compatible upstream on loopback, far cheaper than any server measured in front of it.

    python -m benchmarks.mock_upstream --port 9900

| route                       | answer                                                                        |
|-----------------------------|-------------------------------------------------------------------------------|
| GET /v1/models              | the models below                                                              |
| POST /v1/chat/completions   | 50 words at once, or as a stream of 100 content chunks, each in a packet      |
| POST /v1/embeddings         | one unit vector of 384 dimensions per input, the same for the same input      |
| POST /mcp                   | an MCP server with one tool, see `benchmarks.mock_mcp`                        |

Models: `mock` streams without delay, `mock-paced` with 5 ms between chunks, `mock-embed` embeds. `mock-tool` calls the
first tool it is offered, and once it has read a result it answers as `mock` does. A prefix that ends in a slash is
ignored, because some servers pass their own name of the model on.

The wire format is OpenAI's (https://platform.openai.com/docs/api-reference). Bytes that do not depend on the request
are made once, at start; one whole answer costs about 10 us of CPU.
"""

import argparse
import asyncio
import base64
import itertools
import random
import struct
import time
import zlib
from typing import Any, cast

import httptools
import orjson
import uvloop

from benchmarks import mock_mcp

CHAT_MODEL = "mock"
PACED_MODEL = "mock-paced"
TOOL_MODEL = "mock-tool"
EMBEDDING_MODEL = "mock-embed"
PACE_S = 0.005
CHUNKS = 100
DIMENSIONS = 384

# A word that occurs nowhere else in an exchange, so that a client can tell the first token of the answer.
FIRST_WORD = "Quartz"
_SENTENCE = "hills keep the river company while slow barges carry grain past quiet villages and old stone bridges"


def _words(count: int) -> list[str]:
    return [FIRST_WORD, *itertools.islice(itertools.cycle(_SENTENCE.split()), count - 1)]


ANSWER = " ".join(_words(50))

# Of a tool whose name holds `search`: file search wants a query, under one of these names.
SEARCH_ARGUMENTS = '{"query":"barges past quiet villages"}'

_CREATED = 1_700_000_000
_PROMPT_TOKENS = 12
# Replaced in every answer by an id of the same width: some servers file answers under the upstream's id.
_ID_PLACE = b"chatcmpl-00000000"


def http_response(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _transfer_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _server_sent(event: dict[str, Any]) -> bytes:
    return _transfer_chunk(b"data: " + orjson.dumps(event) + b"\n\n")


_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_STREAM_END = _transfer_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _usage(completion_tokens: int) -> dict[str, int]:
    total = _PROMPT_TOKENS + completion_tokens
    return {"prompt_tokens": _PROMPT_TOKENS, "completion_tokens": completion_tokens, "total_tokens": total}


def _error(status: str, message: str) -> bytes:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
    return http_response(orjson.dumps(body), status)


class Answers:
    """Every byte that does not depend on the request."""

    def __init__(self) -> None:
        chat_models = (CHAT_MODEL, PACED_MODEL, TOOL_MODEL)
        self.models = self._models([*chat_models, EMBEDDING_MODEL])
        self.chat = {model: self._chat(model) for model in chat_models}
        self.streams = {(model, usage): self._stream(model, usage) for model in chat_models for usage in (False, True)}
        self._vectors = self._unit_vectors(count=512)

    @staticmethod
    def _models(names: list[str]) -> bytes:
        rows = [{"id": name, "object": "model", "created": _CREATED, "owned_by": "benchmarks"} for name in names]
        return http_response(orjson.dumps({"object": "list", "data": rows}))

    @staticmethod
    def _chat(model: str) -> bytes:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": ANSWER, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
        body = {
            "id": _ID_PLACE.decode(),
            "object": "chat.completion",
            "created": _CREATED,
            "model": model,
            "choices": [choice],
            "usage": _usage(len(ANSWER.split())),
        }
        return http_response(orjson.dumps(body))

    @staticmethod
    def _stream(model: str, with_usage: bool) -> list[bytes]:
        """Frames of one stream: the role, CHUNKS times content, the finish reason, perhaps usage, `[DONE]`."""

        def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
            about = {"id": _ID_PLACE.decode(), "object": "chat.completion.chunk", "created": _CREATED, "model": model}
            return _server_sent({**about, "choices": choices, **more})

        def choice(delta: dict[str, str], finish: str | None = None) -> list[dict[str, Any]]:
            return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]

        contents = [event(choice({"content": f"{word} "})) for word in _words(CHUNKS)]
        usage = [event([], usage=_usage(CHUNKS))] if with_usage else []
        return [event(choice({"role": "assistant", "content": ""})), *contents, event(choice({}, "stop")), *usage]

    @staticmethod
    def _unit_vectors(count: int) -> list[tuple[bytes, bytes]]:
        """(JSON array, base64 of little-endian float32) of `count` vectors of length 1."""
        rng = random.Random(7)
        vectors = []
        for _ in range(count):
            raw = [rng.gauss(0, 1) for _ in range(DIMENSIONS)]
            norm = sum(x * x for x in raw) ** 0.5
            unit = [round(x / norm, 6) for x in raw]
            packed = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *unit))
            vectors.append((orjson.dumps(unit), b'"' + packed + b'"'))
        return vectors

    def embeddings(self, request: dict[str, Any]) -> bytes:
        given = request["input"]
        inputs = [given] if isinstance(given, str) else given
        packed = request.get("encoding_format") == "base64"
        rows = []
        for index, text in enumerate(inputs):
            vector = self._vectors[zlib.crc32(orjson.dumps(text)) % len(self._vectors)][packed]
            rows.append(b'{"object":"embedding","index":%d,"embedding":%b}' % (index, vector))
        tokens = 8 * len(inputs)
        return http_response(
            b'{"object":"list","data":[%b],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}'
            % (b",".join(rows), orjson.dumps(request["model"]), tokens, tokens)
        )


def _wanted_call(request: dict[str, Any]) -> str | None:
    """Name of the first tool, until a result of one has been read."""
    has_result = any(message["role"] == "tool" for message in request["messages"])
    tools = request.get("tools")
    return tools[0]["function"]["name"] if tools and not has_result else None


def _tool_call(name: str, answer_id: str, streamed: bool) -> bytes:
    """A whole answer, or a whole stream, that calls a tool."""
    function = {"name": name, "arguments": SEARCH_ARGUMENTS if "search" in name else mock_mcp.ARGUMENTS}
    call = {"index": 0, "id": f"call_{answer_id[-8:]}", "type": "function", "function": function}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    head = {"id": answer_id, "created": _CREATED, "model": TOOL_MODEL}
    if not streamed:
        choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": "tool_calls"}
        body = {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(9)}
        return http_response(orjson.dumps(body))
    chunk = {**head, "object": "chat.completion.chunk"}
    frames = [
        {**chunk, "choices": [{"index": 0, "delta": said, "finish_reason": None}]},
        {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], "usage": _usage(9)},
    ]
    return _STREAM_HEAD + b"".join(map(_server_sent, frames)) + _STREAM_END


class UpstreamProtocol(asyncio.Protocol):
    """One keep-alive connection of a caller. httptools calls the `on_...` methods."""

    transport: asyncio.Transport

    def __init__(self, answers: Answers, ids: "itertools.count[int]") -> None:
        self._answers = answers
        self._ids = ids
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._body: list[bytes] = []
        self._stream: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by duty, not by class

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stream is not None:
            self._stream.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_message_begin(self) -> None:
        self._path, self._body = b"", []

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        method, path = self._parser.get_method(), self._path.partition(b"?")[0]
        match method, path:
            case b"GET", b"/v1/models":
                self.transport.write(self._answers.models)
            case b"POST", b"/v1/chat/completions":
                self._chat(orjson.loads(b"".join(self._body)))
            case b"POST", b"/mcp":
                self.transport.write(mock_mcp.answer(b"".join(self._body)))
            case b"POST", b"/v1/embeddings":
                self.transport.write(self._answers.embeddings(orjson.loads(b"".join(self._body))))
            case _:
                self.transport.write(_error("404 Not Found", f"no route {method.decode()} {path.decode()}"))

    def _chat(self, request: dict[str, Any]) -> None:
        model = request["model"].rpartition("/")[2]
        whole = self._answers.chat.get(model)
        answer_id = b"chatcmpl-%08d" % next(self._ids)
        if model == TOOL_MODEL and (call := _wanted_call(request)) is not None:
            self.transport.write(_tool_call(call, answer_id.decode(), bool(request.get("stream"))))
        elif whole is None:
            self.transport.write(_error("404 Not Found", f"no chat model {model}"))
        elif not request.get("stream"):
            self.transport.write(whole.replace(_ID_PLACE, answer_id))
        else:
            with_usage = bool((request.get("stream_options") or {}).get("include_usage"))
            frames = self._answers.streams[model, with_usage]
            pace_s = PACE_S if model == PACED_MODEL else 0.0
            self._stream = asyncio.ensure_future(self._send_stream(frames, answer_id, pace_s))

    async def _send_stream(self, frames: list[bytes], answer_id: bytes, pace_s: float) -> None:
        """Send each frame in a write of its own. Without a pace the loop still turns once per frame, as it would
        between the tokens of a model."""
        write = self.transport.write
        write(_STREAM_HEAD)
        start = time.perf_counter()
        for number, frame in enumerate(frames):
            write(frame.replace(_ID_PLACE, answer_id))
            due = start + number * pace_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()) if pace_s else 0)
        write(_STREAM_END)
        self._stream = None


async def serve(host: str, port: int) -> asyncio.Server:
    """A listening upstream; the caller closes it. Port 0 takes a free one."""
    answers, ids = Answers(), itertools.count(1)
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: UpstreamProtocol(answers, ids), host, port, backlog=1024)


async def _main(host: str, port: int) -> None:
    server = await serve(host, port)
    print(f"mock upstream on http://{host}:{port}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A deterministic OpenAI-compatible upstream.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9900)
    arguments = parser.parse_args()
    uvloop.run(_main(arguments.host, arguments.port))
