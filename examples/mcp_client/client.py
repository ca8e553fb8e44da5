"""An agent with the tools of an MCP server: weather_server.py, which the stack starts, lists, calls and ends.
A server on the network is a URL in stack.yaml in place of the command. Needs `pip install 'llama-stack[mcp]'`.

    python examples/mcp_client/client.py "What is the weather in Lisbon?"
"""

import os
import sys
from pathlib import Path

from llama_stack import LlamaStack, SyncAgent

HERE = Path(__file__).parent
question = " ".join(sys.argv[1:]) or "What is the weather in Lisbon?"
environment = {**os.environ, "PYTHON": sys.executable, "EXAMPLE_FOLDER": str(HERE)}

with LlamaStack.open(str(HERE / "stack.yaml"), env=environment) as stack:
    result = SyncAgent(stack, tool_groups=["mcp::weather"]).run(question)
    for step in result.steps:
        if step.type == "tool_execution":
            for call, answer in zip(step.tool_calls, step.results, strict=True):
                print(f"{call.name}({call.arguments}) -> {answer.content}")
    print(result.text)
