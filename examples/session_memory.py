"""What was said in one session is remembered in the next: the model keeps notes in a memory bank and looks them up.
Each run is a session of its own; nothing but the bank goes from one to the other.

    python examples/session_memory.py "Remember that my favourite colour is teal"
    python examples/session_memory.py "What is my favourite colour?"
    python examples/session_memory.py --forget
"""

import sys

from llama_stack import LlamaStack, SyncAgent

BANK = "about-me"

with LlamaStack.open("starter") as stack:
    stack.memory.create_bank(BANK, exist_ok=True)

    def remember(note: str) -> str:
        """Remember a note.

        Args:
            note: The note
        """
        stack.memory.add_text(note, name="note", bank=BANK)
        return f"Noted: {note}"

    if "--forget" in sys.argv:
        stack.memory.drop_bank(BANK)
        print("Everything is forgotten.")
    else:
        question = " ".join(sys.argv[1:]) or "Remember that my favourite colour is teal"
        agent = SyncAgent(stack, tools=[remember, stack.memory.as_tool(bank=BANK, max_chunks=1, with_headings=False)])
        result = agent.run(question)
        print(f"you      {question}")
        for passage in result.passages:
            print(f"recalled {passage.content}")
        print(f"agent    {result.text}")
