"""Three agents: a desk hands the conversation over to the one for bills, who has a third as a calculator.
After a hand-off the other agent answers, over the same history; an agent as a tool answers the agent that called it.
It wants a model that can choose; your_model.yaml says which.

    python examples/multi_agent.py "Customer 7 asks: how much do I owe you?"
"""

import asyncio
import sys
from pathlib import Path

from llama_stack import Agent, LlamaStack
from llama_stack.api.agents import ToolCallFinished, ToolCallStarted, TurnCompleted
from llama_stack.api.messages import text_of

OPEN_BILLS = {"7": [19.5, 42.25], "8": []}


def open_bills(customer: str) -> list[float]:
    """List the open bills of a customer, in euros.

    Args:
        customer: The customer's number
    """
    if customer not in OPEN_BILLS:
        raise ValueError(f"no customer {customer}; there are {', '.join(OPEN_BILLS)}")
    return OPEN_BILLS[customer]


def add(numbers: list[float]) -> float:
    """Add numbers.

    Args:
        numbers: The numbers
    """
    return sum(numbers)


async def main(question: str) -> None:
    async with LlamaStack.open(str(Path(__file__).parent / "your_model.yaml")) as stack:
        calculator = Agent(stack, name="calculator", description="Works out sums.", tools=[add])
        billing = Agent(
            stack,
            name="billing",
            description="Knows the customers' bills.",
            instructions="Answer questions about bills. Leave sums to the calculator.",
            tools=[open_bills, calculator.as_tool()],
        )
        desk = Agent(stack, name="desk", instructions="Greet, and hand over to who knows.", handoffs=[billing])
        async for event in desk.stream(question):
            match event:
                case ToolCallStarted(tool_call=call):
                    print(f"call    {call.name}({call.arguments})")
                case ToolCallFinished(result=result):
                    print(f"result  {text_of(result.content)}")
                case TurnCompleted(turn=turn) if turn.output is not None:
                    print(f"answer  {text_of(turn.output.content)}")


asyncio.run(main(" ".join(sys.argv[1:]) or "Customer 7 asks: how much do I owe you?"))
