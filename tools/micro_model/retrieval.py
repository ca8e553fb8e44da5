"""Documents made of facts, and questions whose answer is one of their sentences, copied whole."""

import json
from dataclasses import dataclass
from typing import Any

from tools.micro_model.phrases import as_user_message
from tools.micro_model.values import text_value
from tools.micro_model.vocabulary import Words, entries


@dataclass(frozen=True)
class Document:
    """Sentences, and questions that some of them answer."""

    sentences: list[str]
    questions: list[tuple[str, str]]


def subject_name(kind: str, words: Words) -> str:
    rng = words.rng
    if kind == "product":
        return f"{words.proper()} {words.word()}" if rng.random() < 0.6 else words.noun_phrase()
    if kind == "person":
        return words.person() if rng.random() < 0.7 else words.listed_split("first_names")
    if kind == "place":
        return words.place()
    return words.name() if kind == "company" else words.proper()


def capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def fact(kind: dict[str, Any], shape: dict[str, Any], subject: str, words: Words) -> tuple[str, list[str]]:
    """(sentence, questions)."""
    value = text_value(shape["value"], words)
    sentence = words.rng.choice(shape["says"]).replace("{s}", subject).replace("{v}", value)
    if words.rng.random() < 0.12 and shape["value"] not in ("clock",):
        sentence = (
            sentence[:-1] + f" {words.rng.choice(['and', 'with', 'for', 'because of', 'since'])} {words.noun_phrase()}."
        )
    return capital(sentence), [ask.replace("{s}", subject) for ask in shape["asks"]]


def free_sentence(words: Words) -> tuple[str, list[str]]:
    """A sentence of no particular kind, with questions made of its own content words."""
    shape = words.rng.choice(entries("documents")["free"])
    fields = {name: words.word() for name in ("adjective", "noun", "other", "word", "word2")}
    fields |= {"verb": words.listed("verbs"), "verb2": words.listed("verbs"), "day": words.listed("days")}
    fields |= {"place": words.place(), "name": words.name(), "number": words.digits([1, 2, 3, 4])}
    return capital(shape["says"].format(**fields)), [ask.format(**fields) for ask in shape["asks"]]


def draw_document(words: Words, facts: int) -> Document:
    """Some facts about one subject, one fact about several subjects, a policy, or a mixture."""
    rng = words.rng
    pairs: list[tuple[str, list[str]]] = []
    style = rng.random()
    if style < 0.3:
        kind = rng.choice(entries("facts")[:-1])
        subject = subject_name(kind["subject"], words)
        for shape in rng.sample(kind["facts"], min(facts, len(kind["facts"]))):
            pairs.append(fact(kind, shape, subject, words))
    elif style < 0.5:
        kind = rng.choice(entries("facts")[:-1])
        shapes = rng.sample(kind["facts"], min(len(kind["facts"]), rng.choice([1, 2])))
        pairs = [fact(kind, rng.choice(shapes), subject_name(kind["subject"], words), words) for _ in range(facts)]
    elif style < 0.72:
        kind = entries("facts")[-1]
        pairs = [fact(kind, shape, "", words) for shape in rng.sample(kind["facts"], min(facts, len(kind["facts"])))]
    else:
        for _ in range(facts):
            kind = rng.choice(entries("facts"))
            drawn = fact(kind, rng.choice(kind["facts"]), subject_name(kind["subject"], words), words)
            pairs.append(drawn if rng.random() < 0.55 else free_sentence(words))
    questions = [(sentence, rng.choice(asks)) for sentence, asks in pairs]
    counts: dict[str, int] = {}
    for _, question in questions:
        counts[question] = counts.get(question, 0) + 1
    return Document(
        [sentence for sentence, _ in pairs],
        [(question, sentence) for sentence, question in questions if counts[question] == 1],
    )


def question_message(question: str, words: Words) -> str:
    return as_user_message(
        words.rng.choice(entries("documents")["questions"]).replace("{q}", question), words.rng, question_mark=0.6
    )


def search_output(document: Document, words: Words) -> str:
    """The passages as a search tool might return them."""
    rng = words.rng
    passages = [document.sentences] if rng.random() < 0.35 else [[sentence] for sentence in document.sentences]
    texts = [" ".join(passage) for passage in passages]
    draw = rng.random()
    if draw < 0.15:
        return "\n\n".join(texts)
    if draw < 0.25:
        return "\n\n".join(f"[{number}] {text}" for number, text in enumerate(texts, start=1))
    if draw < 0.55:
        return "\n\n".join(
            f"[{number}] {words.word()}.{rng.choice(['md', 'txt', 'pdf'])}\n{text}"
            for number, text in enumerate(texts, start=1)
        )
    if draw < 0.65:
        return "\n".join(f"- {text}" for text in texts)
    if draw < 0.75:
        return json.dumps(
            [{rng.choice(["text", "content"]): text, "source": f"{words.word()}.md"} for text in texts],
            ensure_ascii=False,
        )
    if draw < 0.85:
        return "\n".join(f"Result {number}:\nContent: {text}" for number, text in enumerate(texts, start=1))
    if draw < 0.92:
        return (
            f"knowledge_search tool found {len(texts)} chunks:\nBEGIN of knowledge_search tool results.\n"
            + "\n".join(
                f"Result {number}:\nDocument_id:{words.word()}\nContent: {text}"
                for number, text in enumerate(texts, start=1)
            )
            + "\nEND of knowledge_search tool results."
        )
    return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, start=1))
