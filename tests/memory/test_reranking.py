"""What was found is put in a better order by a cross-encoder, or by a chat model that lists the helpful passages."""

import pytest

from llama_stack.api.chunk_index import FoundChunk
from llama_stack.api.common import Caller
from llama_stack.api.inference import Capabilities
from llama_stack.api.memory import Chunk
from llama_stack.api.messages import text_of
from llama_stack.errors import ContextOverflow
from llama_stack.memory.reranking import MAX_JUDGED, reranked
from llama_stack.testing.scripted import ScriptedInference
from tests.agents.scripts import chats, says

CALLER = Caller(owner="alice")
CHATS_ONLY = Capabilities(rerank=False)


def found(*texts: str) -> list[FoundChunk]:
    return [
        FoundChunk(chunk=Chunk(chunk_id=f"c{at}", document_id="d", content=text, headings=["Gear"]), score=1 - at / 100)
        for at, text in enumerate(texts)
    ]


def texts(chunks: list[FoundChunk]) -> list[str]:
    return [one.chunk.content for one in chunks]


async def test_a_cross_encoder_reads_the_titles_too_and_its_scores_count() -> None:
    inference = ScriptedInference()
    ranked = await reranked("scripted", "q", found("a", "a longer one", "mid"), inference, CALLER)
    assert texts(ranked) == ["a longer one", "mid", "a"]
    assert ranked[0].score == len("Gear\na longer one")


@pytest.mark.parametrize(
    ("said", "order"),
    [
        ("[3, 1]", ["c", "a", "b"]),
        ("The most helpful are [2].", ["b", "a", "c"]),
        ("[]", ["a", "b", "c"]),
        ("I cannot say.", ["a", "b", "c"]),
        ("[9, 0, 2, 2]", ["b", "a", "c"]),
        ("[1,, 2]", ["a", "b", "c"]),
    ],
)
async def test_a_chat_model_lists_what_helps_and_nothing_is_lost(said: str, order: list[str]) -> None:
    inference = ScriptedInference(says(said), capabilities=CHATS_ONLY)
    ranked = await reranked("scripted", "which stove?", found("a", "b", "c"), inference, CALLER)
    assert texts(ranked) == order
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
    asked = text_of(chats(inference)[0].messages[0].content)
    assert "Question: which stove?" in asked
    assert "[2] Gear\nb" in asked


async def test_a_chat_model_with_a_small_window_is_shown_less_of_each() -> None:
    long = found("a " * 1_000, "b " * 1_000)
    inference = ScriptedInference([ContextOverflow("too long")], says("[2]"), capabilities=CHATS_ONLY)
    ranked = await reranked("scripted", "q", long, inference, CALLER)
    assert ranked[0].chunk.content == "b " * 1_000
    first, second = (len(text_of(request.messages[0].content)) for request in chats(inference))
    assert second < first / 2
    overflowing = ScriptedInference(*[[ContextOverflow("too long")]] * 3, capabilities=CHATS_ONLY)
    with pytest.raises(ContextOverflow):
        await reranked("scripted", "q", long, overflowing, CALLER)


async def test_a_chat_model_is_shown_no_more_than_it_can_judge() -> None:
    many = found(*(f"text {number}" for number in range(40)))
    inference = ScriptedInference(says("[20]"), capabilities=CHATS_ONLY)
    ranked = await reranked("scripted", "q", many, inference, CALLER)
    assert texts(ranked)[0] == "text 19"
    assert len(ranked) == 40
    assert f"[{MAX_JUDGED + 1}]" not in text_of(chats(inference)[0].messages[0].content)


async def test_nothing_found_asks_nobody() -> None:
    inference = ScriptedInference(says("[1]"), capabilities=CHATS_ONLY)
    assert await reranked("scripted", "q", [], inference, CALLER) == []
    assert inference.requests == []
