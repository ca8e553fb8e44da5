"""Files in, cited answers out: `file_search` as an unmodified `openai` client uses it, over real memory banks."""

from typing import Any

import pytest
from openai import BadRequestError, NotFoundError

from llama_stack.api.inference import ChatRequest
from llama_stack.api.messages import AssistantMessage, ToolMessage
from llama_stack.api.tools import NamedToolChoice
from llama_stack.testing.scripted import calls, says
from tests.responses.conftest import Running, Start, streamed, told
from tests.responses.manuals import ASKS, BOOTS, LAMP, search, stored, with_files


def asked_of(running: Running) -> list[ChatRequest]:
    return [request for request in running.inference.requests if isinstance(request, ChatRequest)]


async def test_files_are_searched_shown_and_cited(start: Start) -> None:
    answer = says("The warranty lasts 42 months ", "【1†", "lamp.txt】.")
    async with with_files(start, ASKS, answer) as (running, store_id):
        events = await streamed(
            running.openai, input="Warranty?", tools=[search(store_id)], include=["file_search_call.results"]
        )
        response_id = events[0].response.id
        without = await running.openai.responses.retrieve(response_id)
        offered = asked_of(running)[0].tools
        read = told(running)[-1]
    types = [event.type.removeprefix("response.") for event in events]
    assert types == [
        "created",
        "in_progress",
        "output_item.added",
        "file_search_call.in_progress",
        "file_search_call.searching",
        "file_search_call.completed",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.annotation.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [tool.name for tool in offered] == ["file_search"]
    assert isinstance(read, ToolMessage)
    assert "[1] (document lamp.txt)\n" + LAMP in str(read.content)
    found, message = events[-1].response.output
    assert (found.type, found.status) == ("file_search_call", "completed")
    assert found.queries == ["How long is the warranty of the lamp?"]
    best = found.results[0]
    assert (best.filename, best.text, best.attributes) == ("lamp.txt", LAMP, {"kind": "lamp"})
    assert best.file_id.startswith("file-")
    assert best.score > 0
    assert (best.start, best.end, best.page) == (0, len(LAMP), None)
    # The mark of this form is no natural text: neither the stream nor the whole shows it.
    text = message.content[0]
    assert text.text == "The warranty lasts 42 months."
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == text.text
    [note] = text.annotations
    assert note.model_dump(exclude={"chunk_id", "file_id"}) == {
        "type": "file_citation",
        "index": len("The warranty lasts 42 months"),
        "filename": "lamp.txt",
        "page": None,
        "start": LAMP.index("Its"),
        "end": len(LAMP),
        "quote": "Its warranty lasts 42 months from the day of purchase.",
    }
    assert (note.file_id, note.chunk_id) == (best.file_id, best.chunk_id)
    added = next(event for event in events if event.type == "response.output_text.annotation.added")
    assert added.annotation.model_dump() == note.model_dump()
    assert without.output == events[-1].response.output


async def test_results_are_shown_to_those_who_ask(start: Start) -> None:
    async with with_files(start, ASKS, says("42 months [1].")) as (running, store_id):
        made = await running.openai.responses.create(model="scripted", input="?", tools=[search(store_id)])
        asked = await running.openai.responses.retrieve(made.id, include=["file_search_call.results"])
    [shown, message], [full, _] = made.output, asked.output
    assert shown.type == full.type == "file_search_call"
    assert shown.results is None
    assert [result.filename for result in full.results or ()] == ["lamp.txt", "boots.txt"]
    assert message.type == "message"
    assert message.content[0].type == "output_text"
    # A mark that is natural text stays, and the citation stands where it stands.
    assert message.content[0].text == "42 months [1]."
    assert [note.index for note in message.content[0].annotations] == [10]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("answer", "cited"),
    [
        ("I looked it up. The lamp's warranty lasts 42 months.", "lamp.txt"),
        ("Never dry the boots on a stove.", "boots.txt"),
        ("No idea.", "lamp.txt"),
    ],
)
async def test_an_answer_without_marks_is_cited_all_the_same(start: Start, answer: str, cited: str) -> None:
    async with with_files(start, ASKS, says(answer)) as (running, store_id):
        made = await running.openai.responses.create(model="scripted", input="?", tools=[search(store_id)])
    message: Any = made.output[-1]
    assert message.content[0].text == answer
    [note] = message.content[0].annotations
    assert (note.filename, note.index) == (cited, len(answer))
    assert note.quote in (LAMP if cited == "lamp.txt" else BOOTS)


async def test_an_answer_for_which_nothing_was_searched_stays_as_it_is(start: Start) -> None:
    async with with_files(start, says("Hello 【1†source】 [1].")) as (running, store_id):
        made = await running.openai.responses.create(model="scripted", input="Hi", tools=[search(store_id)])
    message: Any = made.output[-1]
    assert (message.content[0].text, message.content[0].annotations) == ("Hello 【1†source】 [1].", [])


@pytest.mark.parametrize(
    "filters", [{"type": "eq", "key": "kind", "value": "boot"}, {"kind": "boot"}], ids=["full", "plain"]
)
async def test_filters_limits_and_ranking_reach_the_search(start: Start, filters: dict[str, str]) -> None:
    async with with_files(start, ASKS, says("See [1].")) as (running, store_id):
        tools = [
            search(
                store_id,
                filters=filters,
                max_num_results=1,
                ranking_options={"ranker": "auto", "score_threshold": 0},
            )
        ]
        made = await running.openai.responses.create(
            model="scripted", input="?", tools=tools, include=["file_search_call.results"]
        )
    found: Any = made.output[0]
    assert [result.filename for result in found.results] == ["boots.txt"]
    assert made.tools[0].model_dump(exclude_none=True)["max_num_results"] == 1


async def test_several_stores_are_searched_together(start: Start) -> None:
    async with with_files(start, ASKS, says("See [2].")) as (running, lamp):
        boots = await stored(running.openai, {"care.txt": "Care of the lamp: never dry its glass while it is warm."})
        made = await running.openai.responses.create(
            model="scripted", input="?", tools=[search(lamp, boots)], include=["file_search_call.results"]
        )
    found: Any = made.output[0]
    assert {result.filename for result in found.results} == {"lamp.txt", "boots.txt", "care.txt"}
    message: Any = made.output[1]
    assert message.content[0].annotations[0].filename == found.results[1].filename


async def test_what_is_wrong_is_said_before_anything_runs(start: Start) -> None:
    wrong: list[tuple[Any, str]] = [
        (search(), "tools.0.vector_store_ids"),
        (search("vs_1", max_num_results=51), "tools.0.max_num_results"),
        (search("vs_1", filters={"type": "like", "key": "a", "value": "b"}), "tools.0.filters"),
        (search("vs_1", ranking_options={"ranker": "auto", "depth": 1}), "tools.0.ranking_options"),
        (
            search("vs_1", ranking_options={"hybrid_search": {"embedding_weight": 0, "text_weight": 0}}),
            "tools.0.ranking_options.hybrid_search",
        ),
        (search("vs_1", size=3), "tools.0.size"),
    ]
    async with with_files(start, says("Hi"), files={}) as (running, store_id):
        for tool, field in wrong:
            with pytest.raises(BadRequestError) as refused:
                await running.openai.responses.create(model="scripted", input="?", tools=[tool])
            assert str(refused.value.param).startswith(field)
        extras: list[dict[str, Any]] = [{}, {"background": True}, {"stream": True}]
        for extra in extras:
            with pytest.raises(NotFoundError) as unknown:
                await running.openai.responses.create(
                    **{"model": "scripted", "input": "?", "tools": [search(store_id, "vs_nowhere")], **extra}
                )
            assert "vs_nowhere" in str(unknown.value)
            assert unknown.value.param == "tools.0.vector_store_ids"
        with pytest.raises(NotFoundError, match=r"ranking_options\.ranker"):
            tool = search(store_id, ranking_options={"ranker": "no-such-reranker"})
            await running.openai.responses.create(model="scripted", input="?", tools=[tool])
        assert running.inference.requests == []
        assert (await running.rows())["responses"] == 0


async def test_another_owners_store_is_not_there(start: Start) -> None:
    async with with_files(start, says("Hi"), files={}) as (running, _):
        from llama_stack.api.common import Caller
        from llama_stack.api.resources import MemoryBank, VectorBank

        memory = await running.stack.memory()
        bank = MemoryBank(identifier="vs_hers", provider_id="", provider_resource_id="", bank=VectorBank())
        await memory.create_bank(bank, Caller(owner="somebody-else"))
        with pytest.raises(NotFoundError):
            await running.openai.responses.create(model="scripted", input="?", tools=[search("vs_hers")])


async def test_a_search_that_fails_is_told_to_the_model(start: Start) -> None:
    """A filter that a bank cannot serve is found out only when it is asked."""
    async with with_files(start, ASKS, says("I cannot search.")) as (running, store_id):
        deep: Any = {"type": "eq", "key": "kind", "value": "lamp"}
        for _ in range(40):
            deep = {"type": "and", "filters": [deep]}
        events = await streamed(running.openai, input="?", tools=[search(store_id, filters=deep)])
        read = told(running)[-1]
    found, message = events[-1].response.output
    assert (found.type, found.status, found.results) == ("file_search_call", "failed", None)
    assert "filters" in str(read.content)
    assert message.content[0].annotations == []


async def test_the_chain_and_the_items_handed_back_tell_what_was_read(start: Start) -> None:
    scripts = (ASKS, says("42 months [1]."), says("Yes."), says("Yes."), says("Yes."), says("Yes."))
    async with with_files(start, *scripts) as (running, store_id):
        tools = [search(store_id)]
        first = await running.openai.responses.create(model="scripted", input="Warranty?", tools=tools)
        with_results = await running.openai.responses.retrieve(first.id, include=["file_search_call.results"])
        await running.openai.responses.create(
            model="scripted", input="Sure?", tools=tools, previous_response_id=first.id
        )
        chained = told(running)
        back = [item.model_dump(exclude_none=True) for item in first.output]
        asked: Any = [{"role": "user", "content": "Warranty?"}, *back, {"role": "user", "content": "Sure?"}]
        await running.openai.responses.create(model="scripted", input=asked, tools=tools)
        handed_back = told(running)
        stranger = with_results.output[0].model_dump(exclude_none=True) | {"id": "fs_from_elsewhere"}
        asked = [{"role": "user", "content": "Warranty?"}, stranger, {"role": "user", "content": "Sure?"}]
        await running.openai.responses.create(model="scripted", input=asked, tools=tools)
        foreign = told(running)
    for messages in (chained, handed_back):
        assert [message.role for message in messages] == ["user", "assistant", "tool", "assistant", "user"]
        assert LAMP in messages[2].content
        assert messages[3].content == "42 months [1]."
    calling = foreign[1]
    assert isinstance(calling, AssistantMessage)
    assert calling.tool_calls[0].name == "file_search"
    assert foreign[2].content.startswith(f"[1] (document lamp.txt)\n{LAMP}")


async def test_an_answer_may_go_back_to_what_was_read_before(start: Start) -> None:
    later = (
        says("As I said, 42 months 【1†lamp.txt】."),
        says("Its warranty lasts 42 months."),
        says("You are welcome!"),
    )
    async with with_files(start, ASKS, says("42 months."), *later) as (running, store_id):
        asked: Any = {"model": "scripted", "tools": [search(store_id)]}
        made = await running.openai.responses.create(input="Warranty?", **asked)
        notes = []
        for _ in later:
            made = await running.openai.responses.create(input="Sure?", previous_response_id=made.id, **asked)
            message: Any = made.output[0]
            notes.append((message.content[0].text, [note.quote for note in message.content[0].annotations]))
    quote = "Its warranty lasts 42 months from the day of purchase."
    assert notes == [
        ("As I said, 42 months.", [quote]),
        ("Its warranty lasts 42 months.", [quote]),
        # Nothing was searched for it, and it tells nothing of the files.
        ("You are welcome!", []),
    ]


async def test_a_search_can_be_demanded(start: Start) -> None:
    async with with_files(start, ASKS, says("42 months.")) as (running, store_id):
        await running.openai.responses.create(
            model="scripted", input="?", tools=[search(store_id)], tool_choice={"type": "file_search"}
        )
        choices = [request.tool_choice for request in asked_of(running)]
    assert choices == [NamedToolChoice(names=["file_search"]), "auto"]


async def test_two_searches_number_from_one_and_the_words_tell_which_is_meant(start: Start) -> None:
    again = calls(("file_search", '{"query": "How are boots dried?"}'))
    answer = says("The warranty of the lamp lasts 42 months [1]. Dry the boots slowly [1].")
    async with with_files(start, ASKS, again, answer) as (running, store_id):
        tools = [search(store_id, max_num_results=1)]
        made = await running.openai.responses.create(model="scripted", input="?", tools=tools)
    message: Any = made.output[-1]
    assert [item.type for item in made.output] == ["file_search_call", "file_search_call", "message"]
    assert [note.filename for note in message.content[0].annotations] == ["lamp.txt", "boots.txt"]


async def test_passages_keep_to_the_window_of_the_model(start: Start) -> None:
    parts = {f"part{number}.txt": f"Lamp number {number}. " + "It shines brightly. " * 20 for number in range(8)}
    async with with_files(start, ASKS, says("See [1]."), files=parts, context_length=2100) as (running, store_id):
        made = await running.openai.responses.create(
            model="scripted", input="?", tools=[search(store_id)], include=["file_search_call.results"]
        )
        read = str(told(running)[-1].content)
    found: Any = made.output[0]
    assert len(found.results) == 8
    assert 1 <= read.count("(document part") < 8
    assert len(read) < 2100 * 3 / 3 + 200


async def test_a_stored_response_cites_the_same_after_a_restart_and_in_the_background(start: Start) -> None:
    answer = says("The lamp's warranty lasts 42 months 【1†x】.")
    async with with_files(start, ASKS, answer) as (running, store_id):
        queued = await running.openai.responses.create(
            model="scripted", input="?", tools=[search(store_id)], background=True, stream=True
        )
        events = [event async for event in queued]
    async with with_files(start, says("Hi"), files={}) as (running, _):
        kept = await running.openai.responses.retrieve(events[0].response.id)  # type: ignore[union-attr]
    assert kept.status == "completed"
    assert kept.output_text == "The lamp's warranty lasts 42 months."
    message: Any = kept.output[-1]
    assert [note.filename for note in message.content[0].annotations] == ["lamp.txt"]
    assert kept.output == events[-1].response.output  # type: ignore[union-attr]
