"""Which tools stand together in a prompt: family tools, generic ones, a calculator, a knowledge search."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from tools.micro_model.arithmetic import sum_request
from tools.micro_model.families import Family, Tool, alphabetical, draw_tool, generic_tool, invented_name, load_families
from tools.micro_model.values import Argument
from tools.micro_model.vocabulary import Words, entries

DEMO_SHARE = 0.33


@dataclass(frozen=True)
class Offer:
    """A tool in the prompt and how to ask for it; a search takes its questions from documents instead."""

    definition: dict[str, Any]
    group: str
    request: Callable[[Words], tuple[str, dict[str, Argument]]]
    searches: bool = False
    key: str = ""

    @property
    def name(self) -> str:
        name: str = self.definition["function"]["name"]
        return name


def text_tool(words: Words, kind: str, argument: str) -> tuple[dict[str, Any], str]:
    """(definition, key) of a tool that takes one text; `kind` and `argument` name lists in `offers.yaml`."""
    rng, lists = words.rng, entries("offers")
    names, texts, keys, key_texts = (
        lists[name] for name in (f"{kind}_names", f"{kind}_texts", f"{kind}_keys", f"{argument}_texts")
    )
    name = rng.choice(names) if rng.random() < 0.85 else invented_name(words)
    key = rng.choice(keys) if rng.random() < 0.85 else words.word()
    schema = {"type": "string"} | ({"description": rng.choice(key_texts)} if rng.random() < 0.8 else {})
    parameters: dict[str, Any] = {"type": "object", "properties": {key: schema}, "required": [key]}
    if rng.random() < 0.15:
        parameters["additionalProperties"] = False
    function: dict[str, Any] = {"name": name}
    if name not in names or rng.random() < 0.9:
        function["description"] = rng.choice(texts)
    return {"type": "function", "function": function | {"parameters": parameters}}, key


def calculator_offer(words: Words) -> Offer:
    definition, key = text_tool(words, "calculator", "expression")

    def request(later: Words) -> tuple[str, dict[str, Argument]]:
        message, expression = sum_request(later)
        return message, {key: expression}

    return Offer(definition, "calculator", request)


def search_offer(words: Words) -> Offer:
    definition, key = text_tool(words, "search", "query")

    def request(later: Words) -> tuple[str, dict[str, Argument]]:
        question = later.soup()
        return question, {key: question}

    return Offer(definition, "search", request, searches=True, key=key)


def tool_offer(tool: Tool) -> Offer:
    return Offer(tool.definition(), tool.group, tool.request)


@cache
def clashes() -> frozenset[frozenset[str]]:
    """Pairs of groups whose requests could be meant for either."""
    return frozenset(frozenset(pair) for pair in entries("offers")["clashes"])


def clash(group: str, taken: list[str]) -> bool:
    """Whether a request for one of them could be meant for the other."""
    return group in taken or any(frozenset((group, other)) in clashes() for other in taken)


def draw_family(words: Words, demo: bool) -> Family:
    """A family: of the sample agent's kind, of the common ones, or any."""
    rng, families = words.rng, load_families()
    if rng.random() < (0.85 if demo else 0.6):
        wanted = entries("offers")["demo_groups" if demo else "common_groups"]
        families = [family for family in families if family.group in wanted]
    return rng.choice(families)


def draw_offers(words: Words, count: int, invent_names: float) -> list[Offer]:
    """Tools that can stand together, in random order."""
    rng = words.rng
    offers: list[Offer] = []
    demo = rng.random() < DEMO_SHARE
    for _ in range(200):
        if len(offers) == count:
            break
        taken = [offer.group for offer in offers]
        draw = rng.random()
        if draw < (0.14 if demo else 0.05):
            offer = calculator_offer(words)
        elif draw < (0.3 if demo else 0.13):
            offer = search_offer(words)
        elif draw < (0.34 if demo else 0.23):
            offer = tool_offer(generic_tool(words))
        else:
            offer = tool_offer(draw_tool(draw_family(words, demo), words, invent_names, invent_names))
        names = {other.name for other in offers}
        if not clash(offer.group, taken) and offer.name not in names:
            offers.append(offer)
    rng.shuffle(offers)
    if rng.random() < 0.55:
        return [replace(offer, definition=alphabetical(offer.definition)) for offer in offers]
    return offers
