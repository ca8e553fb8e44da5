"""Typed values for tool parameters and facts: how a value is said, and what it is as an argument."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from tools.micro_model.vocabulary import Words

Argument = str | int | float | bool


@dataclass(frozen=True)
class Value:
    """One drawn value: `said` stands in the request, `argument` in the call."""

    said: str
    argument: Argument


def clock(words: Words) -> str:
    rng = words.rng
    hour = rng.randint(1, 12)
    return rng.choice(
        [
            f"{hour}:{rng.randint(0, 59):02d}",
            f"{hour} {rng.choice(['am', 'pm'])}",
            f"{rng.randint(13, 23)}:{rng.randint(0, 59):02d}",
            f"{hour}:{rng.choice(['00', '15', '30', '45'])} {rng.choice(['am', 'pm'])}",
            f"{hour}{rng.choice(['am', 'pm'])}",
        ]
    )


def date(words: Words) -> str:
    rng = words.rng
    month, day, year = words.listed("months"), rng.randint(1, 28), rng.randint(1990, 2040)
    return rng.choice(
        [
            f"{month} {day}",
            f"{day} {month}",
            f"{day} {month} {year}",
            f"{month} {day}, {year}",
            f"{year}-{rng.randint(1, 12):02d}-{day:02d}",
            f"{day}.{rng.randint(1, 12)}.{year}",
            f"{month} {day} {year}",
        ]
    )


def day(words: Words) -> str:
    draw = words.rng.random()
    if draw < 0.4:
        return words.listed("days")
    return words.listed("near_days") if draw < 0.6 else date(words)


def money(words: Words) -> str:
    amount = words.digits([1, 2, 2, 3, 4])
    return words.rng.choice([f"{amount} {words.listed('currencies')}", f"${amount}", f"{amount} dollars", f"€{amount}"])


def duration(words: Words) -> str:
    units = ["days", "weeks", "months", "years", "hours", "minutes", "business days", "working days"]
    return f"{words.rng.randint(2, 99)} {words.rng.choice(units)}"


def user_name(words: Words) -> str:
    rng = words.rng
    return rng.choice(
        [
            words.word(),
            words.word() + words.digits([1, 2, 3]),
            f"{words.word()}-{words.word()}",
            f"{words.word()}_{words.word()}",
            f"{words.proper().lower()}.{words.proper().lower()}",
        ]
    )


def email(words: Words) -> str:
    return f"{user_name(words)}@{words.word()}.{words.rng.choice(['com', 'org', 'net', 'io', 'example'])}"


def file_name(words: Words) -> str:
    rng = words.rng
    stem = rng.choice([words.word(), f"{words.word()}_{words.word()}", f"{words.word()}-{words.digits([1, 2])}"])
    folder = rng.choice(["", "", "", "/tmp/", f"{words.word()}/", f"/home/{words.word()}/"])
    return f"{folder}{stem}.{rng.choice(['txt', 'csv', 'md', 'json', 'pdf', 'py', 'log', 'yaml', 'docx', 'png'])}"


def code(words: Words) -> str:
    """A reference such as B-2041 or KX77Q."""
    rng = words.rng
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    return rng.choice(
        [
            f"{letters}-{words.digits([2, 3, 4])}",
            f"{letters}{words.digits([2, 3, 4])}",
            f"{words.digits([2, 3])}{letters}",
        ]
    )


def room(words: Words) -> str:
    draw = words.rng.random()
    if draw < 0.55:
        return words.listed("rooms")
    return words.listed("room_phrases") if draw < 0.8 else words.word()


def job(words: Words) -> str:
    title = words.rng.choice(["manager", "engineer", "teacher", "driver", "designer", "seller", "expert"])
    return f"{words.rng.choice(['a', 'a', 'the'])} {words.word()} {title}"


def topic(words: Words) -> str:
    rng = words.rng
    return rng.choice(
        [
            words.noun_phrase(),
            f"the {words.noun_phrase()}",
            f"{words.word()} in {words.place()}",
            words.proper(),
            f"the {words.word()} of {words.word()}",
            f"{words.word()} and {words.word()}",
        ]
    )


TEXT_KINDS: dict[str, Callable[[Words], str]] = {
    "word": lambda words: words.word(),
    "words": lambda words: words.noun_phrase(),
    "topic": topic,
    "clause": lambda words: words.clause(),
    "name": lambda words: words.name(),
    "place": lambda words: words.place(),
    "person": lambda words: words.person(),
    "someone": lambda words: (
        words.person()
        if words.rng.random() < 0.4
        else words.listed_split("first_names")
        if words.rng.random() < 0.5
        else words.rng.choice([words.proper(), "the " + words.word(), "my " + words.word()])
    ),
    "language": lambda words: words.listed("languages"),
    "currency": lambda words: words.listed("currencies"),
    "currency_code": lambda words: words.listed("currency_codes"),
    "room": room,
    "device": lambda words: words.listed("devices") if words.rng.random() < 0.6 else words.noun_phrase(),
    "day": day,
    "date": date,
    "clock": clock,
    "money": money,
    "duration": duration,
    "color": lambda words: words.listed("colors"),
    "ticker": lambda words: (
        words.listed("tickers")
        if words.rng.random() < 0.4
        else "".join(words.rng.choice("ABCDEFGHIKLMNOPRSTUVWXYZ") for _ in range(words.rng.randint(2, 5)))
    ),
    "user_name": user_name,
    "email": email,
    "file": file_name,
    "url": lambda words: (
        words.rng.choice(["https://", "http://", "www.", "https://www."])
        + words.word()
        + words.rng.choice([".com", ".org", ".net", ".io"])
        + words.rng.choice(["", "", "/" + words.word(), f"/{words.word()}/{words.word()}"])
    ),
    "code": code,
    "job": job,
    "weight": lambda words: (
        f"{words.digits([1, 2, 3])} {words.rng.choice(['grams', 'kilograms', 'pounds', 'kilos', 'tons'])}"
    ),
    "hours": lambda words: words.rng.choice(["from {} to {}", "between {} and {}", "{} to {}"]).format(
        clock(words), clock(words)
    ),
    "allowed": lambda words: words.rng.choice(
        ["allowed", "not allowed", "welcome", "forbidden", "permitted on the terrace", "not welcome"]
    ),
    "year": lambda words: str(words.rng.randint(1900, 2039)),
    "phone": lambda words: "-".join(words.digits([3, 4]) for _ in range(words.rng.randint(2, 3))),
    "soup": lambda words: words.soup(),
}

NUMBER_KINDS: dict[str, list[int]] = {
    "small": [1, 1, 2],
    "medium": [2, 3],
    "large": [4, 5, 6, 7],
    "any": [1, 2, 2, 3, 3, 4, 5],
}
CHOICE = re.compile(r"choice\((.*)\)")


def text_value(kind: str, words: Words) -> str:
    """The words for a value of this kind, for facts and answers."""
    if kind in NUMBER_KINDS:
        return words.digits(NUMBER_KINDS[kind])
    return TEXT_KINDS[kind](words)


def choices(kind: str) -> list[tuple[str, str]] | None:
    """`choice(in celsius=celsius, F=fahrenheit)` as (said, argument) pairs; None for every other kind."""
    found = CHOICE.fullmatch(kind)
    if found is None:
        return None
    pairs = [part.strip() for part in found.group(1).split(",")]
    return [(said.strip(), argument.strip()) for said, _, argument in (pair.partition("=") for pair in pairs)]


def draw_value(kind: str, json_type: str, words: Words) -> Value:
    """One value of this kind, said in words and typed as the schema asks."""
    rng: random.Random = words.rng
    if (pairs := choices(kind)) is not None:
        said, argument = rng.choice(pairs)
        return Value(
            said, {"true": True, "false": False}.get(argument, argument) if json_type == "boolean" else argument
        )
    if kind in NUMBER_KINDS:
        text = words.digits(NUMBER_KINDS[kind])
        if json_type == "number" and rng.random() < 0.2:
            text += "." + rng.choice("123456789") if rng.random() < 0.5 else f".{rng.randint(0, 9)}{rng.randint(1, 9)}"
            return Value(text, float(text))
        return Value(text, int(text) if json_type in ("integer", "number") else text)
    said = TEXT_KINDS[kind](words)
    return Value(said, said)
