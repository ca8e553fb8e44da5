"""Training documents: dialogue trees with one shared beginning and several continuations.

The tools or the document in front are by far the longest part of a prompt. A tree computes them once and trains on
several requests behind them; every branch sees the shared prefix and itself only, as if it stood alone.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tools.micro_model.arithmetic import sum_request
from tools.micro_model.extraction import extraction
from tools.micro_model.families import polite
from tools.micro_model.guard import judged_conversation
from tools.micro_model.offers import Offer, draw_offers
from tools.micro_model.phrases import as_user_message
from tools.micro_model.prompts import (
    ASSISTANT_OPEN,
    END_OF_TURN,
    answer,
    builtin_call,
    date_words,
    guard_prompt_close,
    guard_prompt_open,
    header,
    json_call,
    system_block,
    tool_turn,
    tools_preamble,
    user_turn,
)
from tools.micro_model.results import number_result, tool_result
from tools.micro_model.retrieval import Document, draw_document, question_message, search_output
from tools.micro_model.smalltalk import NO_KNOWLEDGE, small_talk
from tools.micro_model.vocabulary import Words, entries

BUILTIN_OFFERS: list[tuple[str, ...]] = [
    *[("brave_search", "wolfram_alpha")] * 3,
    ("wolfram_alpha", "brave_search"),
    ("brave_search",),
    ("wolfram_alpha",),
    ("brave_search", "wolfram_alpha", "code_interpreter"),
]


@dataclass(frozen=True)
class Piece:
    """A stretch of wire text; trained on only where the assistant speaks."""

    text: str
    trained: bool = False


@dataclass
class Tree:
    """One document. `kind` names what it teaches, for reports."""

    kind: str
    prefix: str
    branches: list[list[Piece]] = field(default_factory=list)


@dataclass(frozen=True)
class Difficulty:
    """How hard documents are at this point of training."""

    most_tools: int = 6
    fewest_tools: int = 1
    facts: tuple[int, int] = (2, 6)
    invent_names: float = 0.1
    branches: tuple[int, int] = (2, 3)
    padding: float = 0.15


class Branch:
    """Collects the pieces of one continuation; the first user turn may continue an open user header."""

    def __init__(self, opened: bool) -> None:
        self.pieces: list[Piece] = []
        self.opened = opened

    def user(self, text: str) -> None:
        turn = f"{text.strip()}{END_OF_TURN}" if self.opened and not self.pieces else user_turn(text)
        self.pieces.append(Piece(turn + ASSISTANT_OPEN))

    def tool(self, text: str) -> None:
        self.pieces.append(Piece(tool_turn(text) + ASSISTANT_OPEN))

    def assistant(self, text: str) -> None:
        self.pieces.append(Piece(text, trained=True))


def system_text(words: Words) -> str:
    rng = words.rng
    draw = rng.random()
    if draw < 0.15:
        return ""
    if draw < 0.8:
        return words.listed("system_texts")
    if draw < 0.9:
        role = rng.choice(["a helpful assistant", f"the assistant of {words.name()}", "a bot"])
        return f"You are {words.name()}, {role}."
    return (
        f"You are a helpful assistant. {' '.join(as_user_message(words.soup(), rng) for _ in range(rng.randint(1, 2)))}"
    )


def system(words: Words, builtin_tools: tuple[str, ...] = (), json_tools: bool = False, text: str | None = None) -> str:
    return system_block(system_text(words) if text is None else text, date_words(words.rng), builtin_tools, json_tools)


def builtin_tree(words: Words, difficulty: Difficulty) -> Tree:
    """Questions for the search engine and the calculator that Llama knows by name."""
    rng = words.rng
    offered = rng.choice(BUILTIN_OFFERS)
    tree = Tree("builtin", system(words, offered))
    for _ in range(rng.randint(2, 4)):
        branch = Branch(opened=False)
        for turn in range(rng.choice([1, 1, 2])):
            if rng.random() < 0.14:
                talk(branch, words)
            else:
                builtin_turns(branch, words, offered, answered=turn == 0 or rng.random() < 0.5)
        tree.branches.append(branch.pieces)
    return tree


def talk(branch: Branch, words: Words) -> None:
    text, reply = small_talk(words)
    branch.user(text)
    branch.assistant(answer(reply))


def builtin_turns(branch: Branch, words: Words, offered: tuple[str, ...], answered: bool) -> None:
    rng = words.rng
    name = rng.choice([name for name in offered if name != "code_interpreter"])
    if name == "wolfram_alpha":
        text, _ = sum_request(words)
        branch.user(text)
        branch.assistant(builtin_call(name, text))
        if answered:
            output, reply = number_result(words)
            branch.tool(output)
            branch.assistant(answer(reply))
        return
    search_turns(branch, words, answered, lambda query: builtin_call(name, query))


def search_turns(branch: Branch, words: Words, answered: bool, call: Callable[[str], str]) -> None:
    """A question, its search and perhaps the answer from what was found."""
    rng = words.rng
    if not answered:
        text = as_user_message(words.soup(), rng)
        branch.user(text)
        branch.assistant(call(text))
        return
    document = questioned_document(words, (1, 4))
    question, sentence = rng.choice(document.questions)
    text = question_message(question, words) if rng.random() < 0.7 else as_user_message(words.soup(), rng)
    if text.lower().startswith(question[:6].lower()) or question.lower() in text.lower():
        branch.user(text)
        branch.assistant(call(text))
        branch.tool(search_output(document, words))
        branch.assistant(answer(sentence))
    else:
        branch.user(text)
        branch.assistant(call(text))


def questioned_document(words: Words, facts: tuple[int, int]) -> Document:
    while not (document := draw_document(words, words.rng.randint(*facts))).questions:
        pass
    return document


def tools_tree(words: Words, difficulty: Difficulty) -> Tree:
    """Requests with JSON tools offered, answers from what they return, and small talk in between."""
    rng = words.rng
    offers = draw_offers(words, rng.randint(difficulty.fewest_tools, difficulty.most_tools), difficulty.invent_names)
    builtin = (
        ("brave_search", "wolfram_alpha") if rng.random() < 0.06 and not any(offer.searches for offer in offers) else ()
    )
    text = system_text(words) if rng.random() > difficulty.padding else long_system_text(words)
    prefix = (
        system(words, builtin, json_tools=True, text=text)
        + header("user")
        + tools_preamble([offer.definition for offer in offers])
    )
    tree = Tree("tools", prefix)
    order = rng.sample(offers, len(offers))
    for number in range(rng.randint(*difficulty.branches)):
        branch = Branch(opened=True)
        for turn in range(rng.choice([1, 1, 1, 2, 2, 3])):
            draw = rng.random()
            if draw < 0.1:
                talk(branch, words)
            elif builtin and draw < 0.4:
                builtin_turns(branch, words, builtin, answered=False)
                break
            else:
                offer = order[number % len(order)] if turn == 0 else rng.choice(offers)
                if not offer_turns(branch, words, offer, answered=rng.random() < 0.5):
                    break
        tree.branches.append(branch.pieces)
    return tree


def long_system_text(words: Words) -> str:
    rng = words.rng
    return " ".join([system_text(words), *(as_user_message(words.soup(), rng) for _ in range(rng.randint(2, 8)))])


def offer_turns(branch: Branch, words: Words, offer: Offer, answered: bool) -> bool:
    """The request, the call and perhaps the answer; True where another turn may follow."""
    if offer.searches:
        search_turns(branch, words, answered, lambda query: json_call(offer.name, {offer.key: query}))
        return branch.pieces[-1].text[0] != "{"
    text, arguments = offer.request(words)
    branch.user(text)
    branch.assistant(json_call(offer.name, arguments))
    if answered:
        output, reply = tool_result(words, offer.group)
        branch.tool(output)
        branch.assistant(answer(reply))
    return answered


def retrieval_tree(words: Words, difficulty: Difficulty) -> Tree:
    """Questions about a document that stands in the user's message or in the system text."""
    rng = words.rng
    document = questioned_document(words, difficulty.facts)
    sentences = list(document.sentences)
    separator = rng.choice([" ", " ", "\n", "\n- ", "\n\n"])
    text = ("- " if separator == "\n- " else "") + separator.join(sentences)
    if rng.random() < 0.2:
        text = "\n\n".join(f"[{number}] {sentence}" for number, sentence in enumerate(sentences, start=1))
    in_user = rng.random() < 0.6
    if in_user:
        prefix = system(words) + header("user") + rng.choice(entries("documents")["contexts"]).replace("{d}", text)
        prefix = prefix.rstrip(" ")
        spaced = not prefix.endswith("\n")
    else:
        frame = (
            rng.choice(entries("documents")["systems"])
            .replace("{i}", words.listed("system_texts"))
            .replace("{d}", text)
        )
        prefix, spaced = system(words, text=frame), False
    tree = Tree("retrieval", prefix)
    for question, sentence in rng.sample(document.questions, min(len(document.questions), rng.randint(2, 4))):
        asked = question_message(question, words)
        if in_user:
            lead = " " if spaced else ""
            tree.branches.append(
                [Piece(f"{lead}{asked}{END_OF_TURN}{ASSISTANT_OPEN}"), Piece(answer(sentence), trained=True)]
            )
        else:
            branch = Branch(opened=False)
            branch.user(asked)
            branch.assistant(answer(sentence))
            tree.branches.append(branch.pieces)
    return tree


def chat_tree(words: Words, difficulty: Difficulty) -> Tree:
    """Small talk without tools, and questions that cannot be answered without one."""
    tree = Tree("chat", system(words))
    for _ in range(words.rng.randint(2, 4)):
        branch = Branch(opened=False)
        for _ in range(words.rng.choice([1, 1, 2])):
            if words.rng.random() < 0.65:
                talk(branch, words)
            else:
                branch.user(as_user_message(polite(words.soup(), words), words.rng))
                branch.assistant(answer(NO_KNOWLEDGE))
        tree.branches.append(branch.pieces)
    return tree


def extraction_tree(words: Words, difficulty: Difficulty) -> Tree:
    """A text to be turned into JSON."""
    schema, message, reply = extraction(words)
    tree = Tree("extraction", system(words, text=schema or None))
    branch = Branch(opened=False)
    branch.user(message)
    branch.assistant(answer(reply))
    tree.branches.append(branch.pieces)
    return tree


def guard_tree(words: Words, difficulty: Difficulty) -> Tree:
    """Conversations to be judged; the policy in front is the same in every one of them."""
    role = "Agent" if words.rng.random() < 0.3 else "User"
    tree = Tree("guard", guard_prompt_open(role))
    for _ in range(words.rng.randint(4, 6)):
        conversation, verdict = judged_conversation(words, role)
        question = conversation + guard_prompt_close(role) + ASSISTANT_OPEN
        tree.branches.append([Piece(question), Piece(answer(verdict), trained=True)])
    return tree


TREES: dict[str, Callable[[Words, Difficulty], Tree]] = {
    "tools": tools_tree,
    "builtin": builtin_tree,
    "retrieval": retrieval_tree,
    "guard": guard_tree,
    "chat": chat_tree,
    "extraction": extraction_tree,
}
SHARES = {"tools": 0.6, "builtin": 0.04, "retrieval": 0.25, "guard": 0.05, "chat": 0.02, "extraction": 0.04}


def draw_tree(rng: random.Random, difficulty: Difficulty, kind: str | None = None, held_out: bool = False) -> Tree:
    """One document of the mix."""
    kind = kind or rng.choices(list(SHARES), weights=list(SHARES.values()))[0]
    return TREES[kind](Words(rng, held_out), difficulty)
