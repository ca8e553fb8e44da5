"""Every parameter of the `openai` package for responses and conversations is served, or refused by its name."""

from typing import Any, get_type_hints

import pytest
from openai import BadRequestError
from openai.types.conversations import (
    conversation_create_params,
    conversation_update_params,
    item_create_params,
    item_list_params,
    item_retrieve_params,
)
from openai.types.responses import (
    Response,
    input_item_list_params,
    input_token_count_params,
    response_compact_params,
    response_create_params,
    response_retrieve_params,
    responses_client_event_param,
)

from llama_stack.api.inference import ReasoningDelta
from llama_stack.testing.scripted import says
from tests.responses.conftest import Start, streamed, told
from tests.responses.test_responses_websocket import until_last

TOOL: Any = {"type": "function", "name": "mine", "parameters": {"type": "object"}, "strict": False, "description": "d"}
FORMAT: Any = {"type": "json_object"}

ECHOED: dict[str, Any] = {
    "background": False,
    "instructions": "Be brief.",
    "max_output_tokens": 50,
    "max_tool_calls": 3,
    "metadata": {"a": "b"},
    "model": "scripted",
    "parallel_tool_calls": False,
    "prompt_cache_key": "k",
    "prompt_cache_retention": "in_memory",
    "reasoning": {"effort": "max", "summary": "auto"},
    "safety_identifier": "s",
    "service_tier": "default",
    "temperature": 0.5,
    "text": {"format": {"type": "text"}, "verbosity": "low"},
    "tool_choice": "auto",
    "tools": [TOOL],
    "top_logprobs": 2,
    "top_p": 0.5,
    "truncation": "auto",
    "user": "u",
}
"""Parameters that the response object repeats, with values that are not the defaults."""
SERVED = {
    "context_management",
    "conversation",
    "include",
    "input",
    "moderation",
    "previous_response_id",
    "store",
    "stream",
    "stream_options",
}
"""Parameters that do something; the tests of this folder say what."""
REFUSED: dict[str, tuple[Any, list[Any]]] = {
    "access_programs": ({"cyber": "daybreak_blue"}, []),
    "image": ({"context_compression": "enabled"}, [{"context_compression": "auto"}]),
    "prompt": ({"id": "pmpt_1"}, []),
    "prompt_cache_options": ({"mode": "explicit"}, [{"mode": "implicit"}]),
}
"""Parameters that are refused, and values of theirs that ask for nothing and are taken."""


def names(params: Any) -> set[str]:
    return set(get_type_hints(params))


async def test_no_parameter_of_a_response_is_unheard_of(start: Start) -> None:
    """Those that this version of the package has and we have not heard of are refused by their names."""
    known = ECHOED.keys() | SERVED | REFUSED.keys()
    theirs = names(response_create_params.ResponseCreateParamsStreaming)
    assert known <= theirs
    assert known | {"type", "generate", "stream_id"} <= names(responses_client_event_param.ResponseCreate)
    async with start(says("Hi")) as running:
        for name in theirs - known:
            with pytest.raises(BadRequestError) as error:
                await running.openai.responses.create(model="scripted", input="Hi", extra_body={name: "given"})
            assert error.value.param == name


async def test_what_is_asked_is_repeated_by_the_response(start: Start) -> None:
    async with start(says("Hi")) as running:
        response = await running.openai.responses.create(input="Hi", **ECHOED)
        kept = await running.openai.responses.retrieve(response.id)
    shown = response.to_dict()
    assert {name: shown[name] for name in ECHOED} == ECHOED
    assert kept.to_dict() == shown
    # OpenAI sends it, too, though its types leave it out.
    assert shown.keys() - Response.model_fields.keys() == {"store"}


async def test_what_cannot_be_done_is_refused_and_what_asks_for_nothing_is_taken(start: Start) -> None:
    async with start(says("Hi")) as running:
        for name, (refused, taken) in REFUSED.items():
            with pytest.raises(BadRequestError) as error:
                await running.openai.responses.create(model="scripted", input="Hi", **{name: refused})
            assert (error.value.param, error.value.code) == (name, "unsupported_parameter")
            assert len(str(error.value)) > len(f"{name}: not supported; ")
            for value in taken:
                await running.openai.responses.create(model="scripted", input="Hi", **{name: value})


async def test_only_a_completed_response_says_when_it_was_completed(start: Start) -> None:
    async with start(says("Hi"), says("Hi", finish_reason="length")) as running:
        whole = await running.openai.responses.create(model="scripted", input="Hi")
        cut = await running.openai.responses.create(model="scripted", input="Hi")
    assert whole.completed_at is not None
    assert (cut.status, cut.completed_at) == ("incomplete", None)


RETRIEVED = {"include", "include_obfuscation", "starting_after", "stream"}
LISTED = {"after", "include", "limit", "order"}


async def test_parameters_of_reading_are_kept_to_or_refused(start: Start) -> None:
    assert names(response_retrieve_params.ResponseRetrieveParamsStreaming) == RETRIEVED
    assert names(input_item_list_params.InputItemListParams) == LISTED
    async with start([ReasoningDelta(text="hm"), *says("Hi")]) as running:
        responses, http = running.openai.responses, running.http
        first = await responses.create(model="scripted", input="1", include=["reasoning.encrypted_content"])
        items: Any = [item.to_dict() for item in first.output]
        second = await responses.create(model="scripted", input=items)
        plain: Any = (await responses.retrieve(second.id)).output[0]
        whole: Any = (await responses.retrieve(second.id, include=["reasoning.encrypted_content"])).output[0]
        listed = responses.input_items.list
        bare: Any = (await listed(second.id, order="asc")).data[0]
        full: Any = (await listed(second.id, order="asc", include=["reasoning.encrypted_content"])).data[0]
        wrong = {
            "include=everything": "include",
            "include_obfuscation=true": "include_obfuscation",
            "starting_after=1": "starting_after",
            "stream=true": "stream",
            "stream=maybe": "stream",
        }
        for query, param in wrong.items():
            answer = await http.get(f"/v1/responses/{second.id}?{query}")
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), query
        for query in ("include=everything", "limit=0", "limit=101", "order=up", "after=msg_1"):
            answer = await http.get(f"/v1/responses/{second.id}/input_items?{query}")
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0]), query
    assert (plain.encrypted_content, bare.encrypted_content) == (None, None)
    assert whole.encrypted_content == full.encrypted_content == items[0]["encrypted_content"]


async def test_a_log_of_events_has_what_its_response_asked_for(start: Start) -> None:
    async with start([ReasoningDelta(text="hm"), *says("Hi")]) as running:
        for include in ([], ["reasoning.encrypted_content"]):
            made = await streamed(running.openai, input="?", background=True, include=include)
            wanted: Any = {"stream": True, "include": ["reasoning.encrypted_content"]}
            if not include:
                with pytest.raises(BadRequestError, match=r"written without reasoning\.encrypted_content"):
                    await running.openai.responses.retrieve(made[0].response.id, **wanted)
                continue
            stream = await running.openai.responses.retrieve(made[0].response.id, **wanted)
            again: list[Any] = [event async for event in stream]
            assert again[-1].response.output[0].encrypted_content is not None


async def test_deltas_are_padded_to_hide_their_length(start: Start) -> None:
    asked: Any = {"input": "?", "stream_options": {"include_obfuscation": True}}
    texts = ("Hi", " there", ", how are you today, my dear old friend?")
    async with start(says(*texts)) as running:
        events = await streamed(running.openai, **asked)
        plain = await streamed(running.openai, input="?", stream_options={"include_obfuscation": False})
        await streamed(running.openai, background=True, **asked)
        logged = await streamed(running.openai, input="?", background=True)
        wanted: Any = {"stream": True, "include_obfuscation": True}
        again = [event async for event in await running.openai.responses.retrieve(logged[0].response.id, **wanted)]
        async with running.openai.responses.connect() as connection:
            await connection.response.create(model="scripted", **asked)
            sent = await until_last(connection)
    for made in (events, again, sent):
        deltas: Any = [event for event in made if event.type == "response.output_text.delta"]
        assert [event.delta for event in deltas] == list(texts)
        assert [len(event.delta) + len(event.obfuscation) for event in deltas] == [32, 32, 64]
        assert not any(hasattr(event, "obfuscation") for event in made if event not in deltas)
    assert not any(hasattr(event, "obfuscation") for event in [*plain, *logged])


async def test_what_an_item_refers_to_stays_part_of_the_chain(start: Start) -> None:
    async with start(says("Owls."), says("Yes."), says("Still.")) as running:
        create = running.openai.responses.create
        first = await create(model="scripted", input="?")
        again: list[Any] = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "Sure?"}]
        second = await create(model="scripted", input=again)
        await running.openai.responses.delete(first.id)
        third = await create(model="scripted", input="Really?", previous_response_id=second.id)
        items = await running.openai.responses.input_items.list(second.id, order="asc")
    assert third.output_text == "Still."
    assert [message.content for message in told(running)] == ["Owls.", "Sure?", "Yes.", "Really?"]
    assert [item.type for item in items.data] == ["message", "message"]


COMPACTED: dict[str, Any] = {
    "image": {"context_compression": "disabled"},
    "input": "Hi",
    "instructions": "Be brief.",
    "model": "scripted",
    "previous_response_id": None,
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "in_memory",
    "service_tier": "default",
}
COUNTED: dict[str, Any] = {
    "conversation": None,
    "input": "Hi",
    "instructions": "Be brief.",
    "model": "scripted",
    "parallel_tool_calls": False,
    "previous_response_id": None,
    "reasoning": {"effort": "low"},
    "text": {"format": FORMAT},
    "tool_choice": "auto",
    "tools": [TOOL],
    "truncation": "auto",
}


async def test_compacting_and_counting_take_all_their_parameters(start: Start) -> None:
    assert names(response_compact_params.ResponseCompactParams) == COMPACTED.keys()
    assert names(input_token_count_params.InputTokenCountParams) == COUNTED.keys() | {"personality"}
    async with start(says("Hi")) as running:
        compacted = await running.openai.responses.compact(**COMPACTED)
        count = await running.openai.responses.input_tokens.count(**COUNTED)
        instructions = await running.openai.responses.input_tokens.count(model="scripted", instructions="Be brief.")
        for method, param in (("input_tokens", "personality"), ("compact", "temperature")):
            body = {"model": "scripted", "input": "Hi", param: "friendly"}
            answer = await running.http.post(f"/v1/responses/{method}", json=body)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        for method in ("input_tokens", "compact"):
            answer = await running.http.post(f"/v1/responses/{method}", json={"model": "scripted"})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
    assert [item.type for item in compacted.output] == ["message", "compaction"]
    assert 0 < instructions.input_tokens < count.input_tokens


async def test_parameters_of_conversations_are_kept_to_or_refused(start: Start) -> None:
    assert names(conversation_create_params.ConversationCreateParams) == {"items", "metadata"}
    assert names(conversation_update_params.ConversationUpdateParams) == {"metadata"}
    assert names(item_create_params.ItemCreateParams) == {"items", "include"}
    assert names(item_list_params.ItemListParams) == LISTED
    assert names(item_retrieve_params.ItemRetrieveParams) == {"conversation_id", "include"}
    async with start([ReasoningDelta(text="hm"), *says("Hi")]) as running:
        conversations, http = running.openai.conversations, running.http
        made = await conversations.create(metadata={"a": "b"})
        emptied = await conversations.update(made.id, metadata=None)
        await running.openai.responses.create(model="scripted", input="1", conversation=made.id)
        wanted: Any = ["reasoning.encrypted_content"]
        listed = (await conversations.items.list(made.id, order="asc", include=wanted)).data
        bare: Any = (await conversations.items.list(made.id, order="asc")).data
        reasoning: Any = listed[1]
        one: Any = await conversations.items.retrieve(reasoning.id, conversation_id=made.id, include=wanted)
        sent: Any = {"type": "reasoning", "summary": [], "encrypted_content": reasoning.encrypted_content}
        added: Any = await conversations.items.create(made.id, items=[sent], include=wanted)
        items_of = f"/v1/conversations/{made.id}/items"
        for query in ("include=everything", "limit=0", "order=up", "after=msg_1"):
            answer = await http.get(f"{items_of}?{query}")
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0]), query
        answer = await http.get(f"{items_of}/{reasoning.id}?include=everything")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "include")
    assert emptied.metadata == {}
    assert [item.type for item in listed] == ["message", "reasoning", "message"]
    assert bare[1].encrypted_content is None
    assert reasoning.encrypted_content == one.encrypted_content == added.data[0].encrypted_content
    assert reasoning.encrypted_content is not None
