"""What was said in one session is remembered in the next: the model keeps notes in a memory bank and looks them up.
Each run is a session of its own; nothing but the bank goes from one to the other.

    python examples/session_memory.py "Remember that my favourite colour is teal"
    python examples/session_memory.py "What is my favourite colour?"
    python examples/session_memory.py --forget
"""

import sys
from difflib import SequenceMatcher

from llama_stack import LlamaStack, SyncAgent

BANK = "about-me"


def in_own_words(note: str, said: str) -> str:
    """The part of what the user said that the note repeats: a small model misspells words it copies, such as heißt."""
    told, noted = said.split(), note.split()
    same = SequenceMatcher(None, told, noted, autojunk=False)
    blocks = [block for block in same.get_matching_blocks() if block.size]
    if 2 * sum(block.size for block in blocks) < len(noted) or not blocks:
        return note  # in words of the model's own
    first, last = blocks[0], blocks[-1]
    end = last.a + last.size + len(noted) - last.b - last.size
    return " ".join(told[max(0, first.a - first.b) : end])


def main() -> None:
    with LlamaStack.open("starter") as stack:
        stack.memory.create_bank(BANK, exist_ok=True)
        if "--forget" in sys.argv:
            stack.memory.drop_bank(BANK)
            print("Everything is forgotten.")
            return
        question = " ".join(sys.argv[1:]) or "Remember that my favourite colour is teal"

        def remember(note: str) -> str:
            """Remember a note.

            Args:
                note: The note
            """
            kept = in_own_words(note, question)
            stack.memory.add_text(kept, name="note", bank=BANK)
            return f"Noted: {kept}"

        agent = SyncAgent(stack, tools=[remember, stack.memory.as_tool(bank=BANK, max_chunks=1, with_headings=False)])
        result = agent.run(question)
        print(f"you      {question}")
        for passage in result.passages:
            print(f"recalled {passage.content}")
        print(f"agent    {result.text}")


if __name__ == "__main__":
    main()
