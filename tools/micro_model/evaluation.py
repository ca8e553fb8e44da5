"""Scores of a GGUF on the case files of `tests/micro_model/cases`, through the real engine.

A gate is a share of cases answered exactly. For tool calls two things are counted: the right tool, and the whole call.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.micro_model import prompts
from tools.micro_model.engine import MicroEngine

TODAY = "21 November 2026"
SYSTEM_TEXT = "You are a helpful assistant."
BUILTIN_FORM = re.compile(r"<\|python_tag\|>(\w+)\.call\(query=\"(.*)\"\)", re.DOTALL)

# What a shipped model should reach, by gate; the floor file holds what the present one did reach.
AIMS = {
    "handwritten_tool": 0.9,
    "handwritten_call": 0.8,
    "demo_tool": 0.97,
    "demo_call": 0.95,
    "small_talk": 0.95,
    "held_out_call": 0.97,
    "held_out_answer": 0.9,
    "tool_answer": 0.9,
    "retrieval": 0.85,
    "guard": 0.85,
}


@dataclass
class Score:
    """Hits of one gate; `misses` holds (case, what the model wrote)."""

    right: int = 0
    total: int = 0
    misses: list[tuple[str, str]] = field(default_factory=list)

    def count(self, hit: bool, case: str, wrote: str) -> None:
        self.total += 1
        self.right += hit
        if not hit:
            self.misses.append((case, wrote))

    @property
    def share(self) -> float:
        return self.right / self.total if self.total else 0.0


def read_cases(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines():
        yield json.loads(line)


def bare(text: str) -> str:
    """A message without the token that ended it."""
    return text.removesuffix(prompts.END_OF_TURN).removesuffix(prompts.END_OF_MESSAGE)


def called(text: str) -> tuple[str, dict[str, Any]] | None:
    """The tool call in a message, or None for text."""
    text = bare(text)
    if (found := BUILTIN_FORM.fullmatch(text)) is not None:
        return found.group(1), {"query": found.group(2).replace('\\"', '"').replace("\\\\", "\\")}
    try:
        call = json.loads(text)
        return call["name"], call["parameters"]
    except (ValueError, KeyError, TypeError):
        return None


def tool_prompt(case: dict[str, Any], tools: dict[str, Any]) -> str:
    """The prompt of a hand-written case: its tools, its message and, where given, the call and the tool's output."""
    offered = [tools[name] for name in case.get("offer", [])]
    builtin = case.get("builtin", [])
    preamble = prompts.tools_preamble(offered) if offered else ""
    text = prompts.system_block(SYSTEM_TEXT, TODAY, builtin, bool(offered)) + prompts.user_turn(preamble + case["say"])
    text += prompts.ASSISTANT_OPEN
    if "output" in case:
        text += (
            prompts.json_call(case["call"], case["arguments"])
            + prompts.tool_turn(case["output"])
            + prompts.ASSISTANT_OPEN
        )
    return text


def retrieval_prompt(case: dict[str, Any]) -> str:
    passages = " ".join(case["document"])
    if case["kind"] == "system":
        system, message = f"{SYSTEM_TEXT}\n\nContext:\n{passages}", case["question"]
    else:
        system, message = SYSTEM_TEXT, f"Context:\n{passages}\n\nQuestion: {case['question']}"
    return prompts.system_block(system, TODAY) + prompts.user_turn(message) + prompts.ASSISTANT_OPEN


def guard_prompt(case: dict[str, Any]) -> str:
    turns = [f"{'Agent' if number % 2 else 'User'}: {text}" for number, text in enumerate(case["turns"])]
    role = "Agent" if case["kind"] == "agent" else "User"
    return (
        prompts.guard_prompt_open(role) + "\n\n".join(turns) + prompts.guard_prompt_close(role) + prompts.ASSISTANT_OPEN
    )


def score_calls(engine: MicroEngine, cases: Iterable[dict[str, Any]], tools: dict[str, Any]) -> dict[str, Score]:
    """Right tool and exact call, of all cases and of the sample agent (`demo`); small talk calls nothing."""
    scores = {
        name: Score() for name in ("handwritten_tool", "handwritten_call", "demo_tool", "demo_call", "small_talk")
    }
    for case in cases:
        completion = engine.complete(tool_prompt(case, tools))
        call = called(completion.text)
        if case["kind"] == "chat":
            scores["small_talk"].count(call is None and completion.finished, case["say"], completion.text)
            continue
        right_tool = call is not None and call[0] == case["call"]
        exact = right_tool and call is not None and call[1] == case["arguments"]
        for prefix in ["handwritten"] + ["demo"] * (case["kind"] == "demo"):
            scores[f"{prefix}_tool"].count(right_tool, case["say"], completion.text)
            scores[f"{prefix}_call"].count(exact, case["say"], completion.text)
    return scores


def score_exact(engine: MicroEngine, pairs: Iterable[tuple[str, str]]) -> Score:
    """Whole messages equal to the expected ones."""
    score = Score()
    for prompt, expected in pairs:
        wrote = bare(engine.complete(prompt).text)
        score.count(wrote == bare(expected), f"{prompt[-160:]} => {bare(expected)}", wrote)
    return score


def evaluate(model: Path, cases: Path) -> dict[str, Score]:
    """Every gate's score for a GGUF file."""
    engine = MicroEngine(model)
    tools: dict[str, Any] = json.loads((cases / "tools.json").read_text())
    scores = score_calls(engine, read_cases(cases / "handwritten.jsonl"), tools)
    for kind in ("call", "answer"):
        drawn = (case for case in read_cases(cases / "held_out.jsonl") if case["kind"] == kind)
        scores[f"held_out_{kind}"] = score_exact(engine, ((case["prompt"], case["expected"]) for case in drawn))
    scores["tool_answer"] = score_exact(
        engine, ((tool_prompt(case, tools), case["answer"]) for case in read_cases(cases / "tool_answers.jsonl"))
    )
    scores["retrieval"] = score_exact(
        engine, ((retrieval_prompt(case), case["answer"]) for case in read_cases(cases / "retrieval.jsonl"))
    )
    guard = list(read_cases(cases / "guard.jsonl"))
    scores["guard"] = score_exact(engine, ((guard_prompt(case), case["verdict"]) for case in guard))
    return scores


def floor(scores: dict[str, Score]) -> dict[str, dict[str, float]]:
    """What the gate test compares with: hits and cases of every gate, and the aim beside them."""
    return {name: {"right": score.right, "total": score.total, "aim": AIMS[name]} for name, score in scores.items()}


def summary(scores: dict[str, Score], misses: int = 0) -> str:
    """One line per gate, with the first misses under it where wanted."""
    lines = []
    for name, score in scores.items():
        lines.append(f"{name:18} {score.right:4}/{score.total:<4} {score.share:6.1%}")
        lines += [f"    {case!r}\n      wrote {wrote!r}" for case, wrote in score.misses[:misses]]
    return "\n".join(lines)
