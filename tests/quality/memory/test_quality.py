"""How well the default memory finds: the embedded embedder, the default index, every question of the corpus.

The floors are what was reached, less a question or two of slack. Hybrid search must not be worse than the better of
its parts, so that nobody has to choose.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from llama_stack.api.common import Caller
from llama_stack.api.memory import Document, DocumentState, MemoryQuery, SearchMode
from llama_stack.api.resources import MemoryBank, VectorBank
from llama_stack.compose import open_stack
from llama_stack.distribution import Distribution, distributions_folder
from tests.quality.memory.evaluation import Measures, Question, corpus_files, corpus_questions, measured

FLOORS = Path(__file__).parent / "floors.json"
CALLER = Caller(owner="quality")
MIME_TYPES = {
    ".md": "text/markdown",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
}
FOUND_CHUNKS = 30
"""Enough for ten documents."""
HYBRID_SLACK = 0.01

Rankings = dict[SearchMode, dict[str, list[str]]]

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def distribution() -> Distribution:
    """The starter's models and its default index."""
    starter = yaml.safe_load((distributions_folder() / "starter.yaml").read_text("utf-8"))
    memory = [{"provider_id": "sqlite-vec", "provider_type": "inline::sqlite-vec"}]
    providers = {"inference": starter["providers"]["inference"], "memory": memory}
    return Distribution.model_validate({"version": 1, "name": "quality", "providers": providers})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quality")


@pytest.fixture
async def rankings(home: Path) -> AsyncIterator[Rankings]:
    """Found once for all tests."""
    kept = home / "rankings.json"
    if not kept.exists():
        kept.write_text(json.dumps(await found_rankings(home)))
    read = json.loads(kept.read_text())
    yield {SearchMode(mode): by_question for mode, by_question in read.items()}


async def found_rankings(home: Path) -> Rankings:
    async with open_stack(distribution(), home=home) as stack:
        memory = await stack.memory()
        bank = MemoryBank(identifier="corpus", provider_id="", provider_resource_id="", bank=VectorBank())
        await memory.create_bank(bank, CALLER)
        documents = [
            Document(document_id=name, name=name, content=file.read_text("utf-8"), mime_type=MIME_TYPES[file.suffix])
            for name, file in corpus_files().items()
        ]
        statuses = await memory.insert_documents("corpus", documents, CALLER)
        assert {status.state for status in statuses} == {DocumentState.COMPLETED}
        rankings: Rankings = {mode: {} for mode in SearchMode}
        for question in corpus_questions():
            for mode in SearchMode:
                query = MemoryQuery(query=question.question, max_chunks=FOUND_CHUNKS, mode=mode)
                found = await memory.query(["corpus"], query, CALLER)
                rankings[mode][question.id] = list(dict.fromkeys(chunk.document_id for chunk in found))
    return rankings


def measures_of(rankings: Rankings, questions: list[Question]) -> dict[SearchMode, Measures]:
    return {mode: measured(found, questions) for mode, found in rankings.items()}


async def test_questions_find_what_answers_them(rankings: Rankings) -> None:
    floors = json.loads(FLOORS.read_text())
    questions = corpus_questions()
    sets = {"all": questions, "english": [one for one in questions if one.language == "en"]}
    for name, some in sets.items():
        for mode, reached in measures_of(rankings, some).items():
            for measure, floor in floors[name][mode.value].items():
                assert reached.shown()[measure] >= floor, f"{name} {mode.value}: {reached.shown()}"


async def test_hybrid_search_is_no_worse_than_the_better_of_its_parts(rankings: Rankings) -> None:
    reached = measures_of(rankings, corpus_questions())
    for measure in ("recall_at_5", "mrr", "ndcg_at_10"):
        parts = [getattr(reached[mode], measure) for mode in (SearchMode.VECTOR, SearchMode.KEYWORD)]
        assert getattr(reached[SearchMode.HYBRID], measure) >= max(parts) - HYBRID_SLACK, measure


async def test_every_language_is_searched(rankings: Rankings) -> None:
    """Also those that the small embedder never learnt: there the words must do."""
    questions = corpus_questions()
    for language in sorted({one.language for one in questions}):
        reached = measured(rankings[SearchMode.HYBRID], [one for one in questions if one.language == language])
        assert reached.recall_at_5 >= 0.8, (language, reached.shown())


async def test_the_same_question_finds_the_same_ten_times(home: Path, rankings: Rankings) -> None:
    async with open_stack(distribution(), home=home) as stack:
        memory = await stack.memory()
        query = MemoryQuery(query="How long is the warranty on a tent?", max_chunks=10)
        first = await memory.query(["corpus"], query, CALLER)
        assert first
        for _ in range(9):
            assert await memory.query(["corpus"], query, CALLER) == first
