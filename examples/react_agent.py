"""ReAct by hand: the model thinks and acts in turns, in a form held to a JSON Schema, and reads what came of it.
The stack's own agents call tools natively; this loop shows what such an agent does, and serves models that cannot.
It wants a model that can reason; your_model.yaml says which.

    python examples/react_agent.py "Which is older, the Eiffel Tower or the Brooklyn Bridge, and by how many years?"

ReAct: Yao et al., "Synergizing Reasoning and Acting in Language Models", ICLR 2023.
"""

import asyncio
import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from llama_stack import AssistantMessage, LlamaStack, UserMessage

BUILT = {"eiffel tower": 1889, "brooklyn bridge": 1883, "big ben": 1859, "golden gate bridge": 1937}
MOST_STEPS = 8
INSTRUCTIONS = """Answer the question in steps. In each step write a thought and one action:
look_up: the input is the name of a building; you get the year it was finished
subtract: the input is two numbers, such as 7 3; you get the first minus the second
finish: the input is your answer, a whole sentence"""


class Step(BaseModel):
    thought: str
    action: Literal["look_up", "subtract", "finish"]
    input: str


EXAMPLE = Step(thought="I know one year and need the other.", action="look_up", input="brooklyn bridge")


def act(step: Step) -> str:
    if step.action == "look_up":
        return str(BUILT.get(step.input.lower(), f"unknown; there are {', '.join(BUILT)}"))
    try:
        first, second = (int(number) for number in step.input.replace(",", " ").split())
    except ValueError:
        return "the input must be two numbers"
    return str(first - second)


async def main(question: str) -> None:
    async with LlamaStack.open(str(Path(__file__).parent / "your_model.yaml")) as stack:
        said: list[UserMessage | AssistantMessage] = [UserMessage(content=question)]
        for _ in range(MOST_STEPS):
            answer = await stack.chat(said, instructions=INSTRUCTIONS, response_format=Step, temperature=0)
            said.append(AssistantMessage(content=answer.text))
            try:
                step = Step.model_validate_json(answer.text)
            except ValidationError:  # not every server holds its model to the form
                print(f"no step  {answer.text}")
                said.append(UserMessage(content=f"Write one step, as JSON like this: {EXAMPLE.model_dump_json()}"))
                continue
            print(f"thought  {step.thought}\n{step.action:8} {step.input}")
            if step.action == "finish":
                return
            observation = act(step)
            print(f"observed {observation}")
            said.append(UserMessage(content=f"Observation: {observation}"))
        print(f"no answer after {MOST_STEPS} steps")


asyncio.run(main(" ".join(sys.argv[1:]) or "Which is older, the Eiffel Tower or the Brooklyn Bridge, and by how much?"))
