"""A support desk that answers from a handbook, cites the page, and hands over to a person what the handbook lacks.

    python examples/support_desk/desk.py                                          # three questions, one too hard
    python examples/support_desk/desk.py --product kettle "How do I remove limescale?"

Each folder of the handbook is a product; its pages carry that as metadata, and a search looks only at the pages of the
product in question and at those for all. A passage that is not like the question at all is not found: then nobody
makes up an answer, and the question becomes a line of tickets.jsonl.
"""

import argparse
import json
from pathlib import Path

from llama_stack import ChunkSizes, LlamaStack, Sampling, StackError, SyncAgent, SyncLlamaStack

HANDBOOK = Path(__file__).parent / "handbook"
BANK = "handbook"
LEAST_LIKENESS = 0.45
"""Cosine of question and passage; below it they are about different things."""
QUESTIONS = [
    ("kettle", "How do I remove limescale?"),
    ("toaster", "Until when may products be returned?"),
    ("toaster", "May I connect it to the internet?"),
]


def read_handbook(stack: SyncLlamaStack) -> None:
    stack.memory.create_bank(BANK, exist_ok=True)
    for folder in sorted(HANDBOOK.iterdir()):
        stack.memory.add(folder, bank=BANK, metadata={"product": folder.name}, sizes=ChunkSizes(chunk_size_tokens=32))


def answer(stack: SyncLlamaStack, product: str, question: str, tickets: Path) -> None:
    search = stack.memory.as_tool(
        bank=BANK,
        filters={"product": [product, "all"]},
        mode="vector",
        score_threshold=LEAST_LIKENESS,
        # The shipped model copies best from one bare passage; a larger one makes good use of several.
        max_chunks=1,
        with_headings=False,
    )
    print(f"{product}: {question}")
    result = SyncAgent(stack, tools=[search], sampling=Sampling(temperature=0, max_tokens=200)).run(question)
    if not result.passages:
        ticket = {"product": product, "question": question}
        with tickets.open("a", encoding="utf-8") as file:
            file.write(json.dumps(ticket, ensure_ascii=False) + "\n")
        print("  The handbook does not say; a colleague will answer.")
        return
    print(f"  {result.text}")
    for citation in result.citations:
        source = next(one for one in result.passages if one.chunk_id == citation.chunk_id)
        page = Path(source.metadata["path"])
        print(f"  [{page.parent.name}/{page.name}, {' > '.join(source.headings)}]")


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer from the handbook, or hand over to a person.")
    parser.add_argument("question", nargs="?")
    parser.add_argument("--product", default="all", choices=sorted(folder.name for folder in HANDBOOK.iterdir()))
    parser.add_argument("--tickets", type=Path, default=Path("tickets.jsonl"), help="where open questions are written")
    options = parser.parse_args()
    with LlamaStack.open("starter") as stack:
        read_handbook(stack)
        for product, question in [(options.product, options.question)] if options.question else QUESTIONS:
            answer(stack, product, question, options.tickets)


if __name__ == "__main__":
    try:
        main()
    except StackError as error:
        raise SystemExit(f"error: {error}") from None
