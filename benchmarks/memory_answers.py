"""Do the embedded models answer from documents, and cite the right ones?

    python -m benchmarks.memory_answers [--questions 120] [--passages 1] [--json FILE]

Every question of the labelled English corpus goes through `file_search` of Responses: the corpus in one vector store,
the shipped embedder, the shipped chat model. Counted: answers that hold the expected one, word for word apart from case
and punctuation; citations, and those of documents that answer the question; and, as the bound, the questions whose
documents were put in the prompt at all. The chat model has four million parameters; another one is named by --model.
"""

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llama_stack.api.common import Caller
from llama_stack.api.memory import Document, DocumentState
from llama_stack.api.resources import MemoryBank, VectorBank
from llama_stack.compose import LocalStack, open_stack
from llama_stack.distribution import load_distribution
from llama_stack.wire.openai_responses.request import decode_response_request

CALLER = Caller(owner="benchmark")
CORPUS = Path("tests/quality/memory/english")
MIME_TYPES = {".md": "text/markdown", ".csv": "text/csv", ".html": "text/html", ".json": "application/json"}
STORE = "corpus"
PASSAGES = 1
"""By default: the chat model that ships reads no more."""


@dataclass(frozen=True)
class Outcome:
    """Shares of the questions; of citations in `cited_right`, the share that names a document of the question."""

    model: str
    questions: int
    found: float
    answered: float
    answered_when_found: float
    cited: float
    cited_right: float


async def measure(model: str, count: int, passages: int = PASSAGES) -> Outcome:
    """Ask `count` questions, drawn with a fixed seed."""
    with tempfile.TemporaryDirectory() as home:
        async with open_stack(load_distribution("starter"), home=Path(home)) as stack:
            await _fill(stack)
            lines = (CORPUS / "questions.jsonl").read_text("utf-8").splitlines()
            questions = [json.loads(line) for line in lines]
            random.Random(7).shuffle(questions)
            told = [await _asked(stack, model, one, passages) for one in questions[:count]]
    return _summed(model, told)


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


async def _asked(stack: LocalStack, model: str, question: dict[str, Any], passages: int) -> dict[str, Any]:
    """What came of one question."""
    body = {
        "model": model,
        "input": question["question"],
        "tools": [{"type": "file_search", "vector_store_ids": [STORE], "max_num_results": passages}],
        "tool_choice": "required",
        "max_tool_calls": 1,
        "include": ["file_search_call.results"],
        "store": False,
    }
    service = await stack.responses()
    request, _ = decode_response_request(body)
    answer = await service.create(request, CALLER)
    text, cited, found = "", [], set()
    for item in answer["output"]:
        if item["type"] == "file_search_call":
            found |= {result["file_id"] for result in item.get("results") or ()}
        elif item["type"] == "message":
            for part in item["content"]:
                text += part.get("text", "")
                cited += [one["file_id"] for one in part.get("annotations", ()) if one["type"] == "file_citation"]
    wanted = set(question["documents"])
    return {
        "found": bool(wanted & found),
        "answered": _plain(question["answer"]) in _plain(text),
        "citations": len(cited),
        "right": sum(one in wanted for one in cited),
    }


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _summed(model: str, told: list[dict[str, Any]]) -> Outcome:
    count = len(told)
    found = [one for one in told if one["found"]]
    citations = sum(one["citations"] for one in told)
    return Outcome(
        model=model,
        questions=count,
        found=len(found) / count,
        answered=sum(one["answered"] for one in told) / count,
        answered_when_found=sum(one["answered"] for one in found) / max(len(found), 1),
        cited=sum(one["citations"] > 0 for one in told) / count,
        cited_right=sum(one["right"] for one in told) / max(citations, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=120)
    parser.add_argument("--model", default="llama-micro")
    parser.add_argument("--passages", type=int, default=PASSAGES)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    outcome = asyncio.run(measure(asked.model, asked.questions, asked.passages))
    for name, value in asdict(outcome).items():
        sys.stdout.write(f"{name:22} {value if not isinstance(value, float) else f'{value:.0%}'}\n")
    if asked.json:
        asked.json.write_text(json.dumps(asdict(outcome), indent=2))


if __name__ == "__main__":
    main()
