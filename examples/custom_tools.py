"""An agent with Python functions as its tools; name, description and parameters are read from the functions."""

import asyncio
from datetime import date
from typing import Literal

from llama_stack import Agent, LlamaStack


def convert_temperature(value: float, unit: Literal["celsius", "fahrenheit"]) -> str:
    """Convert a temperature to another unit.

    Args:
        value: Value to convert
        unit: Target unit
    """
    converted = (value - 32) / 1.8 if unit == "celsius" else value * 1.8 + 32
    return f"{converted:.4g} degrees {unit.capitalize()}"


async def days_until(day: str) -> str:
    """Count the days until a date.

    Args:
        day: The date, as YYYY-MM-DD
    """
    return f"{(date.fromisoformat(day) - date.today()).days} days"


async def main() -> None:
    async with LlamaStack.open("starter") as stack:
        agent = Agent(stack, tools=[convert_temperature, days_until])
        result = await agent.run("convert 100 degrees to fahrenheit")
        for step in result.steps:
            if step.type == "tool_execution":
                for call, answer in zip(step.tool_calls, step.results, strict=True):
                    print(f"{call.name}({call.arguments}) -> {answer.content}")
        print(result.text)


asyncio.run(main())
