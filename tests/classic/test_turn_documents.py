"""Documents that come with a turn of the unmodified client: short ones are said, long ones are found, and cited."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from llama_stack_client import BadRequestError

from llama_stack.api.agents import AgentConfig, TurnCompleted
from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatRequest
from llama_stack.api.memory import Document
from llama_stack.api.messages import UserMessage, text_of
from llama_stack.client.stack import connect
from llama_stack.testing.scripted import says
from tests.classic.asking import begin, config, turn
from tests.classic.conftest import Running
from tests.documents.files import pdf_file
from tests.memory_faces.stacks import serve_memory

LONG = "\n\n".join([*(f"Nothing happened on day {day}." for day in range(400)), "The code of the door is 7391."])
ANSWER = says("The code of the door ", "is 7391 【1†x】.")


def read(server: Running) -> str:
    """What the model was given last."""
    requests = [request for request in server.inference.requests if isinstance(request, ChatRequest)]
    return text_of(requests[-1].messages[-1].content)


async def test_a_long_document_of_a_turn_is_found_and_cited(tmp_path: Path) -> None:
    async with serve_memory(ANSWER, home=tmp_path) as server:
        ids = await begin(server)
        documents = [
            {"content": "Ada asks.", "mime_type": "text/plain"},
            {"content": LONG, "mime_type": "text/plain"},
        ]
        question = [{"role": "user", "content": "Which code has the door?"}]
        first = await turn(server, ids, question, documents=documents)
        given = read(server)
        again = await turn(server, ids, [{"role": "user", "content": "Is 7391 really the code of the door?"}])
        banks = (await server.http.get("/v1/vector_stores")).json()["data"]
        absent = await server.http.post("/v1/agents", json={"agent_config": config(memory_banks=["nope"])})
        await server.client.agents.session.delete(ids[1], agent_id=ids[0])
        left = (await server.http.get("/v1/vector_stores")).json()["data"]
    assert given.startswith("Which code has the door?\n\nDocument (text/plain):\nAda asks.\n\nPassages that may help")
    assert len(given) < len(LONG)
    for made in (first, again):
        assert made.output_message.content == "The code of the door is 7391."
        [citation] = made.citations
        assert (citation["document_name"], citation["quote"]) == ("document 2", "The code of the door is 7391.")
        assert [step.step_type for step in made.steps] == ["memory_retrieval", "inference"]
    assert [bank["metadata"] for bank in banks] == [{"session_id": ids[1]}]
    assert left == []
    assert absent.status_code == 404
    assert ids[1] not in absent.text, "other conversations' banks are nobody's business"


async def test_a_pdf_of_a_turn_is_read(tmp_path: Path) -> None:
    url = f"data:application/pdf;base64,{b64encode(pdf_file(['The code of the door is 7391.'])).decode()}"
    document: Any = {"content": {"uri": url}, "mime_type": "application/pdf"}
    async with serve_memory(ANSWER, home=tmp_path) as server:
        made: Any = await turn(server, await begin(server), documents=[document])
    assert [(one["page"], one["quote"]) for one in made.citations] == [(1, "The code of the door is 7391.")]


async def test_what_cannot_be_read_is_refused_by_its_place(tmp_path: Path) -> None:
    async with serve_memory(ANSWER, home=tmp_path) as server:
        ids = await begin(server)
        for document in (
            {"content": {"uri": "http://127.0.0.1:1/inside"}, "mime_type": "text/plain"},
            {"content": {"uri": "data:application/pdf;base64,AAAA"}, "mime_type": "application/pdf"},
        ):
            bad: Any = [{"content": "fine", "mime_type": "text/plain"}, document]
            with pytest.raises(BadRequestError, match=r"documents\.1: "):
                await turn(server, ids, documents=bad)
        session = await server.client.agents.session.retrieve(ids[1], agent_id=ids[0])
    assert session.turns == []


async def test_a_connected_stack_hands_documents_over(tmp_path: Path) -> None:
    caller = Caller(owner="local")
    async with (
        serve_memory(ANSWER, home=tmp_path) as server,
        connect(str(server.http.base_url)) as connected,
    ):
        agents = await connected.agents()
        agent = await agents.create_agent(AgentConfig(model="scripted"), caller)
        session = await agents.create_session(agent.agent_id, "s", caller)
        events = agents.create_turn(
            agent.agent_id,
            session.session_id,
            [UserMessage(content="Which code has the door?")],
            caller,
            documents=[Document(document_id="diary", content=LONG, name="diary.txt")],
        )
        last = [event async for event in events][-1]
    assert isinstance(last, TurnCompleted)
    [citation] = last.turn.citations
    assert (citation.document_name, LONG[citation.start : citation.end]) == ("diary.txt", citation.quote)
