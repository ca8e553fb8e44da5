"""Memory in an agent's turns, over a real stack: what the banks are asked, what is cited, and a session's own files."""

from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_stack.agents.retrieval import MAX_QUERY_CHARACTERS, context_tokens, file_search, question_of
from llama_stack.agents.service import AgentService
from llama_stack.api.agents import (
    AgentConfig,
    InferenceStep,
    MemoryRetrievalStep,
    StepProgress,
    Turn,
    TurnCompleted,
    TurnSettings,
)
from llama_stack.api.inference import ChatRequest, TextDelta, TokenLogprob
from llama_stack.api.memory import Document, MemoryQuery
from llama_stack.api.messages import Message, TextPart, UserMessage, text_of
from llama_stack.api.resources import KeywordBank, MemoryBank, VectorBank
from llama_stack.api.safety import ShieldVerdict, Violation, ViolationLevel
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.cli.chat_screen import ChatScreen, shown_history
from llama_stack.compose import LocalStack
from llama_stack.errors import InvalidRequest, NotFound, UnsupportedParameter
from llama_stack.memory.context import as_context, passages_of, passages_told, told_passages
from llama_stack.testing.scripted import Script, calls, says
from tests.documents.files import pdf_file
from tests.memory.hashed import ALICE, BOB, EmbeddingInference, open_memory_stack

LAMP = "The lamp shines for 1,200 hours. Its warranty lasts 42 months from the day of purchase."
BOOTS = "The boots are made of leather. Dry them slowly, never on a stove."
LONG = "\n\n".join(
    [f"Chapter {number}: nothing of note happened on day {number}." for number in range(400)] + ["The code is 7391."]
)


class Held:
    """A stack whose model follows a script, with a bank of two manuals, and one session of one agent."""

    def __init__(self, stack: LocalStack, inference: EmbeddingInference, agents: AgentService) -> None:
        self.stack = stack
        self.inference = inference
        self.agents = agents
        self.place = ("", "")

    async def begin(self, banks: Sequence[str] = ("manuals",), **config: Any) -> None:
        wanted = AgentConfig(model="scripted", memory_banks=list(banks), **config)
        agent = await self.agents.create_agent(wanted, ALICE)
        session = await self.agents.create_session(agent.agent_id, "s", ALICE)
        self.place = agent.agent_id, session.session_id

    async def turn(self, question: str, **more: Any) -> tuple[Turn, str]:
        """The turn, and its text as it was streamed."""
        told, turn = "", None
        async for event in self.agents.create_turn(*self.place, [UserMessage(content=question)], ALICE, **more):
            match event:
                case StepProgress(event=TextDelta(text=text)):
                    told += text
                case TurnCompleted():
                    turn = event.turn
        assert turn is not None
        return turn, told

    def read(self, number: int = -1) -> str:
        """The last message that the model was given."""
        requests = [request for request in self.inference.requests if isinstance(request, ChatRequest)]
        return text_of(requests[number].messages[-1].content)

    async def banks(self) -> set[str]:
        return {bank.identifier for bank in await self.stack.registry.resources(MemoryBank, ALICE)}


@asynccontextmanager
async def held(home: Path, *scripts: Script, **settings: Any) -> AsyncIterator[Held]:
    inference = EmbeddingInference(*scripts)
    async with open_memory_stack(home, inference=inference, **settings) as stack:
        memory = await stack.memory()
        bank = MemoryBank(identifier="manuals", provider_id="", provider_resource_id="", bank=VectorBank())
        if "manuals" not in {one.identifier for one in await stack.registry.resources(MemoryBank, ALICE)}:
            await memory.create_bank(bank, ALICE)
            documents = [
                Document(document_id="lamp", content=LAMP, name="lamp.txt"),
                Document(document_id="boots", content=BOOTS, name="boots.txt"),
            ]
            await memory.insert_documents("manuals", documents, ALICE)
        agents = await stack.agents()
        assert isinstance(agents, AgentService)
        one = Held(stack, inference, agents)
        await one.begin()
        yield one


# --- citations -----------------------------------------------------------------------------------------------------


async def test_the_answer_of_a_turn_is_cited_and_its_stream_has_no_mark_that_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = says("The warranty lasts 42 months ", "【1", "†lamp", ".txt】", ".")
    async with held(tmp_path, answer) as one:
        turn, told = await one.turn("How long is the warranty of the lamp?")
        stored = await one.agents.turn(*one.place, turn.turn_id, ALICE)
    assert turn.output is not None
    assert told == text_of(turn.output.content) == "The warranty lasts 42 months."
    [citation] = turn.citations
    assert (citation.document_id, citation.document_name, citation.index) == ("lamp", "lamp.txt", len(told) - 1)
    assert citation.quote == LAMP[citation.start : citation.end] == LAMP[LAMP.index("Its") :]
    assert stored.citations == turn.citations
    ChatScreen().show(TurnCompleted(turn=turn))
    quoted = f'    lamp.txt: "{citation.quote}"'
    assert capsys.readouterr().out.splitlines() == [told, "  * sources: lamp.txt", quoted]
    assert "  * sources: lamp.txt" in shown_history([turn])[-1]


async def test_passages_that_a_tool_tells_of_are_cited_too(tmp_path: Path) -> None:
    class Library:
        async def list_tools(self, tool_group: ToolGroup, caller: Any) -> list[ToolDefinition]:
            return [ToolDefinition(name="look", parameters={"type": "object"})]

        async def invoke_tool(self, tool_group: ToolGroup, name: str, arguments: Any, caller: Any) -> ToolResult:
            memory = await stacks[0].memory()
            chunks = await memory.chunks_of("manuals", "boots", ALICE)
            return ToolResult(content="[1] ...", metadata=told_passages(passages_of(chunks)))

    stacks: list[LocalStack] = []
    scripts = (calls(("look", "{}")), says("Never dry them on a stove [1]."))
    async with held(tmp_path, *scripts, tools={"library": Library()}) as one:
        stacks.append(one.stack)
        await one.begin(banks=[], tool_groups=["library"])
        turn, _ = await one.turn("How are boots dried?")
    first, last = (step for step in turn.steps if isinstance(step, InferenceStep))
    assert first.citations == []
    assert [citation.document_name for citation in last.citations] == ["boots.txt"]


async def test_a_small_model_reads_one_sentence_of_what_any_tool_finds(tmp_path: Path) -> None:
    class Library:
        async def list_tools(self, tool_group: ToolGroup, caller: Any) -> list[ToolDefinition]:
            return [ToolDefinition(name="look", parameters={"type": "object"})]

        async def invoke_tool(self, tool_group: ToolGroup, name: str, arguments: Any, caller: Any) -> ToolResult:
            memory = await stacks[0].memory()
            chunks = [
                *await memory.chunks_of("manuals", "boots", ALICE),
                *await memory.chunks_of("manuals", "lamp", ALICE),
            ]
            passages = passages_of(chunks)
            return ToolResult(content=as_context(passages), metadata=told_passages(passages))

    stacks: list[LocalStack] = []
    scripts = (calls(("look", '{"query": "How long is the warranty of the lamp?"}')), says("It is 42 months [2]."))
    async with held(tmp_path, *scripts, tools={"library": Library()}, context_length=1_024) as one:
        stacks.append(one.stack)
        await one.begin(banks=[], tool_groups=["library"])
        turn, _ = await one.turn("How long is the warranty of the lamp?")
        read = one.read()
    sentence = LAMP[LAMP.index("Its") :]
    assert read == f"[2] lamp.txt\n{sentence}"
    [citation] = turn.citations
    assert (citation.document_name, citation.quote) == ("lamp.txt", sentence)


async def test_a_refusal_and_an_answer_without_passages_cite_nothing(tmp_path: Path) -> None:
    class Forbids:
        async def run_shield(self, shield: Any, messages: list[Message], params: Any, caller: Any) -> ShieldVerdict:
            violation = Violation(level=ViolationLevel.ERROR, user_message="The warranty is secret.")
            is_answer = "42 months" in text_of(messages[-1].content) and messages[-1].role == "assistant"
            return ShieldVerdict(violation=violation if is_answer else None)

    async with held(tmp_path, says("The warranty lasts 42 months [1]."), shields={"s": Forbids()}) as one:
        await one.begin(output_shields=["s"])
        refused, _ = await one.turn("How long is the warranty?")
        await one.begin(banks=[])
        free, told = await one.turn("How long is the warranty?")
    assert refused.output is not None
    assert refused.output.refusal == "The warranty is secret."
    assert refused.citations == []
    assert (free.citations, told) == ([], "The warranty lasts 42 months [1].")


async def test_log_probabilities_of_what_was_taken_out_stay(tmp_path: Path) -> None:
    marks = ["42", " months", " 【", "1†", "x】", "."]
    script = [TextDelta(text=mark, logprobs=[TokenLogprob(token=mark, logprob=-0.5)]) for mark in marks]
    async with held(tmp_path, [*script, *says("")[1:]]) as one:
        events = one.agents.create_turn(*one.place, [UserMessage(content="How long is it?")], ALICE)
        deltas = [event.event async for event in events if isinstance(event, StepProgress)]
    texts = [delta for delta in deltas if isinstance(delta, TextDelta)]
    assert "".join(delta.text for delta in texts) == "42 months."
    assert [one.token for delta in texts for one in delta.logprobs or ()] == marks


# --- what is asked of the banks ------------------------------------------------------------------------------------


def test_a_short_question_is_asked_with_the_one_before_it() -> None:
    first, second = UserMessage(content="How long is the warranty of the lamp?"), UserMessage(content="And the boots?")
    assert question_of([first]) == "How long is the warranty of the lamp?"
    assert question_of([second]) == "And the boots?"
    assert question_of([first, second]) == "How long is the warranty of the lamp?\nAnd the boots?"
    assert question_of([second, first]) == "How long is the warranty of the lamp?"
    whole = UserMessage(content="Where are boots dried?")
    assert question_of([first, whole]) == "Where are boots dried?", "it is short, and says what it is about"
    assert question_of([]) == ""
    parts = UserMessage(content=[TextPart(text="What is it made of?")])
    assert question_of([first, parts]) == "How long is the warranty of the lamp?\nWhat is it made of?"
    assert len(question_of([UserMessage(content="x" * 9_000)])) == MAX_QUERY_CHARACTERS


async def test_what_was_found_before_is_no_part_of_the_next_question(tmp_path: Path) -> None:
    async with held(tmp_path, says("42 months.")) as one:
        await one.turn("How long is the warranty of the lamp?")
        await one.turn("And the boots?")
        embedded = [request.inputs for request in one.inference.requests if not isinstance(request, ChatRequest)]  # type: ignore[union-attr]
    assert embedded[-1] == ["How long is the warranty of the lamp?\nAnd the boots?"]


def test_the_share_of_the_window_for_passages_is_smaller_where_the_window_is_small() -> None:
    windows = (None, 128_000, 8_192, 4_096, 2_048, 900, 150)
    assert [context_tokens(window) for window in windows] == [4096, 4096, 2730, 1365, 128, 128, 50]


async def test_passages_keep_to_the_window_of_the_model(tmp_path: Path) -> None:
    async with held(tmp_path, says("Yes."), context_length=4_096) as one:
        turn, _ = await one.turn("How long is the warranty of the lamp?")
        read = one.read()
    step = turn.steps[0]
    assert isinstance(step, MemoryRetrievalStep)
    assert [chunk.document_id for chunk in step.chunks] == ["lamp", "boots"]
    assert read == f"How long is the warranty of the lamp?\n\n{step.inserted_context}"


async def test_a_model_with_a_small_window_reads_one_sentence_before_the_question(tmp_path: Path) -> None:
    question = "How long is the warranty of the lamp?"
    sentence = LAMP[LAMP.index("Its") :]
    async with held(tmp_path, says("42 months."), context_length=1_024) as one:
        turn, _ = await one.turn(question)
        read = one.read()
        parts = [TextPart(text=question), TextPart(text="Be brief.")]
        again = one.agents.create_turn(*one.place, [UserMessage(content=list(parts))], ALICE)
        [second] = [event.turn async for event in again if isinstance(event, TurnCompleted)]
        asked = next(request for request in reversed(one.inference.requests) if isinstance(request, ChatRequest))
        embedded = [request.inputs for request in one.inference.requests if not isinstance(request, ChatRequest)]  # type: ignore[union-attr]
    step = turn.steps[0]
    assert isinstance(step, MemoryRetrievalStep)
    assert read == f"Context:\n{sentence}\n\nQuestion: {question}"
    assert [(chunk.content, LAMP[chunk.start : chunk.end]) for chunk in step.chunks] == [(sentence, sentence)]
    [citation] = turn.citations
    assert (citation.document_name, citation.quote) == ("lamp.txt", sentence)
    assert asked.messages[-1].content == [TextPart(text=f"Context:\n{sentence}\n\nQuestion: "), *parts]
    # The second question stands alone: such a model would answer what was said before, too.
    assert len(asked.messages) == 1
    inferred = second.steps[-1]
    assert isinstance(inferred, InferenceStep)
    assert inferred.messages_left_out == 2
    assert embedded[-1] == [f"{question}Be brief."]


async def test_a_search_of_files_shows_a_small_model_a_sentence_and_its_caller_the_chunk(tmp_path: Path) -> None:
    async with held(tmp_path) as one:
        tool = file_search(await one.stack.memory(), ["manuals"], MemoryQuery(max_chunks=2), ALICE, max_tokens=128)
        assert tool.run is not None
        result = await tool.run({"query": "How long is the warranty of the lamp?"})
    sentence = LAMP[LAMP.index("Its") :]
    assert result.content == sentence
    [shown] = passages_told(result.metadata)
    assert (shown.number, shown.chunk.content, shown.chunk.start) == (1, sentence, LAMP.index("Its"))
    told = result.metadata["passages"]
    assert [one["chunk"]["content"] for one in told] == [LAMP, BOOTS]
    assert [one.get("shown") for one in told] == [[LAMP.index("Its"), len(LAMP)], None]


async def test_a_turn_may_search_other_banks_than_its_agent(tmp_path: Path) -> None:
    async with held(tmp_path, says("Yes.")) as one:
        memory = await one.stack.memory()
        notes = MemoryBank(identifier="notes", provider_id="", provider_resource_id="", bank=KeywordBank())
        await memory.create_bank(notes, ALICE)
        await memory.insert_documents("notes", [Document(document_id="n", content="The lamp is broken.")], ALICE)
        turn, _ = await one.turn("What about the lamp?", settings=TurnSettings(memory_banks=["notes"]))
    step = turn.steps[0]
    assert isinstance(step, MemoryRetrievalStep)
    assert step.memory_banks == ["notes"]
    assert [chunk.content for chunk in step.chunks] == ["The lamp is broken."]


# --- documents of a session ----------------------------------------------------------------------------------------


def text_document(text: str, document_id: str = "d") -> Document:
    return Document(document_id=document_id, content=text, name=f"{document_id}.txt", mime_type="text/plain")


async def test_a_short_text_is_said_and_a_long_one_is_found(tmp_path: Path) -> None:
    async with held(tmp_path, says("The code is 7391.")) as one:
        await one.begin(banks=[])
        short, _ = await one.turn("What is this?", documents=[text_document("Just a note.")])
        said = one.read()
        before = await one.banks()
        long, _ = await one.turn("What is the code?", documents=[text_document(LONG, "diary")])
        found = one.read()
        again, _ = await one.turn("Is the code 7391 or is it something else?")
        after = await one.banks()
    assert said == "What is this?\n\nDocument (text/plain):\nJust a note."
    assert not any(isinstance(step, MemoryRetrievalStep) for step in short.steps)
    assert before == {"manuals"}
    assert after == {"manuals", f"{one.place[1]}-documents"}
    assert "The code is 7391." in found
    assert len(found) < len(LONG) / 2
    for turn in (long, again):
        assert [citation.document_name for citation in turn.citations] == ["diary.txt"]
        assert turn.citations[0].quote == "The code is 7391."
        assert LONG[turn.citations[0].start : turn.citations[0].end] == "The code is 7391."


async def test_a_pdf_is_read_and_cited_by_its_page(tmp_path: Path) -> None:
    paths = " ".join(f"Path number {number} is closed." for number in range(80))
    pages = [paths, f"{paths} The hut opens in June."]
    url = f"data:application/pdf;base64,{b64encode(pdf_file(pages)).decode()}"
    async with held(tmp_path, says("The hut opens in June.")) as one:
        document = Document(document_id="hut", url=url, name="hut.pdf", mime_type="application/pdf")
        turn, _ = await one.turn("When does the hut open?", documents=[document])
    [citation] = turn.citations
    assert (citation.document_name, citation.page) == ("hut.pdf", 2)
    # The agent's own bank is searched beside the session's.
    step = turn.steps[0]
    assert isinstance(step, MemoryRetrievalStep)
    assert step.memory_banks == ["manuals", f"{one.place[1]}-documents"]


async def test_a_document_that_cannot_be_read_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    async with held(tmp_path, says("x")) as one:
        for url, why in (
            ("data:application/pdf;base64,AAAA", "documents.1"),
            ("http://127.0.0.1:9/private", "documents.1"),
        ):
            bad = Document(document_id="bad", url=url, name="bad.pdf")
            with pytest.raises(InvalidRequest) as refused:
                await one.turn("?", documents=[text_document("fine"), bad])
            assert refused.value.param == why
            assert refused.value.message.startswith("documents.1: ")
        session = await one.agents.session(*one.place, ALICE)
        memory = await one.stack.memory()
        left = await memory.documents(f"{one.place[1]}-documents", ALICE)
    assert session.turns == []
    assert left.entries == []


async def test_a_sessions_documents_go_with_it_and_belong_to_its_owner(tmp_path: Path) -> None:
    async with held(tmp_path, says("7391")) as one:
        await one.turn("The code?", documents=[text_document(LONG)])
        bank = f"{one.place[1]}-documents"
        memory = await one.stack.memory()
        with pytest.raises(NotFound):
            await memory.documents(bank, BOB)
        with pytest.raises(NotFound):
            await one.agents.delete_session(*one.place, BOB)
        assert bank in await one.banks()
        await one.agents.delete_session(*one.place, ALICE)
        assert await one.banks() == {"manuals"}
        await one.begin()
        await one.turn("The code?", documents=[text_document(LONG)])
        assert len(await one.banks()) == 2
        await one.agents.delete_agent(one.place[0], ALICE)
        assert await one.banks() == {"manuals"}


async def test_where_there_is_no_memory_texts_are_said_and_addresses_are_refused(tmp_path: Path) -> None:
    inference = EmbeddingInference(says("ok"))
    async with open_memory_stack(tmp_path, inference=inference, memory=()) as stack:
        agents = await stack.agents()
        assert isinstance(agents, AgentService)
        one = Held(stack, inference, agents)
        await one.begin(banks=[])
        await one.turn("The code?", documents=[text_document(LONG)])
        said = one.read()
        with pytest.raises(UnsupportedParameter, match="no memory provider"):
            await one.turn("?", documents=[Document(document_id="d", url="https://example.org/a.pdf")])
    assert said == f"The code?\n\nDocument (text/plain):\n{LONG}"
