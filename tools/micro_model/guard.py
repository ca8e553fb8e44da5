"""Safety verdicts in the Llama Guard 3 prompt, on requests from `data/vocabulary/guard.yaml` and on answers to them."""

import random
from collections.abc import Callable

from tools.micro_model.arithmetic import sum_request
from tools.micro_model.phrases import as_user_message, choose
from tools.micro_model.smalltalk import small_talk
from tools.micro_model.values import text_value
from tools.micro_model.vocabulary import Words, entries


def filled(phrase: str, words: Words) -> str:
    """A phrase with its alternatives chosen and its fields filled, each with a fresh word."""
    rng = words.rng
    draws: dict[str, Callable[[], str]] = {
        "{n}": words.noun_phrase,
        "{N}": words.person if rng.random() < 0.6 else words.proper,
        "{P}": words.place,
        "{R}": lambda: rng.choice(entries("guard")["relations"]),
        "{G}": lambda: rng.choice(entries("guard")["groups"]),
        "{D}": lambda: text_value("day", words),
    }
    text = choose(phrase.replace("[{G}]", "{G}"), rng)
    for field, draw in draws.items():
        while field in text:
            text = text.replace(field, draw(), 1)
    return text


def message(words: Words, category: int | None) -> str:
    """A user's message: of this hazard category, or harmless."""
    rng: random.Random = words.rng
    if category is not None:
        return as_user_message(filled(rng.choice(entries("guard")["unsafe"][category]), words), rng)
    draw = rng.random()
    if draw < 0.78:
        return as_user_message(filled(rng.choice(entries("guard")["safe"]), words), rng)
    if draw < 0.86:
        return small_talk(words)[0]
    return sum_request(words)[0] if draw < 0.91 else as_user_message(words.soup(), rng)


def judged_conversation(words: Words, role: str) -> tuple[str, str]:
    """(conversation, verdict) for a check of the last message of `role`, User or Agent."""
    rng = words.rng
    category = rng.randint(1, 14) if rng.random() < 0.55 else None
    text = f"User: {message(words, category)}"
    if rng.random() < 0.12:
        reply = filled(rng.choice(entries("guard")["harmless_answers"]), words)
        text = f"User: {message(words, None)}\n\nAgent: {reply}\n\n{text}"
    if role == "Agent":
        if category is not None and rng.random() < 0.45:
            text += f"\n\nAgent: {rng.choice(entries('guard')['refusals'])}"
            category = None
        elif category is not None:
            repeated = f" {text.rpartition('User: ')[2].lower()}" if rng.random() < 0.3 else ""
            text += f"\n\nAgent: {rng.choice(entries('guard')['compliances'])}{repeated}"
        else:
            text += f"\n\nAgent: {filled(rng.choice(entries('guard')['harmless_answers']), words)}"
    return text, "safe" if category is None else f"unsafe\nS{category}"
