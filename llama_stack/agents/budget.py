"""What a turn may still spend.

A share of the seconds is kept back for the last inference step, the one that is run with tools off, so that a tool
which hangs costs the turn its time but not its answer. The last of several inferences has its tools off, too; a single
one has them on, since a turn with one inference could otherwise never call any. Tokens are those the model makes, not
those it reads. Time spent waiting for the caller's own tools does not count: each resumption begins a new clock.
"""

from dataclasses import dataclass

from llama_stack.api.agents import Budget, InferenceStep, ToolExecutionStep, Turn, TurnEndReason

ANSWER_SHARE = 0.2


@dataclass(frozen=True)
class Allowance:
    """A budget with its clock running. deadline, tools_deadline: of the event loop's clock; None is unlimited."""

    budget: Budget
    deadline: float | None
    tools_deadline: float | None

    @classmethod
    def starting(cls, budget: Budget, now: float) -> "Allowance":
        if budget.max_seconds is None:
            return cls(budget, None, None)
        return cls(budget, now + budget.max_seconds, now + budget.max_seconds * (1 - ANSWER_SHARE))

    def spent(self, turn: Turn, now: float) -> TurnEndReason | None:
        """Why the next step must be the last one, with tools off; None while the model may go on calling tools."""
        if self.tools_deadline is not None and now >= self.tools_deadline:
            return "max_seconds"
        if (
            self.budget.max_tokens is not None
            and turn.usage.output_tokens >= (1 - ANSWER_SHARE) * self.budget.max_tokens
        ):
            return "max_tokens"
        if self.calls_left(turn) <= 0:
            return "max_tool_calls"
        if self.budget.max_infer_iters > 1 and self.iterations_left(turn) <= 1:
            return "max_infer_iters"
        return None

    def exhausted(self, turn: Turn, now: float) -> TurnEndReason | None:
        """Why there can be no further step, not even one with tools off; None while there can."""
        if self.deadline is not None and now >= self.deadline:
            return "max_seconds"
        if self.tokens_left(turn) == 0:
            return "max_tokens"
        return "max_infer_iters" if self.iterations_left(turn) <= 0 else None

    def iterations_left(self, turn: Turn) -> int:
        return self.budget.max_infer_iters - sum(isinstance(step, InferenceStep) for step in turn.steps)

    def calls_left(self, turn: Turn) -> int:
        made = sum(len(step.tool_calls) for step in turn.steps if isinstance(step, ToolExecutionStep))
        return self.budget.max_tool_calls - made

    def tokens_left(self, turn: Turn) -> int | None:
        if self.budget.max_tokens is None:
            return None
        return max(0, self.budget.max_tokens - turn.usage.output_tokens)
