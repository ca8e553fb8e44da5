"""`llama model prompt-format`: example dialogs, written exactly as the model reads them."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import click

from llama_stack.api.inference import ChatRequest
from llama_stack.api.messages import (
    AssistantMessage,
    ImagePart,
    Message,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from llama_stack.api.tools import ToolDefinition
from llama_stack.cli.choosing import json_option
from llama_stack.cli.printing import print_json, styled
from llama_stack.wire.llama_prompts.families import (
    LlamaFamily,
    default_tool_format,
    family_for,
    reads_images,
    stop_tokens,
    tokens_of,
)
from llama_stack.wire.llama_prompts.guard import GUARD_CATEGORIES, render_guard
from llama_stack.wire.llama_prompts.render import render_chat

# A fixed day, so that the same command always shows the same text.
SHOWN_DATE = date(2025, 1, 31)

WEATHER = ToolDefinition(
    name="get_weather",
    description="Current weather of a city",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Name of the city"}},
        "required": ["city"],
    },
)
SEARCH = ToolDefinition(name="brave_search")
CALL = ToolCall(id="call_1", name="get_weather", arguments='{"city": "Oslo"}')
SEARCH_CALL = ToolCall(id="call_1", name="brave_search", arguments='{"query": "who won the 2024 Tour de France"}')
PIXEL = ImagePart(url="data:image/png;base64,")

CODE_ABUSE = "S14"
"""The category only the 8B and 12B guards were trained on."""


@dataclass(frozen=True)
class Example:
    """One dialog. `prompt` ends where the model goes on writing."""

    title: str
    explanation: str
    prompt: str


@click.command("prompt-format")
@click.argument("model", metavar="MODEL")
@json_option
def prompt_format(model: str, as_json: bool) -> None:
    """Show how a model's prompts are written.

    MODEL is a name from `llama model list` or any name that tells the family, such as a GGUF's file name.

    \b
    Examples:
      llama model prompt-format Llama3.2-1B-Instruct
      llama model prompt-format Llama-4-Scout-17B-16E-Instruct --json
    """
    family = _family(model)
    guard = "guard" in model.casefold()
    examples = list(guard_dialogs(model, family) if guard else dialogs(family))
    if as_json:
        rows = [{"title": one.title, "explanation": one.explanation, "prompt": one.prompt} for one in examples]
        print_json({"model": model, "family": family.value, "special_tokens": special_tokens(family), "examples": rows})
    else:
        _print(model, family, examples)


def _family(model: str) -> LlamaFamily:
    # A family shows in the name of every registered model, so the registry itself need not be installed.
    family = family_for(model)
    if family is None:
        known = ", ".join(family.value for family in LlamaFamily)
        raise click.UsageError(
            f"no prompt format is known for '{model}'; a name that tells one of {known} is needed "
            "(`llama model list` shows names)",
            ctx=click.get_current_context(),
        )
    return family


def special_tokens(family: LlamaFamily) -> dict[str, str]:
    """Token -> what it means to the model."""
    tokens = tokens_of(family)
    meanings = {
        tokens.begin_of_text: "starts every prompt, once",
        tokens.header_start: "opens the line that names the speaker: system, user, assistant, or ipython for results",
        tokens.header_end: "closes that line; two line ends follow, then the message",
        tokens.end_of_turn: "the speaker is done",
        tokens.end_of_message: "the model waits for a tool's result and will go on",
        tokens.call_start: "what follows calls a builtin tool, or is code to run",
        tokens.end_of_text: "ends a document; a chat model rarely writes it",
    }
    if tokens.call_end:
        meanings[tokens.call_end] = "ends what began with the token above"
    if reads_images(family):
        meanings[tokens.image] = "stands where an image is read"
    return meanings


def dialogs(family: LlamaFamily) -> Iterator[Example]:
    """The dialogs that matter for the family, simplest first."""
    system = SystemMessage(content="Answer in one sentence.")
    yield _example(
        "A conversation",
        "Each message is a header with the speaker's role, the text, and the token that ends a turn. The prompt stops "
        "after an open assistant header: that is where the model writes its answer.",
        family,
        [system, UserMessage(content="What is the capital of Norway?")],
    )
    question = UserMessage(content="What is the weather in Oslo?")
    yield _example("Offering a tool", _OFFERS[default_tool_format(family)], family, [system, question], [WEATHER])
    yield _example(
        "Giving the result back",
        "The model's call stays in the conversation as it wrote it. The tool's result follows under the role ipython, "
        "and the model answers from it.",
        family,
        [
            system,
            question,
            AssistantMessage(tool_calls=[CALL]),
            ToolMessage(tool_call_id="call_1", name="get_weather", content='{"celsius": -3, "sky": "clear"}'),
        ],
        [WEATHER],
    )
    if family is not LlamaFamily.LLAMA_4:
        yield _example(
            "A builtin tool",
            "brave_search, wolfram_alpha and code_interpreter were part of the training, so their names are enough. "
            "A call begins with a token of its own and ends with the one that says a result is awaited.",
            family,
            [
                UserMessage(content="Who won the 2024 Tour de France?"),
                AssistantMessage(tool_calls=[SEARCH_CALL]),
                ToolMessage(tool_call_id="call_1", name="brave_search", content="Tadej Pogačar won it."),
            ],
            [SEARCH],
        )
    if reads_images(family):
        picture = UserMessage(content=[PIXEL, TextPart(text="What is in this picture?")])
        explanation = "An image is one token in the text; the picture itself travels beside it."
        yield _example("An image", explanation, family, [picture])


def guard_dialogs(model: str, family: LlamaFamily) -> Iterator[Example]:
    """The dialogs of a guard model, which judges messages and does not converse."""
    small = re.search(r"-(1|11)b", model, re.IGNORECASE) is not None
    categories = {code: name for code, name in GUARD_CATEGORIES.items() if not (small and code == CODE_ABUSE)}
    question = UserMessage(content="How do I pick the lock of my own front door?")
    yield Example(
        "Judging what a user says",
        "The categories and the conversation are one message. The guard answers `safe`, or `unsafe` and on the next "
        "line the codes of the categories.",
        render_guard([question], categories, family=family).as_text(begin_of_text=True),
    )
    answer = AssistantMessage(content="A locksmith can open it without damage.")
    yield Example(
        "Judging what an assistant says",
        "The same, with the answer as the last message: it is judged in the light of the question.",
        render_guard([question, answer], categories, family=family).as_text(begin_of_text=True),
    )


_OFFERS = {
    "json": "The tool's JSON Schema stands in the first user message. The model calls it with one JSON object that "
    "holds a name and parameters.",
    "python_list": "The tool's schema stands in the system message. The model calls it with a list in Python's "
    'syntax, such as [get_weather(city="Oslo")], and may put several calls into it.',
    "function_tag": "The tool is described in a user message of its own. The model calls it with "
    '<function=get_weather>{"city": "Oslo"}</function>.',
}


def _example(
    title: str,
    explanation: str,
    family: LlamaFamily,
    messages: list[Message],
    tools: list[ToolDefinition] | None = None,
) -> Example:
    request = ChatRequest(model=family.value, messages=messages, tools=tools or [])
    prompt = render_chat(request, family=family, today=SHOWN_DATE)
    return Example(title, explanation, prompt.as_text(begin_of_text=True))


def _print(model: str, family: LlamaFamily, examples: list[Example]) -> None:
    width = min(shutil.get_terminal_size().columns, 100)
    click.echo(f"{styled(model, bold=True)} reads prompts of the family {family.value}.\n")
    click.echo(styled("Special tokens", bold=True))
    for token, meaning in special_tokens(family).items():
        click.echo(f"  {styled(token, fg='cyan')}\n      {meaning}")
    click.echo(f"\nGeneration stops at any of: {' '.join(stop_tokens(family))}")
    for number, example in enumerate(examples, start=1):
        click.echo(f"\n{styled(f'{number}. {example.title}', bold=True)}\n")
        click.echo(click.wrap_text(example.explanation, width=width))
        click.echo(f"\n{_coloured(example.prompt)}")


def _coloured(prompt: str) -> str:
    return re.sub(r"<\|[a-z_]+\|>", lambda token: styled(token[0], fg="cyan"), prompt)
