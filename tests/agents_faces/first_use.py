"""A fresh process that serves a stack and uses each heavy part for the first time; prints the modules that its event
loop's own thread imported meanwhile, as a JSON object by part.

An import holds the loop up for as long as it lasts. Modules are counted instead of time: their number is the same on
every machine, and under any load.
"""

import asyncio
import json
import sys
import threading
from importlib.abc import MetaPathFinder
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


class ImportsOfTheLoop(MetaPathFinder):
    """Writes down each module that the event loop's own thread sets out to import; finds none itself."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._loop_thread = threading.get_ident()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if threading.get_ident() == self._loop_thread:
            self.names.append(name)


async def main(home: Path, mcp_url: str) -> dict[str, list[str]]:
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
    on_the_loop = ImportsOfTheLoop()
    imported: dict[str, list[str]] = {}
    async with (
        open_scripted_stack(inference=ScriptedInference(says("safe")), home=home, providers=PROVIDERS) as stack,
        serving(create_app(cast(ServedStack, stack))) as url,
        httpx.AsyncClient(base_url=url, verify=False, timeout=60) as http,
    ):
        await http.get("/v1/health")
        sys.meta_path.insert(0, on_the_loop)
        headers = {"accept": "application/json, text/event-stream"}
        for part, (method, path, body) in uses.items():
            on_the_loop.names = []
            answer = await http.request(method, path, json=body, headers=headers)
            if answer.status_code >= 300:
                raise SystemExit(f"{part}: {answer.status_code} {answer.text}")
            imported[part] = on_the_loop.names
    return imported


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))))
