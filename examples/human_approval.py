"""A person has the last word: calls of one tool wait for a yes, a no, or a reason for the no that the model is told.
The question is stored, so it may be answered days later: end the input (Ctrl-D), run it again, and it is asked again.

    python examples/human_approval.py "Set a timer for 5 minutes"
"""

import sys

from llama_stack import LlamaStack, SyncAgent


def set_timer(minutes: int) -> str:
    """Start a timer.

    Args:
        minutes: How many minutes
    """
    return f"Timer set for {minutes} minutes."


def main() -> None:
    with LlamaStack.open("starter") as stack:
        agent = SyncAgent(stack, name="kitchen", tools=[set_timer], approval=["set_timer"])
        session = agent.open_session("today")
        is_waiting = bool(session.turns) and session.turns[-1].end_reason is None
        question = None if is_waiting else " ".join(sys.argv[1:]) or "Set a timer for 5 minutes"
        result = session.run(question)
        while result.approvals:
            call = result.approvals[0]
            try:
                word = input(f"{call.name}({call.arguments})  yes, no, or why not? ").strip()
            except EOFError:
                print("\nThe call waits; run this again to decide.")
                return
            if word in ("y", "yes"):
                result = session.approve(call)
            else:
                result = session.deny(call, reason=None if word in ("", "n", "no") else word)
        print(result.text)


main()
