"""A fresh process that serves a stack and uses each heavy part for the first time; prints how long its event loop
stood still meanwhile, in milliseconds of its own CPU time, as a JSON object by part.

CPU time of the loop's thread between two turns of the loop, not wall time: what other processes of the machine do is
not the loop's fault, and an import is work.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx

from llama_stack.api.stack import ServedStack
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import ScriptedInference, says
from llama_stack.testing.scripted_stack import open_scripted_stack

PROVIDERS: dict[str, list[dict[str, Any]]] = {
    "tools": [
        {"provider_id": "mcp", "provider_type": "remote::mcp", "config": {"allow_private_addresses": True}},
        {
            "provider_id": "code",
            "provider_type": "inline::code-interpreter",
            "config": {"driver": "unsafe_subprocess", "i_accept_no_isolation": True},
            "tool_groups": [{"identifier": "builtin::code_interpreter"}],
        },
    ],
    "safety": [
        {
            "provider_id": "guard",
            "provider_type": "inline::llama-guard",
            "shields": [{"identifier": "guard", "provider_resource_id": "scripted"}],
        }
    ],
}


class Stall:
    """Turns the loop round and round, and keeps the most CPU time that one turn took."""

    def __init__(self) -> None:
        self.worst_ms = 0.0

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        self.worst_ms = 0.0
        turning = asyncio.create_task(self._turn())
        try:
            yield
        finally:
            turning.cancel()

    async def _turn(self) -> None:
        before = time.thread_time()
        while True:
            # Not 0: the loop's own polling is then asleep as in a server that waits.
            await asyncio.sleep(0.001)
            now = time.thread_time()
            self.worst_ms = max(self.worst_ms, (now - before) * 1000)
            before = now


async def main(home: Path, mcp_url: str) -> dict[str, float]:
    user = {"role": "user", "content": "hello"}
    uses: dict[str, tuple[str, str, Any]] = {
        "agents": ("GET", "/v1/agents", None),
        "tool groups": ("GET", "/v1/toolgroups", None),
        "responses": ("GET", "/v1/responses", None),
        "conversations": ("POST", "/v1/conversations", {}),
        "stored completions": ("GET", "/v1/chat/completions", None),
        "mcp": ("GET", f"/v1/tool-runtime/list-tools?mcp_endpoint[uri]={mcp_url}", None),
        "the MCP face": ("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "ping"}),
        "code interpreter": (
            "POST", "/v1/tool-runtime/invoke", {"tool_name": "code_interpreter", "kwargs": {"code": "print(1)"}},
        ),
        "llama-guard": ("POST", "/v1/safety/run-shield", {"shield_id": "guard", "messages": [user], "params": {}}),
        "moderations": ("POST", "/v1/moderations", {"model": "guard", "input": "hello"}),
        "anthropic": (
            "POST", "/v1/messages", {"model": "scripted", "max_tokens": 9, "messages": [user]},
        ),
        "a response": ("POST", "/v1/responses", {"model": "scripted", "input": "hello"}),
    }  # fmt: skip
    stalls: dict[str, float] = {}
    stall = Stall()
    async with (
        open_scripted_stack(inference=ScriptedInference(says("safe")), home=home, providers=PROVIDERS) as stack,
        serving(create_app(cast(ServedStack, stack))) as url,
        httpx.AsyncClient(base_url=url, verify=False, timeout=60) as http,
    ):
        await http.get("/v1/health")
        headers = {"accept": "application/json, text/event-stream"}
        for part, (method, path, body) in uses.items():
            async with stall.measured():
                answer = await http.request(method, path, json=body, headers=headers)
            if answer.status_code >= 300:
                raise SystemExit(f"{part}: {answer.status_code} {answer.text}")
            stalls[part] = round(stall.worst_ms, 1)
    return stalls


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))))
