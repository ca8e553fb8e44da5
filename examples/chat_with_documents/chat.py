"""Talk with documents in the terminal; every answer names the file and the page that it comes from.

    python examples/chat_with_documents/chat.py                          # with the three PDFs beside this file
    python examples/chat_with_documents/chat.py --ask "When is the rent due?"
    python examples/chat_with_documents/chat.py report.pdf notes/ --bank mine    # with your own

What was added stays in the memory bank, so the second start is quick. The shipped model is tiny: it is shown the
sentence that fits best, and copies it. A larger one reads whole passages; ask `agent.session()` then, which remembers
the conversation.
"""

import argparse
from pathlib import Path

from llama_stack import Chunk, LlamaStack, StackError, SyncAgent, SyncLlamaStack

HERE = Path(__file__).parent


def open_chat(stack: SyncLlamaStack, documents: list[Path], bank: str) -> SyncAgent:
    stack.memory.create_bank(bank, exist_ok=True)
    for added in stack.memory.add_each(*documents, bank=bank):
        name = Path(added.source).name
        if added.error is not None:
            print(f"error   {name}: {added.error.message}")
        elif added.outcome != "unchanged" and added.status is not None:
            print(f"added   {name}, {added.status.chunks} passages")
    return SyncAgent(stack, memory_banks=[bank])


def ask(agent: SyncAgent, question: str) -> None:
    result = agent.run(question)
    for passage in result.passages:
        print(f"found   {place(passage)}\n        {' '.join(passage.content.split())}")
    print(f"agent   {result.text}")
    for citation in result.citations:
        page = f", page {citation.page}" if citation.page else ""
        print(f'source  {citation.document_name}{page}: "{" ".join(citation.quote.split())}"')


def place(passage: Chunk) -> str:
    page = f"page {passage.page}" if passage.page else ""
    return ", ".join(filter(None, [passage.document_name, page, " > ".join(passage.headings)]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Talk with documents.")
    parser.add_argument("documents", nargs="*", type=Path, default=sorted(HERE.glob("*.pdf")))
    parser.add_argument("--bank", default="chat-with-documents", help="where the documents are kept")
    parser.add_argument("--ask", action="append", metavar="QUESTION", help="ask this instead of reading questions")
    options = parser.parse_args()
    with LlamaStack.open("starter") as stack:
        agent = open_chat(stack, options.documents, options.bank)
        for question in options.ask or iter(lambda: input("you     "), ""):
            if options.ask:
                print(f"you     {question}")
            ask(agent, question)


if __name__ == "__main__":
    try:
        main()
    except EOFError:
        print()
    except StackError as error:
        raise SystemExit(f"error: {error}") from None
