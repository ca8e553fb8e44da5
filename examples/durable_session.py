"""A shopping list that survives: the session, with what its tools keep, is stored step by step under its name.
Run it again, after a restart or a crash, and the conversation goes on where it stopped.

    python examples/durable_session.py "Add milk to the shopping list"
    python examples/durable_session.py "Add bread to the shopping list"
"""

import sys

from llama_stack import LlamaStack, SyncAgent, ToolContext
from llama_stack.api.messages import text_of


def add_item(item: str, context: ToolContext) -> str:
    """Add an item to the shopping list.

    Args:
        item: The item
    """
    items = context.state.setdefault("items", [])
    items.append(item)
    return f"The shopping list is now {', '.join(items)}."


question = " ".join(sys.argv[1:]) or "Add milk to the shopping list"
with LlamaStack.open("starter") as stack:
    agent = SyncAgent(stack, name="shopper", tools=[add_item])
    session = agent.open_session("groceries")
    for turn in session.turns:
        answer = text_of(turn.output.content) if turn.output else f"({turn.end_reason})"
        print(f"before  {text_of(turn.input[0].content)}  ->  {answer}")
    print(f"you     {question}")
    print(f"agent   {session.run(question).text}")
