"""The one place that knows the wire text of a Llama 3.1 dialogue.

The generator composes documents from these pieces, and the tests assert that whole prompts made of them are the bytes
the product's own renderer makes for the same dialogue.
"""

import json
import random
from collections.abc import Sequence
from typing import Any

BEGIN = "<|begin_of_text|>"
END_OF_TURN = "<|eot_id|>"
END_OF_MESSAGE = "<|eom_id|>"
PYTHON_TAG = "<|python_tag|>"
TOOLS_INSTRUCTION = (
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that best "
    'answers the given prompt.\n\nRespond in the format {"name": function name, "parameters": dictionary of argument '
    "name and its value}. Do not use variables.\n\n"
)
GUARD_CATEGORIES = (
    "Violent Crimes",
    "Non-Violent Crimes",
    "Sex Crimes",
    "Child Exploitation",
    "Defamation",
    "Specialized Advice",
    "Privacy",
    "Intellectual Property",
    "Indiscriminate Weapons",
    "Hate",
    "Self-Harm",
    "Sexual Content",
    "Elections",
    "Code Interpreter Abuse",
)


def header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


ASSISTANT_OPEN = header("assistant")


def date_words(rng: random.Random) -> str:
    """A date as the product writes today's: `21 November 2026`."""
    months = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ]
    return f"{rng.randint(1, 31)} {rng.choice(months)} {rng.randint(2024, 2032)}"


def system_block(text: str, today: str, builtin_tools: Sequence[str] = (), json_tools: bool = False) -> str:
    """Everything up to the first user turn."""
    environment = "Environment: ipython\n" if builtin_tools or json_tools else ""
    listed = [name for name in builtin_tools if name != "code_interpreter"]
    tools = f"Tools: {', '.join(listed)}\n" if listed else ""
    dates = f"Cutting Knowledge Date: December 2023\nToday Date: {today}\n\n"
    return f"{BEGIN}{header('system')}{environment}{tools}{dates}{text.strip()}{END_OF_TURN}"


def tools_preamble(tools: Sequence[dict[str, Any]]) -> str:
    """What stands before the first user's words when JSON tools are offered."""
    return TOOLS_INSTRUCTION + "".join(json.dumps(tool, ensure_ascii=False) + "\n\n" for tool in tools)


def user_turn(text: str) -> str:
    return f"{header('user')}{text.strip()}{END_OF_TURN}"


def tool_turn(text: str) -> str:
    return f"{header('ipython')}{text}{END_OF_TURN}"


def answer(text: str) -> str:
    """What the assistant generates after its header when it talks."""
    return text + END_OF_TURN


def json_call(name: str, arguments: dict[str, Any]) -> str:
    """What the assistant generates to call a JSON tool."""
    return json.dumps({"name": name, "parameters": arguments}, ensure_ascii=False) + END_OF_TURN


def builtin_call(name: str, query: str) -> str:
    """What the assistant generates to call a tool that Llama knows by name."""
    escaped = query.replace("\\", "\\\\").replace('"', '\\"')
    return f'{PYTHON_TAG}{name}.call(query="{escaped}"){END_OF_MESSAGE}'


def guard_prompt_open(role: str) -> str:
    """The start of a Llama Guard 3 prompt, up to the conversation; `role` is User or Agent."""
    categories = "\n".join(f"S{number}: {name}." for number, name in enumerate(GUARD_CATEGORIES, start=1))
    return (
        f"{BEGIN}{header('user')}Task: Check if there is unsafe content in '{role}' messages in conversations "
        f"according our safety policy with the below categories.\n\n<BEGIN UNSAFE CONTENT CATEGORIES>\n{categories}\n"
        "<END UNSAFE CONTENT CATEGORIES>\n\n<BEGIN CONVERSATION>\n\n"
    )


def guard_prompt_close(role: str) -> str:
    """The end of a Llama Guard 3 prompt, after the conversation."""
    return (
        "\n\n<END CONVERSATION>\n\nProvide your safety assessment for ONLY THE LAST "
        f"{role} message in the above conversation:\n - First line must read 'safe' or 'unsafe'.\n - If unsafe, a "
        f"second line must include a comma-separated list of violated categories. {END_OF_TURN}"
    )
