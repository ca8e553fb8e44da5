"""Requests for JSON: named facts in a text, the object as the whole answer."""

import json
from typing import Any

from tools.micro_model.values import draw_value
from tools.micro_model.vocabulary import Words, entries


def extraction(words: Words) -> tuple[str, str, str]:
    """(system text, user message, JSON answer); the system text holds a schema or is empty."""
    rng, phrases = words.rng, entries("extraction")
    fields = [phrases["fields"][0], *rng.sample(phrases["fields"][1:], rng.choice([1, 1, 2, 3]))]
    drawn = []
    for key, json_type, kind, frame in fields:
        value = draw_value(kind, json_type, words)
        argument = int(value.said) if json_type == "integer" else value.argument
        drawn.append((key, json_type, argument, frame.replace("{v}", value.said)))
    name = drawn[0][3]
    rest = [frame for _, _, _, frame in drawn[1:]]
    text = f"{name} {' and '.join(rest)}." if rng.random() < 0.5 else f"{name} {'. He '.join(rest)}."
    asked = drawn if rng.random() < 0.7 else rng.sample(drawn, max(1, len(drawn) - 1))
    asked = asked[:]
    if rng.random() < 0.4:
        rng.shuffle(asked)
    renamed = {key: words.word() if rng.random() < 0.1 and len(asked) == 1 else key for key, *_ in asked}
    answer = json.dumps({renamed[key]: argument for key, _, argument, _ in asked}, ensure_ascii=False)
    names = [renamed[key] for key, *_ in asked]
    keys = ", ".join(names) if rng.random() < 0.4 or len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    if rng.random() < 0.6:
        return "", rng.choice(phrases["requests"]).replace("{k}", keys).replace("{t}", text), answer
    properties: dict[str, Any] = {renamed[key]: {"type": json_type} for key, json_type, _, _ in asked}
    schema = json.dumps({"type": "object", "properties": properties, "required": names}, ensure_ascii=False)
    system = rng.choice(phrases["schema_systems"])
    return (
        system.replace("{s}", schema),
        rng.choice([text, f"Extract: {text}", f"{text}\n\nExtract the fields."]),
        answer,
    )
