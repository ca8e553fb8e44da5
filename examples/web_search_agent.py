"""An agent that searches the web before it answers, and says where its answer comes from.
It wants a model that can read pages (your_model.yaml says which) and BRAVE_SEARCH_API_KEY.

    python examples/web_search_agent.py "Who won the last Tour de France?"
"""

import asyncio
import sys
from pathlib import Path

from llama_stack import Agent, LlamaStack

INSTRUCTIONS = "Search the web before you answer. Answer in two sentences, from what you found only."


async def main(question: str) -> None:
    async with LlamaStack.open(str(Path(__file__).parent / "your_model.yaml")) as stack:
        agent = Agent(stack, instructions=INSTRUCTIONS, tool_groups=["builtin::websearch"])
        result = await agent.run(question)
        for step in result.steps:
            if step.type == "tool_execution":
                for call, found in zip(step.tool_calls, step.results, strict=True):
                    print(f"searched  {call.arguments}")
                    if call.id in step.failed:
                        print(f"failed    {found.content}")
                    for source in step.metadata.get(call.id, {}).get("sources", []):
                        print(f"source    {source['title']}  {source['url']}")
        print(result.text)


asyncio.run(main(" ".join(sys.argv[1:]) or "Who won the last Tour de France?"))
