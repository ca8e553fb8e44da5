"""Questions about the code of a repository, answered with the file and the lines where it stands.

    python examples/code_questions.py                                    # about the agents of Llama Stack itself
    python examples/code_questions.py "Where are type hints read?"
    python examples/code_questions.py "Where is the port read?" --code path/to/repository

Functions and classes are found by what they mean and by their names together, so a question may be in words of its
own or hold an identifier. The second run is quick: what has not changed is not read again.
"""

import argparse
from pathlib import Path

from llama_stack import Chunk, LlamaStack, StackError, SyncLlamaStack

AGENTS = Path(__file__).parent.parent / "llama_stack" / "agents"
BANK = "code"
SHOWN_LINES = 6


def lines_of(passage: Chunk) -> tuple[int, int]:
    """First and last line of the passage in its file, from 1."""
    text = Path(passage.metadata["path"]).read_text(encoding="utf-8")
    return text.count("\n", 0, passage.start) + 1, text.count("\n", 0, passage.end) + 1


def show(stack: SyncLlamaStack, question: str, code: Path) -> None:
    print(f"you    {question}")
    # `path` is in the metadata of every file; a bank may hold several repositories.
    for passage in stack.memory.search(question, bank=BANK, max_chunks=3, filters={"repository": str(code)}):
        path = Path(passage.metadata["path"])
        first, last = lines_of(passage)
        print(f"found  {path.relative_to(code)}:{first}-{last}")
        for line in passage.content.splitlines()[:SHOWN_LINES]:
            print(f"       {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask about code.")
    parser.add_argument("question", nargs="*", default=["How", "are", "tool", "calls", "run", "side", "by", "side?"])
    parser.add_argument("--code", type=Path, default=AGENTS, help="a folder of Python files")
    options = parser.parse_args()
    code = options.code.resolve()
    with LlamaStack.open("starter") as stack:
        stack.memory.create_bank(BANK, exist_ok=True)
        stack.memory.add(*sorted(code.rglob("*.py")), bank=BANK, metadata={"repository": str(code)})
        show(stack, " ".join(options.question), code)


if __name__ == "__main__":
    try:
        main()
    except StackError as error:
        raise SystemExit(f"error: {error}") from None
