"""The training data: its wire text is the product's, it depends on the seed alone, and held-out words stay out."""

import json
import random
from datetime import date
from typing import Any

import pytest

from llama_stack.api.inference import ChatRequest
from llama_stack.api.messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, UserMessage
from llama_stack.api.tools import ToolDefinition
from llama_stack.wire.llama_prompts.families import LlamaFamily
from llama_stack.wire.llama_prompts.guard import render_guard
from llama_stack.wire.llama_prompts.render import render_chat
from tools.micro_model import prompts
from tools.micro_model.dialogues import SHARES, Difficulty, draw_tree
from tools.micro_model.families import alphabetical, draw_tool, load_families
from tools.micro_model.vocabulary import Words, is_held_out, word_lists

TODAY = date(2026, 11, 21)
TODAY_WORDS = "21 November 2026"


def rendered(messages: list[Message], tools: list[ToolDefinition]) -> str:
    request = ChatRequest(model="llama-micro", messages=messages, tools=tools)
    return render_chat(request, family=LlamaFamily.LLAMA_3_1, today=TODAY).as_text(begin_of_text=True)


def drawn_tools(seed: int, count: int) -> list[dict[str, Any]]:
    words = Words(random.Random(seed))
    definitions = [
        draw_tool(family, words).definition() for family in random.Random(seed).sample(load_families(), count)
    ]
    return [alphabetical(definition) for definition in definitions] if seed % 2 else definitions


@pytest.mark.parametrize("seed", range(20))
def test_a_dialogue_with_json_tools_is_the_bytes_the_product_renders(seed: int) -> None:
    definitions = drawn_tools(seed, 1 + seed % 5)
    functions = [definition["function"] for definition in definitions]
    offered = [
        ToolDefinition(name=f["name"], description=f.get("description"), parameters=f["parameters"]) for f in functions
    ]
    arguments = {"city": "Zürich", "days": 3, "quote": 'say "hi"'}
    call = ToolCall(id="1", name=functions[0]["name"], arguments=json.dumps(arguments, ensure_ascii=False))
    messages: list[Message] = [
        SystemMessage(content="Be brief."),
        UserMessage(content="Is it warm in Zürich?"),
        AssistantMessage(content="", tool_calls=[call]),
        ToolMessage(tool_call_id="1", content="21 degrees"),
        AssistantMessage(content="The result is 21 degrees."),
        UserMessage(content="thanks"),
    ]

    ours = (
        prompts.system_block("Be brief.", TODAY_WORDS, json_tools=True)
        + prompts.user_turn(prompts.tools_preamble(definitions) + "Is it warm in Zürich?")
        + prompts.ASSISTANT_OPEN
        + prompts.json_call(functions[0]["name"], arguments)
        + prompts.tool_turn("21 degrees")
        + prompts.ASSISTANT_OPEN
        + prompts.answer("The result is 21 degrees.")
        + prompts.user_turn("thanks")
        + prompts.ASSISTANT_OPEN
    )

    assert ours == rendered(messages, offered)


def test_a_dialogue_with_builtin_tools_is_the_bytes_the_product_renders() -> None:
    query = 'price of "gold" \\ silver'
    call = ToolCall(id="1", name="brave_search", arguments=json.dumps({"query": query}))
    messages: list[Message] = [
        UserMessage(content=query),
        AssistantMessage(content="", tool_calls=[call]),
        ToolMessage(tool_call_id="1", content="Gold costs 4000 dollars."),
    ]
    names = ["brave_search", "wolfram_alpha", "code_interpreter"]

    ours = (
        prompts.system_block("", TODAY_WORDS, names)
        + prompts.user_turn(query)
        + prompts.ASSISTANT_OPEN
        + prompts.builtin_call("brave_search", query)
        + prompts.tool_turn("Gold costs 4000 dollars.")
        + prompts.ASSISTANT_OPEN
    )

    assert ours == rendered(messages, [ToolDefinition(name=name) for name in names])


@pytest.mark.parametrize("role", ["User", "Agent"])
def test_a_guard_prompt_is_the_bytes_the_product_renders(role: str) -> None:
    messages: list[Message] = [UserMessage(content="How do I bake bread?")]
    said = "User: How do I bake bread?"
    if role == "Agent":
        messages.append(AssistantMessage(content="With flour."))
        said += "\n\nAgent: With flour."

    ours = prompts.guard_prompt_open(role) + said + prompts.guard_prompt_close(role) + prompts.ASSISTANT_OPEN

    assert ours == render_guard(messages).as_text(begin_of_text=True)


@pytest.mark.parametrize("kind", SHARES)
def test_every_kind_of_tree_is_whole_and_teaches_something(kind: str) -> None:
    rng = random.Random(7)
    for _ in range(200):
        tree = draw_tree(rng, Difficulty(), kind)
        assert tree.prefix.startswith(prompts.BEGIN)
        assert tree.branches
        for branch in tree.branches:
            for before, piece in zip([None, *branch], branch, strict=False):
                if piece.trained:
                    assert before is not None and before.text.endswith(prompts.ASSISTANT_OPEN)
                    assert piece.text.endswith((prompts.END_OF_TURN, prompts.END_OF_MESSAGE))


def test_calls_name_offered_tools_and_their_keys() -> None:
    rng = random.Random(3)
    for _ in range(300):
        tree = draw_tree(rng, Difficulty(), "tools")
        lines = [line for line in tree.prefix.split("\n\n") if line.startswith('{"type": "function"')]
        functions = {(function := json.loads(line)["function"])["name"]: function for line in lines}
        for piece in (piece for branch in tree.branches for piece in branch):
            if piece.trained and piece.text.startswith('{"name"'):
                call = json.loads(piece.text.removesuffix(prompts.END_OF_TURN))
                parameters = functions[call["name"]]["parameters"]
                assert set(parameters.get("required", [])) <= set(call["parameters"]) <= set(parameters["properties"])


def test_the_same_seed_draws_the_same_trees() -> None:
    drawn = [[draw_tree(rng, Difficulty()) for _ in range(50)] for rng in (random.Random(1), random.Random(1))]

    assert drawn[0] == drawn[1]


def test_evaluation_words_are_never_training_words() -> None:
    training, evaluation = word_lists()

    assert not set(training) & set(evaluation)
    assert len(evaluation) > 300
    assert all(is_held_out(word) for word in evaluation)


def test_there_are_enough_families_with_enough_ways_to_ask() -> None:
    families = load_families()

    assert len(families) >= 100
    assert sum(len(family.asks) for family in families) / len(families) >= 5
