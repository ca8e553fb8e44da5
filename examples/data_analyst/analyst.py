"""An agent that answers questions about a CSV file by writing Python, run in a sandbox; its plots are saved here.
It wants a model that can write Python (stack.yaml says which), and pandas and matplotlib for the sandbox.

    python examples/data_analyst/analyst.py examples/data_analyst/sales.csv "Which region grew most? Draw it."
"""

import asyncio
import base64
import json
import sys
from pathlib import Path

from llama_stack import Agent, LlamaStack
from llama_stack.api.agents import AgentEvent, ToolCallFinished, ToolCallStarted, ToolGroupUse, TurnCompleted
from llama_stack.api.messages import text_of

HERE = Path(__file__).parent


def show(event: AgentEvent) -> None:
    match event:
        case ToolCallStarted(tool_call=call):
            print(f"--- Python\n{code_in(call.arguments)}")
        case ToolCallFinished(result=result, metadata=metadata):
            print(f"--- gave\n{text_of(result.content)}")
            for figure in metadata.get("figures", []):
                number = len(list(Path.cwd().glob("figure-*.png"))) + 1
                file = Path.cwd() / f"figure-{number}.png"
                file.write_bytes(base64.b64decode(figure["url"].partition(",")[2]))
                print(f"--- saved {file}")
        case TurnCompleted(turn=turn) if turn.output is not None:
            print(f"--- answer\n{text_of(turn.output.content)}")


def code_in(arguments: str) -> str:
    """The code of a call, as a person reads it; a model may also have written something else."""
    try:
        return str(json.loads(arguments)["code"])
    except (ValueError, LookupError, TypeError):
        return arguments


async def main(name: str, text: str, question: str) -> None:
    beginning = "\n".join(text.splitlines()[:4])
    async with LlamaStack.open(str(HERE / "stack.yaml")) as stack:
        agent = Agent(
            stack,
            instructions=f"Answer by running Python. pandas can read the file {name}, which begins:\n{beginning}",
            # Added to every call, beside the code that the model writes.
            tool_groups=[ToolGroupUse(identifier="builtin::code_interpreter", args={"files": {name: text}})],
        )
        async for event in agent.stream(question):
            show(event)


table = Path(sys.argv[1]) if sys.argv[1:] else HERE / "sales.csv"
question = " ".join(sys.argv[2:]) or "Which region grew most? Draw the revenue of each."
asyncio.run(main(table.name, table.read_text(encoding="utf-8"), question))
