"""What tools return, and the answer the model gives: one fixed rule for each shape, so that every answer is a copy.

a sentence          the sentence itself
a value             The result is V.   (from a calculator: The answer is V.)
an object           The key is V and the other key is W.
a list              Found: A, B, C.
an error            The tool reported an error: ...
ok, done, nothing   Done.
"""

import json

from tools.micro_model.values import text_value
from tools.micro_model.vocabulary import Words, entries


def fill(text: str, words: Words) -> str:
    return text.format(
        w=words.word(),
        w2=words.word(),
        w3=words.word(),
        w4=words.word(),
        n=words.name(),
        p=words.place(),
        v=words.digits([1, 2, 2, 3, 4]),
        v2=words.digits([2, 3]),
        d=text_value("day", words),
    )


def sentence_result(words: Words) -> tuple[str, str]:
    text = fill(words.rng.choice(entries("results")["sentences"]), words)
    text = text[0].upper() + text[1:]
    return text, text


def value_result(words: Words) -> tuple[str, str]:
    text = text_value(words.rng.choice(entries("results")["value_kinds"]), words)
    if text.isdigit():
        if words.rng.random() < 0.25:
            text += "." + words.digits([1, 2])
        text = words.rng.choice(["", "", "", "", "-"]) + text + words.rng.choice(entries("results")["units"])
    return text, f"The result is {text}."


def number_result(words: Words) -> tuple[str, str]:
    """What a calculator returns; some repeat the sum before the result, and only the result is answered."""
    rng = words.rng
    value = words.digits([1, 2, 2, 3, 3, 4, 5, 6])
    if rng.random() < 0.2:
        value += "." + words.digits([1, 2, 3, 6])
    value = "-" + value if rng.random() < 0.1 else value
    return value, f"The answer is {value}."


def said(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def object_result(words: Words) -> tuple[str, str]:
    rng = words.rng
    fields: dict[str, object] = {}
    while len(fields) < rng.choice([1, 2, 2, 3]):
        key = (
            rng.choice(entries("results")["keys"])
            if rng.random() < 0.5
            else words.word()
            if rng.random() < 0.7
            else f"{words.word()}_{words.word()}"
        )
        draw = rng.random()
        value: object = (
            int(words.digits([1, 2, 3, 4]))
            if draw < 0.4
            else text_value(rng.choice(entries("results")["value_kinds"]), words)
        )
        if draw > 0.95:
            value = rng.choice([True, False])
        elif draw > 0.88:
            value = float(f"{words.digits([1, 2])}.{rng.randint(1, 9)}")
        fields[key] = value
    parts = [f"the {key.replace('_', ' ')} is {said(value)}" for key, value in fields.items()]
    text = " and ".join(parts) if len(parts) < 3 else ", ".join(parts[:-1]) + " and " + parts[-1]
    shown = json.dumps(fields, ensure_ascii=False, separators=rng.choice([(", ", ": "), (", ", ": "), (",", ":")]))
    return shown, text[0].upper() + text[1:] + "."


def list_result(words: Words) -> tuple[str, str]:
    rng = words.rng
    kind = rng.choice(entries("results")["value_kinds"])
    found = [text_value(kind, words) for _ in range(rng.randint(1, 4))]
    shown = (
        json.dumps(found, ensure_ascii=False)
        if rng.random() < 0.65
        else rng.choice(["\n", "\n- ", ", "]).join(found).strip()
    )
    if not shown.startswith("["):
        if len(found) == 1:
            return value_result(words)
        shown = "- " + shown if "\n- " in shown else shown
    return shown, f"Found: {', '.join(found)}."


def error_result(words: Words) -> tuple[str, str]:
    rng = words.rng
    message = fill(rng.choice(entries("results")["errors"]), words)
    shown = rng.choice(
        [
            f"Error: {message}",
            f"error: {message}",
            json.dumps({"error": message}),
            f"Error: {message}",
            f"ValueError: {message}",
            f"The tool failed: {message}",
        ]
    )
    return shown, f"The tool reported an error: {message}."


def done_result(words: Words) -> tuple[str, str]:
    shown = words.rng.choice(
        [
            "ok",
            "OK",
            "done",
            "Done",
            "success",
            "true",
            "True",
            "null",
            "None",
            "saved",
            "sent",
            '{"status": "ok"}',
            '{"success": true}',
            '{"ok": true}',
            "Done.",
            "created",
            "started",
        ]
    )
    return shown, "Done."


def tool_result(words: Words, group: str) -> tuple[str, str]:
    """(what the tool returns, what the assistant answers)."""
    draw = words.rng.random()
    if group in ("calculator", "add", "multiply", "subtract", "divide"):
        if draw < 0.88:
            return number_result(words)
        return error_result(words)
    for limit, shape in (
        (0.36, sentence_result),
        (0.56, value_result),
        (0.74, object_result),
        (0.84, list_result),
        (0.93, error_result),
    ):
        if draw < limit:
            return shape(words)
    return done_result(words)
