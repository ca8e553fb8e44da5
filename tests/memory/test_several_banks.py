"""Banks that are searched together: the best chunks come first, whichever banks they and the others are in."""

from collections.abc import AsyncIterator
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from llama_stack.api.memory import (
    Chunk,
    Document,
    Embedded,
    Entity,
    Facts,
    MemoryQuery,
    Relation,
    SearchMode,
    WeightedFusion,
)
from llama_stack.api.resources import BankKind, GraphBank, KeyValueBank, KeywordBank, MemoryBank, VectorBank
from llama_stack.memory.service import MemoryService
from tests.memory.hashed import ALICE, open_memory_stack

QUESTION = "How is limescale removed from a kettle?"
ANSWER = "Limescale is removed from a kettle with vinegar and hot water."
KINDS: dict[str, BankKind] = {
    "vector": VectorBank(),
    "keyword": KeywordBank(),
    "graph": GraphBank(),
    "keyvalue": KeyValueBank(),
}
OTHERS = [
    "Kettles of fish are sold at the harbour.",
    "A tent weighs two kilograms.",
    "The choir sings on Thursday evenings in the old school.",
    "How is the weather? It is removed from what was forecast.",
    "Bonds are paid back when they are due.",
]


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[MemoryService]:
    async with open_memory_stack(tmp_path) as stack:
        yield await stack.memory()


async def make(memory: MemoryService, name: str, kind: BankKind, texts: list[str]) -> None:
    bank = MemoryBank(identifier=name, provider_id="", provider_resource_id="", bank=kind)
    await memory.create_bank(bank, ALICE)
    if isinstance(kind, GraphBank):
        parted = [text.rstrip(".").split(maxsplit=2) for text in texts]
        facts = [
            Facts(
                document_id=f"{number}",
                entities=[Entity(name=subject)],
                relations=[Relation(subject=subject, relation=relation, object=rest)],
            )
            for number, (subject, relation, rest) in enumerate(parted)
        ]
        await memory.insert_facts(name, facts, ALICE)
    elif isinstance(kind, KeyValueBank):
        names = [QUESTION if text == ANSWER else text for text in texts]
        documents = [Document(document_id=key, content=text) for key, text in zip(names, texts, strict=True)]
        await memory.insert_documents(name, documents, ALICE)
    else:
        chunks = [
            Chunk(chunk_id=f"c{number}", document_id=f"d{number}", content=text) for number, text in enumerate(texts)
        ]
        await memory.insert_chunks(name, [Embedded(chunk=chunk) for chunk in chunks], ALICE)


async def found(memory: MemoryService, banks: list[str], **settings: object) -> list[Chunk]:
    query = MemoryQuery.model_validate({"query": QUESTION} | settings)
    return await memory.query(banks, query, ALICE)


@pytest.mark.parametrize("kind", list(KINDS))
async def test_an_exact_answer_comes_first_whichever_kinds_the_other_banks_are(
    memory: MemoryService, kind: str
) -> None:
    await make(memory, "z-answer", KINDS[kind], [*OTHERS[1:], ANSWER])
    for other in KINDS:
        for number in (1, 2):
            await make(memory, f"{other}-{number}", KINDS[other], OTHERS)
    for one, two in combinations_with_replacement(KINDS, 2):
        banks = [f"{one}-1", "z-answer", f"{two}-2"]
        for fusion in ({}, {"fusion": WeightedFusion()}):
            best, *rest = await found(memory, banks, **fusion)
            assert " ".join(best.content.split()).rstrip(".") == ANSWER.rstrip("."), banks
            assert all(chunk.score <= best.score for chunk in rest)


@pytest.mark.parametrize("mode", [None, *SearchMode])
async def test_an_unrelated_bank_takes_no_place_from_better_chunks(
    memory: MemoryService, mode: SearchMode | None
) -> None:
    good = [f"Limescale is removed from a kettle with {what}." for what in ("vinegar", "lemons", "acid", "soda")]
    await make(memory, "good", VectorBank(), [*OTHERS[1:], *good])
    for number in range(3):
        await make(memory, f"unrelated-{number}", VectorBank(), [f"{text} {number}" for text in OTHERS])
    banks = ["unrelated-0", "unrelated-1", "good", "unrelated-2"]
    best = await found(memory, banks, mode=mode, max_chunks=4)
    assert {chunk.content for chunk in best} == set(good)


async def test_words_of_a_keyword_bank_and_meaning_of_a_vector_bank_are_measured_alike(memory: MemoryService) -> None:
    """A bank's own BM25 goes beyond the 1 at which fused scores end."""
    good = [f"Limescale is removed from a kettle with {what}." for what in ("vinegar", "lemons", "acid", "soda")]
    await make(memory, "words", KeywordBank(), OTHERS)
    await make(memory, "meaning", VectorBank(), good)
    best = await found(memory, ["words", "meaning"], max_chunks=4)
    assert {chunk.content for chunk in best} == set(good)
    await make(memory, "good words", KeywordBank(), good)
    await make(memory, "other meaning", VectorBank(), OTHERS)
    best = await found(memory, ["other meaning", "good words"], max_chunks=4)
    assert {chunk.content for chunk in best} == set(good)


async def test_scores_are_cosines_where_only_vectors_are_compared(memory: MemoryService) -> None:
    for name, texts in (("one", [ANSWER, *OTHERS[:2]]), ("two", OTHERS[2:])):
        await make(memory, name, VectorBank(), texts)
    alone = [chunk for name in ("one", "two") for chunk in await found(memory, [name], mode="vector")]
    together = await found(memory, ["one", "two"], mode="vector", max_chunks=10)
    assert {c.content: c.score for c in together} == pytest.approx({c.content: c.score for c in alone})
    threshold = together[0].score - 1e-6
    assert len(await found(memory, ["one", "two"], mode="vector", score_threshold=threshold)) == 1


async def test_one_document_in_two_banks_is_found_once_and_others_of_its_number_are_not_lost(
    memory: MemoryService,
) -> None:
    """Chunks of equal ids in two banks are two chunks; equal texts are one answer."""
    await make(memory, "one", VectorBank(), [ANSWER, OTHERS[0]])
    await make(memory, "two", VectorBank(), [ANSWER, OTHERS[1]])
    contents = [chunk.content for chunk in await found(memory, ["one", "two"], max_chunks=10)]
    assert sorted(contents) == sorted([ANSWER, OTHERS[0], OTHERS[1]])


async def test_what_is_asked_for_by_its_name_comes_first_with_the_score_it_has_alone(memory: MemoryService) -> None:
    await make(memory, "notes", VectorBank(), [ANSWER, *OTHERS])
    await make(memory, "values", KeyValueBank(), OTHERS)
    await make(memory, "facts", GraphBank(), [*OTHERS, "Ada designed analytical engines."])
    asked: dict[str, object] = {"keys": [OTHERS[4]], "entities": ["Ada"], "max_chunks": 10}
    best = await found(memory, ["notes", "values", "facts"], **asked)
    first = [chunk for chunk in best if chunk.score == 1.0]
    assert {OTHERS[4], "Ada designed analytical engines."} <= {" ".join(chunk.content.split()) for chunk in first}
    assert ANSWER in [chunk.content for chunk in best[:5]]


async def test_diversity_and_reranking_work_over_several_banks(memory: MemoryService) -> None:
    await make(memory, "notes", VectorBank(), [ANSWER, ANSWER.replace("hot", "warm"), *OTHERS])
    await make(memory, "words", KeywordBank(), [ANSWER.replace("hot", "cold"), "A kettle boils water."])
    near = [chunk.content for chunk in await found(memory, ["notes", "words"], max_chunks=2)]
    assert all(text.startswith("Limescale") for text in near)
    diverse = [chunk.content for chunk in await found(memory, ["notes", "words"], max_chunks=2, diversity=0.9)]
    assert diverse[0] == near[0]
    assert not diverse[1].startswith("Limescale")
    longest, *_ = await found(memory, ["notes", "words"], rerank_model="scripted", max_chunks=3)
    assert len(longest.content) == max(map(len, (ANSWER.replace("hot", "warm"), *OTHERS)))
