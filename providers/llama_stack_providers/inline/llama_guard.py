"""Llama Guard: a guard model of the stack judges a message in the light of the conversation.

The shield's `provider_resource_id` is the identifier of the guard model. How it is asked depends on who serves it:

- `completion`: the exact prompt of the model card, continued as raw text. What the model was trained on.
- `conversation`: the messages themselves. For a server that lays the guard's template around them, as hosted
  Llama Guard endpoints do; its category list is then the template's own.
- `chat`: the text of the task as one user message, for a model that is no Llama Guard and follows instructions.
- `auto`: `completion` where the model's provider offers it, `conversation` where it does not or refuses to.

Llama Guard 3 was trained on English, French, German, Hindi, Italian, Portuguese, Spanish and Thai (its model card);
its verdict on any other language is a guess, and nothing here detects the language.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from llama_stack.api.answers import collect
from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.inference import Capabilities, ChatRequest, CompletionRequest, Inference, Sampling
from llama_stack.api.messages import Message
from llama_stack.api.resources import Shield
from llama_stack.api.safety import Safety, ShieldVerdict, Violation
from llama_stack.errors import ContextOverflow, NotFound, ProviderFailed, ProviderTimeout, UnsupportedParameter
from llama_stack.provider import InferenceFloor, SafetyProvider
from llama_stack.wire.llama_prompts.guard import (
    GUARD_CATEGORIES,
    GuardVerdict,
    guard_conversation,
    guard_task,
    parse_guard_verdict,
    render_guard,
)
from llama_stack_providers.inline._llama_guard.question import Question
from llama_stack_providers.inline._llama_guard.scoring import ALTERNATIVES, decided, unsafe_probability
from llama_stack_providers.inline._llama_guard.settings import PER_CALL, Config
from llama_stack_providers.inline._shields.actions import LEVELS, Action, strength
from llama_stack_providers.inline._shields.layers import layered

logger = logging.getLogger(__name__)

Way = Literal["completion", "chat", "conversation"]

_SAMPLING = Sampling(temperature=0, max_tokens=64)
"""A verdict is a word and a few codes; a model that writes more is no guard."""
_NOT_SERVED = frozenset({400, 404, 405, 422, 501})
"""What servers answer where they have no raw completions."""


class LlamaGuard:
    """Fulfils the Safety protocol with the guard models of the stack."""

    def __init__(self, config: Config, inference: Inference) -> None:
        self._config = config
        self._inference = inference
        self._no_completion: set[str] = set()

    async def run_shield(
        self, shield: Shield, messages: list[Message], caller: Caller, params: JsonObject | None = None
    ) -> ShieldVerdict:
        settings = layered(self._config, shield, params, per_call=PER_CALL)
        asked = Question.about(shield.provider_resource_id, messages, settings)
        try:
            async with asyncio.timeout(settings.timeout_s):
                return await self._judge(asked, caller)
        except TimeoutError as error:
            raise ProviderTimeout(
                f"the guard model {asked.model!r} gave no verdict within {settings.timeout_s:g} s"
            ) from error
        except NotFound as error:
            raise ProviderFailed(
                f"the shield {shield.identifier!r} asks the guard model {asked.model!r}, which this stack does not "
                "have; give its provider_resource_id the identifier of a model"
            ) from error

    async def check_shield(self, shield: Shield, caller: Caller) -> list[str]:
        layered(self._config, shield, None, per_call=PER_CALL)
        return [shield.provider_resource_id]

    async def _judge(self, asked: Question, caller: Caller) -> ShieldVerdict:
        """The strongest objection to any piece of the message; the first that blocks ends the search."""
        strongest = ShieldVerdict()
        for piece in asked.windows():
            verdict, score = await self._ask(piece, caller)
            judged = _judged(piece, decided(verdict, score, asked.settings.threshold), score)
            if _force(judged) > _force(strongest):
                strongest = judged
            if _force(strongest) == strength("block"):
                break
        return strongest

    async def _ask(self, asked: Question, caller: Caller) -> tuple[GuardVerdict, float | None]:
        """The guard's word; without the earlier messages where they do not fit its window."""
        way = self._way(asked)
        try:
            return await self._asked_by(way, asked, caller)
        except ContextOverflow:
            if len(asked.messages) == 1:
                raise
            return await self._asked_by(way, asked.alone(), caller)
        except (ProviderFailed, UnsupportedParameter) as error:
            if asked.settings.prompt != "auto" or way != "completion" or not _refuses_completion(error):
                raise
            verdict = await self._asked_by("conversation", asked, caller)
            self._no_completion.add(asked.model)
            return verdict

    def _way(self, asked: Question) -> Way:
        if asked.settings.prompt != "auto":
            return asked.settings.prompt
        if asked.model in self._no_completion or asked.shows_images:
            return "conversation"
        return "completion" if self._able(asked.model).completion else "conversation"

    def _able(self, model: str) -> Capabilities:
        """A model that only its caller has registered is not known before it is asked: the exact prompt is tried."""
        try:
            return self._inference.capabilities(model)
        except NotFound:
            return Capabilities(completion=True)

    async def _asked_by(self, way: Way, asked: Question, caller: Caller) -> tuple[GuardVerdict, float | None]:
        messages = asked.readable(sees_images=way != "completion" and self._able(asked.model).vision)
        scored = asked.settings.threshold is not None
        if way == "completion":
            completion = CompletionRequest(
                model=asked.model,
                prompt=render_guard(messages, asked.categories, family=asked.family).as_text(),
                sampling=_SAMPLING,
                logprobs=ALTERNATIVES if scored else None,
                whole=True,
            )
            answer = await collect(self._inference.complete(completion, caller))
        else:
            chat = ChatRequest(
                model=asked.model,
                messages=[guard_task(messages, asked.categories)] if way == "chat" else guard_conversation(messages),
                sampling=_SAMPLING,
                logprobs=scored,
                top_logprobs=ALTERNATIVES if scored else None,
                whole=True,
            )
            answer = await collect(self._inference.stream_chat(chat, caller))
        return parse_guard_verdict(answer.text, asked.categories), unsafe_probability(answer.choices[0].logprobs)


def _refuses_completion(error: ProviderFailed | UnsupportedParameter) -> bool:
    return isinstance(error, UnsupportedParameter) or error.upstream_status in _NOT_SERVED


def _force(verdict: ShieldVerdict) -> int:
    return 0 if verdict.violation is None else strength(verdict.violation.metadata["action"])


def _judged(asked: Question, verdict: GuardVerdict, score: float | None) -> ShieldVerdict:
    """The guard's word as ours. Codes that nobody asked about count, unless they are excluded: it saw something."""
    settings = asked.settings
    if verdict.state == "safe":
        return ShieldVerdict()
    about: JsonObject = {"role": asked.role, "guard_model": asked.model}
    if asked.window is not None:
        about |= {"start": asked.window[0], "end": asked.window[1]}
    if score is not None:
        about["score"] = round(score, 4)
    if verdict.state == "unparsable":
        logger.warning("guard model %s gave no verdict; policy: %s", asked.model, settings.unparsed)
        if settings.unparsed == "allow":
            return ShieldVerdict()
        about |= {"violation_type": "unparsed", "action": "block", "guard_answer": verdict.text[:200]}
        return _violation("block", settings.user_message, about)
    excluded = {code.upper() for code in settings.excluded_categories}
    counted = [code for code in verdict.categories if code not in excluded]
    if verdict.categories and not counted:
        return ShieldVerdict()
    actions = {code.upper(): action for code, action in settings.actions.items()}
    found: dict[str, Action] = {code: actions.get(code, "block") for code in counted or ["unsafe"]}
    decisive = max(found, key=lambda code: strength(found[code]))
    names = {code: asked.categories.get(code) or GUARD_CATEGORIES.get(code) or code for code in found}
    about |= {
        "violation_type": decisive,
        "category": names[decisive],
        "categories": names,
        "action": found[decisive],
    }
    told = settings.user_message if decisive == "unsafe" else f"{settings.user_message} ({', '.join(names.values())})"
    return _violation(found[decisive], told, about)


def _violation(action: Action, told: str, about: JsonObject) -> ShieldVerdict:
    if action == "allow":
        return ShieldVerdict()
    return ShieldVerdict(violation=Violation(level=LEVELS[action], user_message=told, metadata=about))


@asynccontextmanager
async def open_llama_guard(config: Config, floor: InferenceFloor) -> AsyncIterator[Safety]:
    yield LlamaGuard(config, floor.inference)


provider = SafetyProvider(
    summary="Llama Guard on any model of the stack: hazard categories, with an action for each",
    config=Config,
    open=open_llama_guard,
)
