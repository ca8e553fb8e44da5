"""Sums in words and signs: the message and the arithmetic in it.

The rule for a calculator's `expression`: where the message holds one clean piece of arithmetic, that piece, verbatim in
the user's own words; where the sum is told as a story, the whole message.
"""

from tools.micro_model.families import polite
from tools.micro_model.phrases import as_user_message, choose
from tools.micro_model.vocabulary import Words, entries


def numbers(words: Words) -> dict[str, str]:
    """Fresh values for every field of a sum."""
    rng = words.rng
    filled = {letter: words.digits([1, 2, 2, 3, 3, 4]) for letter in "abcd"}
    if rng.random() < 0.08:
        number_words = entries("arithmetic")["number_words"]
        filled |= {"a": rng.choice(number_words), "b": rng.choice(number_words)}
    else:
        for letter in "ab":
            if rng.random() < 0.08:
                filled[letter] += f".{rng.randint(0, 9)}{rng.choice(['', '5'])}"
            elif rng.random() < 0.04 and len(filled[letter]) == 4:
                filled[letter] = f"{filled[letter][0]},{filled[letter][1:]}"
    return filled | {
        "s": words.digits([1, 1, 2]),
        "w": words.word(),
        "w2": words.word(),
        "name": words.listed("first_names"),
    }


def sum_request(words: Words) -> tuple[str, str]:
    """(message, expression): what the user types and what a calculator should be given."""
    rng, phrases = words.rng, entries("arithmetic")
    draw = rng.random()
    fields = numbers(words)
    if draw < 0.12:
        message = as_user_message(polite(choose(rng.choice(phrases["stories"]), rng).format(**fields), words), rng)
        return message, message
    if draw < 0.24:
        expression = rng.choice(phrases["imperatives"]).format(**fields)
        if rng.random() < 0.4:
            expression = expression[0].upper() + expression[1:]
            return expression + rng.choice(["", ".", "!", " please", ", please", " for me"]), expression
        return f"{words.listed('polite_starts')} {expression}{rng.choice(['', '?', '.', '!'])}", expression
    expression = rng.choice(phrases["signed" if rng.random() < 0.55 else "worded"]).format(**fields)
    message = choose(rng.choice(phrases["asks"]), rng).replace("{e}", expression)
    if message.startswith(expression):
        end = rng.choice(["", "", "?", " please", " = ?"]) if message == expression else rng.choice(["", "?"])
        return message + end, expression
    return as_user_message(polite(message, words), rng), expression
