"""The behaviour of a stack, the same in process and over HTTP, async and sync."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from llama_stack import errors
from llama_stack.api.agents import TurnAwaitingInput, TurnCompleted
from llama_stack.api.common import HealthStatus
from llama_stack.api.inference import (
    ChatEnd,
    ChatEvent,
    ChatRequest,
    EmbeddingAnswer,
    EmbeddingRequest,
    JsonSchemaFormat,
    RerankRequest,
    Sampling,
    TextDelta,
    Usage,
)
from llama_stack.api.messages import (
    AssistantMessage,
    ImagePart,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from llama_stack.api.resources import ModelType
from llama_stack.api.tools import NamedToolChoice, ToolDefinition
from llama_stack.testing.scripted import ScriptedInference, calls, says
from tests.client.ways import CREDENTIALS, Way, play


class Person(BaseModel):
    name: str


async def test_a_question_is_answered(way: Way, inference: ScriptedInference) -> None:
    play(inference, says("Hel", "lo ü", usage=Usage(input_tokens=3, output_tokens=5)))
    answer = await way.chat("Hi")

    assert answer.text == "Hello ü"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage == Usage(input_tokens=3, output_tokens=5)
    assert inference.requests == [ChatRequest(model="scripted", messages=[UserMessage(content="Hi")], whole=True)]


async def test_the_answer_comes_in_the_pieces_the_model_makes(way: Way, inference: ScriptedInference) -> None:
    script = calls(("look", '{"city": "Bergen"}'), ("look", "{}"))
    play(inference, [TextDelta(text="I "), TextDelta(text="look."), *script])
    events = await way.stream("Where?")

    assert without_model(events) == [TextDelta(text="I "), TextDelta(text="look."), *script]
    assert inference.requests == [ChatRequest(model="scripted", messages=[UserMessage(content="Where?")])]


def without_model(events: list[ChatEvent]) -> list[ChatEvent]:
    """In process the provider may leave the model's name out; on the wire it always stands."""
    return [event.model_copy(update={"model": None}) if isinstance(event, ChatEnd) else event for event in events]


EVERYTHING = ChatRequest(
    model="scripted",
    messages=[
        SystemMessage(content="Be brief."),
        UserMessage(
            content=[TextPart(text="What is this?"), ImagePart(url="data:image/png;base64,AA==", detail="low")]
        ),
        AssistantMessage(
            content="I look.", tool_calls=[ToolCall(id="1", name="look", arguments='{ "at":"it"}')], reasoning="hm"
        ),
        ToolMessage(tool_call_id="1", content="a cat"),
        UserMessage(content="Say it again.", name="ann"),
    ],
    tools=[
        ToolDefinition(name="look", description="Look.", parameters={"type": "object", "properties": {}}, strict=True),
        ToolDefinition(name="wait"),
    ],
    tool_choice=NamedToolChoice(names=["look", "wait"], mode="auto"),
    parallel_tool_calls=False,
    tool_prompt_format="json",
    response_format=JsonSchemaFormat(name="cat", json_schema={"type": "object"}, description="A cat.", strict=True),
    sampling=Sampling(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        frequency_penalty=0.1,
        presence_penalty=-0.1,
        repetition_penalty=1.1,
        seed=7,
        stop=["END"],
        max_tokens=99,
        min_tokens=2,
        logit_bias={"5": -1.0},
    ),
    n=2,
    logprobs=True,
    top_logprobs=3,
    reasoning_effort="low",
    user="ann-7",
    whole=True,
    extra={"partner_field": {"deep": [1, None]}},
)


async def test_everything_a_request_says_reaches_the_model(way: Way, inference: ScriptedInference) -> None:
    fields = EVERYTHING.model_copy(deep=True)
    given = {name: getattr(fields, name) for name in ChatRequest.model_fields if name != "messages"}
    await way.stream(fields.messages, **given)

    assert inference.requests == [EVERYTHING]
    unset = ChatRequest.model_fields.keys() - EVERYTHING.model_fields_set
    assert not unset, "a new field must be part of this test"
    assert inference.callers[0].provider_credentials == CREDENTIALS


async def test_options_of_sampling_stand_beside_those_of_the_request(way: Way, inference: ScriptedInference) -> None:
    await way.chat("Hi", instructions="Be brief.", temperature=0, max_tokens=5, sampling=Sampling(seed=1, max_tokens=9))

    (request,) = inference.requests
    assert isinstance(request, ChatRequest)
    assert request.messages[0] == SystemMessage(content="Be brief.")
    assert request.sampling == Sampling(seed=1, temperature=0, max_tokens=5)


async def test_a_model_class_asks_for_json_of_its_shape(way: Way, inference: ScriptedInference) -> None:
    play(inference, says('{"name": "Ada"}'))
    answer = await way.chat("Who?", response_format=Person)

    assert Person.model_validate_json(answer.text) == Person(name="Ada")
    (request,) = inference.requests
    assert isinstance(request, ChatRequest)
    assert request.response_format == JsonSchemaFormat(
        name="Person", json_schema=Person.model_json_schema(), strict=True
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [({"temprature": 1}, "temprature: is no option"), ({"temperature": -1}, "temperature: Input should be greater")],
)
async def test_a_wrong_option_is_named(way: Way, options: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=message):
        await way.chat("Hi", **options)


async def test_texts_become_vectors_of_the_first_embedding_model(way: Way, inference: ScriptedInference) -> None:
    assert (await way.embed(["a", "bcd"])).vectors == [[1.0, 0.5], [3.0, 0.5]]
    assert (await way.embed("ab")).vectors == [[2.0, 0.5]]
    assert inference.requests[0] == EmbeddingRequest(model="meta-llama/scripted-embedding", inputs=["a", "bcd"])


async def test_everything_an_embedding_request_says_reaches_the_model(way: Way, inference: ScriptedInference) -> None:
    request = EmbeddingRequest(
        model="meta-llama/scripted-embedding",
        inputs=[[1, 2], [3]],
        dimensions=2,
        truncate="end",
        task="query",
        user="ann",
        extra={"partner_field": 1},
    )
    inference._embed = lambda asked: EmbeddingAnswer(vectors=[[0.25, 0.5], [0.0, 1.0]], truncated=[1])
    answer = await way.ask("embed", request)

    assert inference.requests == [request]
    assert answer == EmbeddingAnswer(vectors=[[0.25, 0.5], [0.0, 1.0]], truncated=[1])


async def test_documents_are_ordered(way: Way, inference: ScriptedInference) -> None:
    request = RerankRequest(model="m", query="q", documents=["a", "bbb", "cc"], top_n=2, extra={"partner_field": 1})
    answer = await way.ask("rerank", request)

    assert [ranked.index for ranked in answer.results] == [1, 2]
    assert answer.usage == Usage(input_tokens=7)
    assert inference.requests == [request]


async def test_tokens_are_counted(way: Way, inference: ScriptedInference) -> None:
    request = ChatRequest(model="scripted", messages=[UserMessage(content="three small words")])
    assert await way.ask("count_tokens", request) == 3
    (counted,) = inference.requests
    assert isinstance(counted, ChatRequest)
    assert counted.messages == request.messages


async def test_models_and_providers_are_told(way: Way) -> None:
    models = await way.list_models()
    assert [model.identifier for model in models] == ["scripted", "meta-llama/scripted-embedding"]
    assert models[0].context_length == 4096
    assert models[0].metadata == {"family": "none"}
    assert models[1].model_type == ModelType.EMBEDDING
    assert models[1].embedding_dimension == 2
    assert await way.model("meta-llama/scripted-embedding") == models[1]

    (provider,) = await way.providers()
    assert (provider.provider_id, provider.health.status) == ("scripted", HealthStatus.OK)


# --- errors --------------------------------------------------------------------------------------------------------

ERRORS = [
    errors.InvalidRequest("wrong", param="messages.0"),
    errors.InvalidRequest("wrong", code="of_its_own"),
    errors.UnsupportedParameter("cannot", param="n"),
    errors.ContextOverflow("9 tokens do not fit 8", param="messages"),
    errors.NotAuthenticated("who?"),
    errors.NotPermitted("not you"),
    errors.NotFound("there is no model 'x'", param="model", code="model_not_found"),
    errors.Conflict("busy"),
    errors.PayloadTooLarge("too large"),
    errors.RateLimited("slow down", retry_after_s=7),
    errors.RateLimited("slow down", retry_after_s=0.5, code="insufficient_quota"),
    errors.ProviderFailed("it failed"),
    errors.ProviderFailed("it says no", upstream_status=422, param="seed"),
    errors.ProviderFailed("the key is wrong", upstream_status=401, code="invalid_api_key"),
    errors.ProviderFailed("it broke", upstream_status=500),
    errors.ProviderUnavailable("it is away"),
    errors.ProviderTimeout("it is slow"),
    errors.StructuredOutputInvalid("no JSON"),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_an_error_is_the_same_error_everywhere(
    way: Way, inference: ScriptedInference, error: errors.StackError
) -> None:
    play(inference, [error])
    with pytest.raises(errors.StackError) as raised:
        await way.chat("Hi")

    assert facts(raised.value) == facts(error)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_an_error_in_the_middle_of_an_answer_is_the_same_error(
    way: Way, inference: ScriptedInference, error: errors.StackError
) -> None:
    play(inference, [TextDelta(text="I "), error])
    with pytest.raises(errors.StackError) as raised:
        await way.stream("Hi")

    assert facts(raised.value) == facts(error)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_an_error_of_an_embedding_is_the_same_error(
    way: Way, inference: ScriptedInference, error: errors.StackError
) -> None:
    def fail(request: EmbeddingRequest) -> EmbeddingAnswer:
        raise error

    inference._embed = fail
    with pytest.raises(errors.StackError) as raised:
        await way.embed("a")

    assert facts(raised.value) == facts(error)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_an_error_within_a_turn_is_the_same_error(
    way: Way, inference: ScriptedInference, error: errors.StackError
) -> None:
    play(inference, calls(("double", '{"number": 1}')), [TextDelta(text="I "), error])
    with pytest.raises(errors.StackError) as raised:
        await way.agent_run("?", tools=[double])

    assert facts(raised.value) == facts(error)


def facts(error: errors.StackError) -> tuple[object, ...]:
    upstream_status = error.upstream_status if isinstance(error, errors.ProviderFailed) else None
    told = (error.message, error.param, error.code, error.http_status, error.retry_after_s)
    return (type(error), *told, upstream_status)


async def test_an_unknown_model_names_those_there_are(way: Way) -> None:
    with pytest.raises(errors.NotFound, match="there is no model 'scriptet'; did you mean 'scripted'"):
        await way.model("scriptet")


# --- cancellation --------------------------------------------------------------------------------------------------


async def test_leaving_a_stream_early_stops_the_model(way: Way, inference: ScriptedInference) -> None:
    play(inference, [TextDelta(text="Once "), asyncio.Event()])
    assert await way.stream("Tell.", leave_after=1) == [TextDelta(text="Once ")]

    await way.wait_for(inference.closed_early)


# --- agents --------------------------------------------------------------------------------------------------------


def double(number: int) -> int:
    """Twice the number.

    Args:
        number: The number.
    """
    return 2 * number


async def test_an_agent_calls_a_function_and_answers(way: Way, inference: ScriptedInference) -> None:
    play(inference, calls(("double", '{"number": 21}')), says("It is 42."))
    result = await way.agent_run("What is twice 21?", instructions="Use tools.", tools=[double])

    assert result.text == "It is 42."
    assert [step.type for step in result.steps] == ["inference", "tool_execution", "inference"]
    assert result.turn.end_reason == "completed"
    last = inference.requests[-1]
    assert isinstance(last, ChatRequest)
    assert [message.role for message in last.messages] == ["system", "user", "assistant", "tool"]
    assert last.messages[-1] == ToolMessage(tool_call_id="call_0", name="double", content="42")


async def test_an_agents_steps_are_seen_as_they_happen(way: Way, inference: ScriptedInference) -> None:
    play(inference, calls(("double", '{"number": 21}')), says("It is 42."))
    events = await way.agent_stream("What is twice 21?", tools=[double])

    assert isinstance(events[-1], TurnCompleted)
    assert [event.type for event in events if event.type.startswith("tool_call")] == [
        "tool_call_started",
        "tool_call_finished",
    ]


async def test_a_session_remembers(way: Way, inference: ScriptedInference) -> None:
    play(inference, says("Hello Ann."), says("You are Ann."))
    conversation = way.conversation(instructions="Be kind.")
    await conversation.run("I am Ann.")
    await conversation.run("Who am I?")

    last = inference.requests[-1]
    assert isinstance(last, ChatRequest)
    assert last.messages == [
        SystemMessage(content="Be kind."),
        UserMessage(content="I am Ann."),
        AssistantMessage(content="Hello Ann."),
        UserMessage(content="Who am I?"),
    ]


async def test_a_session_waits_for_tools_of_the_application_itself(way: Way, inference: ScriptedInference) -> None:
    play(inference, calls(("pick", '{"color": "red"}'), ("double", '{"number": 1}')), says("Red and 2."))
    pick = ToolDefinition(name="pick", parameters={"type": "object", "required": ["color"]})
    conversation = way.conversation(tools=[pick, double])
    paused = await conversation.run("Pick and double.")

    assert paused.text == ""
    assert [call.name for call in paused.awaiting] == ["pick"]

    result = await conversation.run([ToolMessage(tool_call_id=paused.awaiting[0].id, content="red")])
    assert result.text == "Red and 2."
    assert not result.awaiting


async def test_a_paused_turn_may_be_streamed(way: Way, inference: ScriptedInference) -> None:
    play(inference, calls(("pick", "{}")))
    events = await way.agent_stream("Pick.", tools=[ToolDefinition(name="pick")])

    assert isinstance(events[-1], TurnAwaitingInput)


async def test_a_function_that_cannot_be_a_tool_is_refused_at_once(way: Way) -> None:
    def unannotated(city): ...  # type: ignore[no-untyped-def]

    with pytest.raises(errors.InvalidRequest, match="parameter 'city' has no type annotation"):
        await way.agent_run("?", tools=[unannotated])
