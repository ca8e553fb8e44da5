"""Do the embedded models answer from documents, and cite the right ones?

    python -m benchmarks.memory_answers [--way file_search|agent] [--questions 120] [--passages 5] [--json FILE]

Every question of the labelled English corpus goes through `file_search` of Responses, or to an agent with the bank, as
`llama agent chat --memory` does it: the corpus in one vector store, the shipped embedder, the shipped chat model.
Counted, word for word apart from case and punctuation: answers that hold the expected one, and those that hold it or
the words of the document that the corpus names as the evidence for it, which is as right where a model quotes.
Citations, and those of documents that answer the question. As the bounds, the questions whose documents were found at
all, and those whose expected words or evidence stood in what the model was shown. The chat model has four million
parameters; another one is named by --model.
"""

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from llama_stack.agents.retrieval import context_tokens
from llama_stack.api.agents import AgentConfig, MemoryRetrievalStep, Turn, TurnCompleted
from llama_stack.api.common import Caller
from llama_stack.api.memory import Chunk, Document, DocumentState
from llama_stack.api.messages import UserMessage, text_of
from llama_stack.api.resources import MemoryBank, VectorBank
from llama_stack.compose import LocalStack, open_stack
from llama_stack.distribution import load_distribution
from llama_stack.memory.context import passages_for
from llama_stack.wire.openai_responses.request import decode_response_request

CALLER = Caller(owner="benchmark")
CORPUS = Path("tests/quality/memory/english")
MIME_TYPES = {".md": "text/markdown", ".csv": "text/csv", ".html": "text/html", ".json": "application/json"}
STORE = "corpus"
PASSAGES = 5
"""That are searched for, by default. What of them a model is shown, the stack decides by its window."""
Way = Literal["file_search", "agent"]


@dataclass(frozen=True)
class Outcome:
    """Shares of the questions; of citations in `cited_right`, the share that names a document of the question.

    found: a document of the question was. shown: the model read the expected words, or the evidence. answered: the
    answer holds the expected words. told: those, or the evidence.
    """

    model: str
    way: Way
    questions: int
    found: float
    shown: float
    answered: float
    told: float
    told_when_shown: float
    cited: float
    cited_right: float


@dataclass(frozen=True)
class Told:
    """What came of one question. shown: the text of the passages that the model read."""

    text: str
    found: set[str]
    shown: str
    cited: list[str]


async def measure(model: str, count: int, passages: int = PASSAGES, way: Way = "file_search") -> Outcome:
    """Ask `count` questions, drawn with a fixed seed."""
    with tempfile.TemporaryDirectory() as home:
        async with open_stack(load_distribution("starter"), home=Path(home)) as stack:
            await _fill(stack)
            lines = (CORPUS / "questions.jsonl").read_text("utf-8").splitlines()
            questions = [json.loads(line) for line in lines]
            random.Random(7).shuffle(questions)
            asked = questions[:count]
            told = [
                await (
                    _searched(stack, model, one["question"], passages)
                    if way == "file_search"
                    else _chatted(stack, model, one["question"])
                )
                for one in asked
            ]
    return _summed(model, way, asked, told)


async def _fill(stack: LocalStack) -> None:
    memory = await stack.memory()
    bank = MemoryBank(identifier=STORE, provider_id="", provider_resource_id="", bank=VectorBank())
    await memory.create_bank(bank, CALLER)
    documents = [
        Document(
            document_id=file.name,
            name=file.name,
            content=file.read_text("utf-8"),
            mime_type=MIME_TYPES.get(file.suffix, "text/plain"),
        )
        for file in sorted((CORPUS / "documents").iterdir())
    ]
    statuses = await memory.insert_documents(STORE, documents, CALLER)
    if failed := [status for status in statuses if status.state is not DocumentState.COMPLETED]:
        raise RuntimeError(f"the corpus was not taken in: {failed[0].error}")


async def _searched(stack: LocalStack, model: str, question: str, passages: int) -> Told:
    """By the tool of Responses, which the model is made to call."""
    body = {
        "model": model,
        "input": question,
        "tools": [{"type": "file_search", "vector_store_ids": [STORE], "max_num_results": passages}],
        "tool_choice": "required",
        "include": ["file_search_call.results"],
        "store": False,
    }
    service = await stack.responses()
    request, _ = decode_response_request(body)
    answer = await service.create(request, CALLER)
    found: list[dict[str, Any]] = []
    text, cited = "", []
    for item in answer["output"]:
        if item["type"] == "file_search_call":
            found += item.get("results") or ()
        elif item["type"] == "message":
            for part in item["content"]:
                text += part.get("text", "")
                cited += [one["file_id"] for one in part.get("annotations", ()) if one["type"] == "file_citation"]
    # What of the results was shown is not told over the wire; the stack's own function says it again.
    window = (await stack.model(model, CALLER)).context_length
    chunks = [Chunk(chunk_id=one["chunk_id"], document_id=one["file_id"], content=one["text"]) for one in found]
    shown = await passages_for(question, chunks, context_tokens(window))
    return Told(text, {one["file_id"] for one in found}, "\n".join(one.chunk.content for one in shown), cited)


async def _chatted(stack: LocalStack, model: str, question: str) -> Told:
    """By an agent that searches the bank before its model is asked."""
    agents = await stack.agents()
    agent = await agents.create_agent(AgentConfig(model=model, memory_banks=[STORE]), CALLER)
    session = await agents.create_session(agent.agent_id, "benchmark", CALLER)
    turn: Turn | None = None
    async for event in agents.create_turn(agent.agent_id, session.session_id, [UserMessage(content=question)], CALLER):
        if isinstance(event, TurnCompleted):
            turn = event.turn
    assert turn is not None
    chunks = [chunk for step in turn.steps if isinstance(step, MemoryRetrievalStep) for chunk in step.chunks]
    text = "" if turn.output is None else text_of(turn.output.content)
    cited = [one.document_id for one in turn.citations]
    return Told(text, {one.document_id for one in chunks}, "\n".join(one.content for one in chunks), cited)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _holds(text: str, question: dict[str, Any], *, evidence: bool) -> bool:
    wanted = [question["answer"], question["evidence"]] if evidence else [question["answer"]]
    return any(_plain(one) in _plain(text) for one in wanted)


def _summed(model: str, way: Way, questions: list[dict[str, Any]], told: list[Told]) -> Outcome:
    pairs = list(zip(questions, told, strict=True))
    shown = [(question, one) for question, one in pairs if _holds(one.shown, question, evidence=True)]
    citations = sum(len(one.cited) for one in told)

    def share(of: list[tuple[dict[str, Any], Told]], counts: Callable[[dict[str, Any], Told], bool]) -> float:
        return sum(counts(question, one) for question, one in of) / max(len(of), 1)

    return Outcome(
        model=model,
        way=way,
        questions=len(questions),
        found=share(pairs, lambda question, one: bool(one.found & set(question["documents"]))),
        shown=len(shown) / len(pairs),
        answered=share(pairs, lambda question, one: _holds(one.text, question, evidence=False)),
        told=share(pairs, lambda question, one: _holds(one.text, question, evidence=True)),
        told_when_shown=share(shown, lambda question, one: _holds(one.text, question, evidence=True)),
        cited=share(pairs, lambda question, one: bool(one.cited)),
        cited_right=sum(name in question["documents"] for question, one in pairs for name in one.cited)
        / max(citations, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=120)
    parser.add_argument("--model", default="llama-micro")
    parser.add_argument("--passages", type=int, default=PASSAGES)
    parser.add_argument("--way", choices=["file_search", "agent"], default="file_search")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    outcome = asyncio.run(measure(asked.model, asked.questions, asked.passages, asked.way))
    for name, value in asdict(outcome).items():
        sys.stdout.write(f"{name:22} {value if not isinstance(value, float) else f'{value:.0%}'}\n")
    if asked.json:
        asked.json.write_text(json.dumps(asdict(outcome), indent=2))


if __name__ == "__main__":
    main()
