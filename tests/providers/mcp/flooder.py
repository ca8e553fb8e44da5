"""A program that speaks MCP over stdio, line by line, and then sends more than anybody wants.

Arguments: what it does wrong, and a file in which it counts the bytes that got out.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

PIECE = b"x" * 65_536
ADD = {"name": "add", "inputSchema": {"type": "object"}}


def send(message: dict[str, Any]) -> None:
    os.write(1, json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def flood(descriptor: int, count_in: str, piece: bytes = PIECE) -> None:
    """Write for ever; ends with the reader."""
    sent = 0
    while True:
        sent += os.write(descriptor, piece)
        begun = Path(f"{count_in}.new")
        begun.write_text(str(sent), encoding="ascii")
        begun.rename(count_in)


def tools(fault: str, cursor: str | None) -> dict[str, Any]:
    page = int(cursor or 0)
    match fault:
        case "pages without end":
            return {"tools": [], "nextCursor": str(page + 1)}
        case "the same cursor":
            return {"tools": [{**ADD, "name": f"add{page}"}], "nextCursor": "1"}
        case "many tools":
            found = [{**ADD, "name": f"add{page}-{number}"} for number in range(20)]
            return {"tools": found, "nextCursor": str(page + 1)}
        case "a long schema":
            properties = {f"number{number}": {"type": "number"} for number in range(2000)}
            return {"tools": [ADD, {"name": "long", "inputSchema": {"type": "object", "properties": properties}}]}
        case _:
            return {"tools": [ADD]}


def called(fault: str, count_in: str, request: dict[str, Any]) -> dict[str, Any]:
    behaves = request["params"].get("arguments", {}).get("behave", False)
    match fault:
        case "half an emoji":
            return {"content": [{"type": "text", "text": "cut \ud83d"}]}
        case "a line without end" if not behaves:
            flood(1, count_in)
        case "a long line" if not behaves:
            return {"content": [{"type": "text", "text": "x" * 40_000}]}
        case "notifications without end" if not behaves:
            progress = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}
            flood(1, count_in, json.dumps(progress).encode() + b"\n")
        case "stderr without end":
            if os.fork() == 0:
                os.close(0)
                os.close(1)
                flood(2, count_in)
    return {"content": [{"type": "text", "text": str(os.getpid())}]}


def main(fault: str, count_in: str) -> None:
    if fault == "a greeting without end":
        flood(1, count_in)
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        match request["method"]:
            case "initialize":
                capabilities: dict[str, Any] = {"tools": {}}
                about = {"name": "flooder", "version": "1"}
                version = request["params"]["protocolVersion"]
                result = {"protocolVersion": version, "capabilities": capabilities, "serverInfo": about}
            case "tools/list":
                result = tools(fault, request.get("params", {}).get("cursor"))
            case "tools/call":
                result = called(fault, count_in, request)
            case other:
                send({"id": request["id"], "error": {"code": -32601, "message": f"no {other} here"}})
                continue
        send({"id": request["id"], "result": result})


if __name__ == "__main__":
    main(*sys.argv[1:])
