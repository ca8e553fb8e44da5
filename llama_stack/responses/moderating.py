"""A shield's word on a response (`moderation`): on what it was given and on what it says, scored or blocked.

Blocking is the loop's: it asks the shield before the model reads, and holds text back until it was judged. What is
only scored is judged once the response is whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from llama_stack.agents.setup import AgentSetup
from llama_stack.agents.shielding import judge, judge_all
from llama_stack.agents.transcript import last_inference
from llama_stack.api.agents import ShieldCallStep, Turn
from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.messages import AssistantMessage, Message
from llama_stack.api.resources import Shield
from llama_stack.api.responses import Moderation, ResponseRequest
from llama_stack.api.safety import Violation
from llama_stack.api.stack import ServedStack, ShieldRunner
from llama_stack.errors import NotFound, StackError
from llama_stack.gathering import gathered
from llama_stack.wire.openai_moderations import encode_moderation_result


async def check_shield(stack: ServedStack, request: ResponseRequest, caller: Caller) -> None:
    """Raises NotFound for a moderation whose shield there is not."""
    if request.moderation is not None:
        try:
            await stack.registry.resource(Shield, request.moderation.shield, caller)
        except NotFound as error:
            raise NotFound(
                f"moderation.model: {error.message}; name a shield of GET /v1/shields",
                param="moderation.model",
                code=error.code,
            ) from None


class Moderating:
    def __init__(self, safety: ShieldRunner, wanted: Moderation, caller: Caller) -> None:
        self._safety = safety
        self._wanted = wanted
        self._caller = caller

    def guarded(self, setup: AgentSetup, *, is_new: bool) -> AgentSetup:
        """The setup with the shields that block. is_new: the user says something in this turn."""
        shields = [self._wanted.shield]
        changes = {
            "input_shields": shields if self._wanted.blocks_input and is_new else [],
            "output_shields": shields if self._wanted.blocks_output else [],
        }
        return replace(setup, config=setup.config.model_copy(update=changes))

    async def results(self, turn: Turn) -> JsonObject:
        """The response object's `moderation`; a shield that fails is told there and fails nothing."""
        last = last_inference(turn)
        said = [last.message] if last is not None else []
        judged: dict[str, Violation | None] = {
            step.touchpoint: step.violation for step in turn.steps if isinstance(step, ShieldCallStep)
        }
        given, told = await gathered(
            [
                self._result(turn.input, judged, "input"),
                self._result([*turn.input, *said] if said else [], judged, "output"),
            ]
        )
        return {"input": given, "output": told}

    async def _result(
        self, messages: Sequence[Message], judged: Mapping[str, Violation | None], where: str
    ) -> JsonObject:
        """judged: what the shield has said already. Nothing that was said is nothing to object to."""
        message = messages[-1] if messages else AssistantMessage()
        violation: Violation | None = None
        if where in judged:
            violation = judged[where]
        elif messages:
            try:
                judging = judge_all if where == "input" else judge
                (verdict,) = await judging(self._safety, [self._wanted.shield], list(messages), self._caller)
            except StackError as error:
                return {"type": "error", "code": error.code, "message": error.message}
            violation = verdict.violation
        return {
            "type": "moderation_result",
            "model": self._wanted.shield,
            **encode_moderation_result(violation, message),
        }
