"""Phrases with alternatives: `[turn|switch] {1} the {0} [lamp|light]` stands for many ways to say one thing."""

import random
import re

INNERMOST_CHOICE = re.compile(r"\[([^\[\]]*)\]")
SPACES = re.compile(r" {2,}")


def choose(phrase: str, rng: random.Random) -> str:
    """Replace every `[a|b]` by one of its alternatives, inner ones first; `{...}` fields are left alone."""
    while (found := INNERMOST_CHOICE.search(phrase)) is not None:
        phrase = phrase[: found.start()] + rng.choice(found.group(1).split("|")) + phrase[found.end() :]
    return SPACES.sub(" ", phrase).strip()


def capitalized(text: str) -> str:
    """First letter upper case, the rest as it is."""
    return text[:1].upper() + text[1:]


def as_user_message(text: str, rng: random.Random, question_mark: float = 0.5, keep_case: bool = False) -> str:
    """A request the way people type it: sometimes capitalised unless `keep_case`, sometimes with a mark at the end."""
    if rng.random() < 0.45 and not keep_case:
        text = capitalized(text)
    if text[-1:] in "?!." or rng.random() < 0.25:
        return text
    if re.match(r"(?i)(what|who|how|when|where|which|why|is|are|do|does|did|can|could|will|would|has|any)\b", text):
        return text + ("?" if rng.random() < 0.35 + question_mark else "")
    return text + rng.choice([".", "", "", "!"])
