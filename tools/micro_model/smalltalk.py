"""Small talk: a handful of intents with fixed answers, and the honest answer to a question that needs a tool."""

from tools.micro_model.phrases import capitalized
from tools.micro_model.vocabulary import Words, entries

NO_KNOWLEDGE = "I do not know. I am a very small model: give me a search tool or a document and I can look it up."


def small_talk(words: Words) -> tuple[str, str]:
    """(message, answer)."""
    rng = words.rng
    intent = rng.choice(entries("smalltalk"))
    text = rng.choice(intent["messages"])
    if rng.random() < 0.5:
        text = capitalized(text)
    if text[-1] not in "!?." and rng.random() < 0.5:
        question = text.lower().startswith(("who", "what", "how", "are", "can", "which", "do you"))
        text += "?" if question else rng.choice(["!", ".", "!"])
    return text, intent["answer"]
