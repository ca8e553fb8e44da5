"""Where the generator's words come from, and which of them training never sees.

One word in ten is held out: training draws from the rest, evaluation draws from the held-out ones. Invented words
(random syllables) are fresh in both, so that copying is learnt as copying and not as remembering.
"""

import random
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import yaml

VOCABULARY = Path(__file__).parent / "data" / "vocabulary"
ONSETS = [
    "b",
    "c",
    "d",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "w",
    "z",
    "br",
    "st",
    "tr",
    "gl",
    "kr",
    "sh",
    "ch",
    "th",
    "pl",
    "dr",
    "fl",
    "qu",
]
NUCLEI = ["a", "e", "i", "o", "u", "ai", "ea", "ou", "io", "oa", "y", "ee"]
CODAS = ["", "", "n", "r", "l", "s", "m", "k", "t", "x", "nd", "rt", "sk", "ck", "ng"]


def is_held_out(word: str) -> bool:
    """A fixed tenth of all words, by checksum."""
    return zlib.crc32(word.lower().encode()) % 10 == 0


@cache
def word_lists() -> tuple[list[str], list[str]]:
    """(words for training, words for evaluation)."""
    words = (VOCABULARY / "words.txt").read_text().split()
    return [word for word in words if not is_held_out(word)], [word for word in words if is_held_out(word)]


@cache
def entries(file: str) -> Any:
    """What a YAML file of the vocabulary holds."""
    return yaml.safe_load((VOCABULARY / f"{file}.yaml").read_text())


@cache
def named_lists() -> dict[str, list[str]]:
    """The lists of `names.yaml`; a string there is a list of single words."""
    loaded: dict[str, Any] = entries("names")
    return {name: entry.split() if isinstance(entry, str) else entry for name, entry in loaded.items()}


class Words:
    """Draws words, names and numbers from one random stream."""

    def __init__(self, rng: random.Random, held_out: bool = False) -> None:
        self.rng = rng
        self.held_out = held_out

    def listed(self, name: str) -> str:
        return self.rng.choice(named_lists()[name])

    def listed_split(self, name: str) -> str:
        """An entry of a list that is itself divided into training and evaluation entries."""
        entries = [entry for entry in named_lists()[name] if is_held_out(entry) == self.held_out]
        return self.rng.choice(entries or named_lists()[name])

    def invented(self) -> str:
        rng = self.rng
        syllables = rng.choice([1, 2, 2, 3])
        return "".join(rng.choice(ONSETS) + rng.choice(NUCLEI) for _ in range(syllables)) + rng.choice(CODAS)

    def word(self) -> str:
        if self.rng.random() < 0.25:
            return self.invented()
        train, evaluation = word_lists()
        return self.rng.choice(evaluation if self.held_out else train)

    def noun_phrase(self) -> str:
        return " ".join(self.word() for _ in range(self.rng.choice([1, 1, 2, 2, 3])))

    def proper(self) -> str:
        """One capitalised name that is nothing in particular."""
        rng = self.rng
        if rng.random() < 0.3:
            return self.listed_split(rng.choice(["cities", "first_names", "last_names", "countries"]))
        return (self.invented() if rng.random() < 0.6 else self.word()).capitalize()

    def name(self) -> str:
        """A brand, band, team or company: one to three capitalised words."""
        rng = self.rng
        words = [self.proper() for _ in range(rng.choice([1, 1, 1, 2, 2, 3]))]
        if rng.random() < 0.08:
            words.insert(0, "The")
        if rng.random() < 0.05:
            words.append(str(rng.randint(1, 99)))
        return " ".join(words)

    def place(self) -> str:
        rng = self.rng
        if rng.random() < 0.6:
            return self.listed_split("cities" if rng.random() < 0.75 else "countries")
        return rng.choice(["", "", "", "New ", "San ", "Port ", "Saint ", "North "]) + self.proper()

    def person(self) -> str:
        first = self.listed_split("first_names") if self.rng.random() < 0.7 else self.invented().capitalize()
        last = self.listed_split("last_names") if self.rng.random() < 0.5 else self.proper()
        return f"{first} {last}"

    def digits(self, lengths: list[int]) -> str:
        """A number of one of these lengths; digits repeat often, which is what small models get wrong."""
        rng = self.rng
        repeated = rng.choice("0123456789")
        length = rng.choice(lengths)
        text = "".join(repeated if rng.random() < 0.2 else rng.choice("0123456789") for _ in range(length))
        return text.lstrip("0") or "7"

    def soup(self) -> str:
        """A question-shaped run of words: copying it needs no memory of how questions usually go."""
        rng = self.rng
        parts = [self.listed("question_starts") if rng.random() < 0.65 else self.listed("openers")]
        for _ in range(rng.randint(2, 7)):
            draw = rng.random()
            if draw < 0.42:
                parts.append(self.listed("function_words"))
            elif draw < 0.8:
                parts.append(self.word())
            elif draw < 0.93:
                parts.append(self.proper() + ("'s" if rng.random() < 0.1 else ""))
            else:
                parts.append(self.digits([1, 2, 4]))
        return " ".join(parts)

    def clause(self) -> str:
        """A short statement or task, for notes, tickets and reminders."""
        rng, verb = self.rng, self.listed("verbs")
        return rng.choice(
            [
                f"{verb} the {self.noun_phrase()}",
                f"{verb} {rng.choice(['my', 'some', 'a', 'two', 'our'])} {self.word()}",
                f"{rng.choice(['the', 'my', 'our'])} {self.word()} is {self.word()}",
                f"the {self.word()} {verb}s on {self.listed('days')}",
                f"{self.proper()} {verb}s {self.word()} {rng.choice(['at', 'in', 'for', 'with'])} {self.word()}",
                f"{verb} {self.proper()} {rng.choice(['about the', 'at', 'on', 'before'])} {self.word()}",
                f"{verb} {self.word()} and {self.word()}",
            ]
        )
