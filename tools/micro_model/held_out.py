"""Generated evaluation cases: trained families and shapes, words that training never draws.

The committed file was drawn once and is kept, so that scores stay comparable: drawing again after the generator has
changed gives other cases, and the floor has to be measured again with them.
"""

import json
import random
from pathlib import Path

from tools.micro_model.dialogues import Difficulty, draw_tree

DIFFICULTY = Difficulty(fewest_tools=2, most_tools=5, facts=(2, 5), invent_names=0.3)
SEED = 20_261_121
KINDS = {"tools": 90, "builtin": 30, "retrieval": 40, "guard": 40, "extraction": 20, "chat": 10}


def held_out_cases() -> list[dict[str, str]]:
    """Prompts with the one right message; each tree gives its first branch, each of its messages a case."""
    rng = random.Random(SEED)
    cases: list[dict[str, str]] = []
    for topic, trees in KINDS.items():
        for _ in range(trees):
            tree = draw_tree(rng, DIFFICULTY, topic, held_out=True)
            text = tree.prefix
            for piece in tree.branches[0][:4]:
                if piece.trained:
                    is_call = topic in ("tools", "builtin") and piece.text.startswith(("{", "<|python_tag|>"))
                    cases.append(
                        {
                            "topic": topic,
                            "kind": "call" if is_call else "answer",
                            "prompt": text,
                            "expected": piece.text,
                        }
                    )
                text += piece.text
    return cases


def write_held_out(path: Path) -> None:
    path.write_text("".join(json.dumps(case, ensure_ascii=False) + "\n" for case in held_out_cases()))
