"""An MCP server with one tool that costs next to nothing: `get_weather(city)`.

Streamable HTTP without a session, one JSON answer to each request (Model Context Protocol 2025-06-18, "Transports").
A client that asks for newer ways to begin is told that there is no such method, and begins as of old.
"""

from typing import Any

import orjson

ARGUMENTS = '{"city":"Oslo"}'
RESULT = "Oslo: 4 degrees, light rain"
PROTOCOL_VERSION = "2025-06-18"
_METHOD_NOT_FOUND = -32601

_TOOL = {
    "name": "get_weather",
    "description": "The weather in a city",
    "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
_RESULTS: dict[str, dict[str, Any]] = {
    "initialize": {
        "protocolVersion": PROTOCOL_VERSION,
        "capabilities": {"tools": {"listChanged": False}},
        "serverInfo": {"name": "mock-mcp", "version": "1"},
    },
    "ping": {},
    "tools/list": {"tools": [_TOOL]},
    "tools/call": {"content": [{"type": "text", "text": RESULT}], "isError": False},
}


def answer(body: bytes) -> bytes:
    """The whole HTTP response to one POST."""
    message = orjson.loads(body)
    if "id" not in message:
        return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
    said: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
    result = _RESULTS.get(message["method"])
    if result is None:
        said["error"] = {"code": _METHOD_NOT_FOUND, "message": f"no method {message['method']}"}
    else:
        said["result"] = result
    payload = orjson.dumps(said)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n"
    return head.encode() + payload
