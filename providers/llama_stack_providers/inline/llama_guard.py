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
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal

from pydantic import Field

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.inference import Capabilities, ChatRequest, CompletionRequest, Inference, Sampling, collect
from llama_stack.api.messages import Message, SystemMessage, TextPart, UserMessage
from llama_stack.api.resources import Shield
from llama_stack.api.safety import Safety, ShieldVerdict, Violation
from llama_stack.errors import (
    ContextOverflow,
    InvalidRequest,
    NotFound,
    ProviderFailed,
    ProviderTimeout,
    UnsupportedParameter,
)
from llama_stack.provider import InferenceFloor, ProviderConfig, SafetyProvider
from llama_stack.wire.llama_prompts.families import LlamaFamily, family_for
from llama_stack.wire.llama_prompts.guard import (
    GUARD_CATEGORIES,
    GuardVerdict,
    guard_conversation,
    guard_role,
    guard_task,
    parse_guard_verdict,
    render_guard,
)
from llama_stack_providers.inline._shields.actions import LEVELS, Action, strength
from llama_stack_providers.inline._shields.layers import layered

logger = logging.getLogger(__name__)

Way = Literal["completion", "chat", "conversation"]

_UNTRAINED = {LlamaFamily.LLAMA_3_2: {"S14"}, LlamaFamily.LLAMA_3_2_VISION: {"S14"}}
_PER_CALL = frozenset({"excluded_categories", "actions", "unparsed", "images"})
_NOT_SERVED = frozenset({400, 404, 405, 422, 501})
"""What servers answer where they have no raw completions."""


class Config(ProviderConfig):
    """Each of these may also stand in a shield's `params`, for that shield alone."""

    prompt: Literal["auto", "completion", "chat", "conversation"] = Field(
        "auto", description="how the guard model is asked; auto: exact prompt where possible, else the conversation"
    )
    family: LlamaFamily | None = Field(None, description="whose tokens the exact prompt uses; default: by model name")
    categories: dict[str, str] | None = Field(
        None, description="codes and names the guard is asked about; default: the hazard categories of Llama Guard 3"
    )
    excluded_categories: list[str] = Field([], description="codes the guard is not asked about and that never count")
    actions: dict[str, Action] = Field(
        {}, description="what a category leads to, by code: allow, log, warn or block; default: block"
    )
    unparsed: Literal["block", "allow"] = Field(
        "block", description="what happens when the guard's answer is no verdict; block fails closed"
    )
    images: Literal["refuse", "skip"] = Field(
        "refuse", description="a judged message with an image the guard cannot see: an error, or judged by its text"
    )
    earlier_messages: int = Field(4, ge=0, description="how many messages before the judged one the guard is shown")
    user_message: str = Field(
        "The safety check does not allow this.", description="what a person is told; names of categories are added"
    )
    timeout_s: float = Field(60.0, gt=0, description="longest wait for a verdict")


class LlamaGuard:
    """Fulfils the Safety protocol with the guard models of the stack."""

    def __init__(self, config: Config, inference: Inference) -> None:
        self._config = config
        self._inference = inference
        self._no_completion: set[str] = set()

    async def run_shield(
        self, shield: Shield, messages: list[Message], caller: Caller, params: JsonObject | None = None
    ) -> ShieldVerdict:
        settings = layered(self._config, shield, params, per_call=_PER_CALL)
        asked = _Question(shield.provider_resource_id, messages, settings)
        try:
            async with asyncio.timeout(settings.timeout_s):
                verdict = await self._ask(asked, caller)
        except TimeoutError as error:
            raise ProviderTimeout(
                f"the guard model {asked.model!r} gave no verdict within {settings.timeout_s:g} s"
            ) from error
        except NotFound as error:
            raise ProviderFailed(
                f"the shield {shield.identifier!r} asks the guard model {asked.model!r}, which this stack does not "
                "have; give its provider_resource_id the identifier of a model"
            ) from error
        return _judged(asked, verdict)

    async def _ask(self, asked: "_Question", caller: Caller) -> GuardVerdict:
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

    def _way(self, asked: "_Question") -> Way:
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

    async def _asked_by(self, way: Way, asked: "_Question", caller: Caller) -> GuardVerdict:
        # A verdict is a word and a few codes; a model that writes more is no guard.
        sampling = Sampling(temperature=0, max_tokens=64)
        sees = way != "completion" and self._able(asked.model).vision
        messages = asked.judgeable(sees_images=sees)
        if way == "completion":
            prompt = render_guard(messages, asked.categories, family=asked.family).as_text()
            completion = CompletionRequest(model=asked.model, prompt=prompt, sampling=sampling, whole=True)
            answer = await collect(self._inference.complete(completion, caller))
        else:
            asks = [guard_task(messages, asked.categories)] if way == "chat" else guard_conversation(messages)
            chat = ChatRequest(model=asked.model, messages=asks, sampling=sampling, whole=True)
            answer = await collect(self._inference.stream_chat(chat, caller))
        return parse_guard_verdict(answer.text)


class _Question:
    """What a guard is asked about: the last message, a few before it, and the categories that count."""

    def __init__(self, model: str, messages: list[Message], settings: Config) -> None:
        self.model = model
        self.settings = settings
        self.family = settings.family or family_for(model) or LlamaFamily.LLAMA_3_1
        self.categories = _categories(settings, self.family)
        self.messages = _last_ones(messages, settings.earlier_messages)

    @property
    def role(self) -> str:
        return guard_role(self.messages[-1])

    @property
    def shows_images(self) -> bool:
        content = self.messages[-1].content
        return isinstance(content, list) and any(part.type == "image" for part in content)

    def alone(self) -> "_Question":
        return _Question(self.model, self.messages[-1:], self.settings)

    def judgeable(self, *, sees_images: bool) -> list[Message]:
        """The messages as the guard can be given them.

        Earlier messages are only context, so what it cannot see of them is left out. Raises UnsupportedParameter for
        a part of the judged message that it cannot see, unless settings say to skip it.
        """
        *earlier, judged = self.messages
        skips = self.settings.images == "skip"
        return [
            *(_seen(message, sees_images, skips=True) for message in earlier),
            _seen(judged, sees_images, skips=skips),
        ]


def _categories(settings: Config, family: LlamaFamily) -> Mapping[str, str]:
    known = settings.categories
    if known is None:
        untrained = _UNTRAINED.get(family, set())
        known = {code: name for code, name in GUARD_CATEGORIES.items() if code not in untrained}
    excluded = {code.upper() for code in settings.excluded_categories}
    return {code: name for code, name in known.items() if code.upper() not in excluded}


def _last_ones(messages: list[Message], earlier: int) -> list[Message]:
    """The judged message and those just before it; a system message that is to be judged counts as a user's."""
    if not messages:
        raise InvalidRequest("a shield needs at least one message to judge", param="messages")
    *before, last = messages
    judged = UserMessage(content=last.content) if isinstance(last, SystemMessage) else last
    context = [message for message in before if not isinstance(message, SystemMessage)]
    return [*(context[-earlier:] if earlier else []), judged]


def _seen(message: Message, sees_images: bool, *, skips: bool) -> Message:
    if not isinstance(message.content, list):
        return message
    seen = [part for part in message.content if isinstance(part, TextPart) or (sees_images and part.type == "image")]
    unseen = next((part for part in message.content if part not in seen), None)
    if unseen is None:
        return message
    if not skips:
        raise UnsupportedParameter(
            f"this guard cannot judge a part of type {unseen.type!r}; leave it out, use a guard model that reads it, "
            "or set the shield's param images to skip, and only the text is judged",
            param="messages",
        )
    return message.model_copy(update={"content": seen})


def _refuses_completion(error: ProviderFailed | UnsupportedParameter) -> bool:
    return isinstance(error, UnsupportedParameter) or error.upstream_status in _NOT_SERVED


def _judged(asked: _Question, verdict: GuardVerdict) -> ShieldVerdict:
    """The guard's word as ours. Codes that nobody asked about count, unless they are excluded: it saw something."""
    settings = asked.settings
    about: JsonObject = {"role": asked.role, "guard_model": asked.model}
    if verdict.state == "safe":
        return ShieldVerdict()
    if verdict.state == "unparsable":
        logger.warning("guard model %s gave no verdict; policy: %s", asked.model, settings.unparsed)
        if settings.unparsed == "allow":
            return ShieldVerdict()
        about |= {"violation_type": "unparsed", "action": "block", "guard_answer": verdict.text[:200]}
        return ShieldVerdict(
            violation=Violation(level=LEVELS["block"], user_message=settings.user_message, metadata=about)
        )
    excluded = {code.upper() for code in settings.excluded_categories}
    actions = {code.upper(): action for code, action in settings.actions.items()}
    counted = [code for code in verdict.categories if code not in excluded]
    if verdict.categories and not counted:
        return ShieldVerdict()
    found: dict[str, Action] = {code: actions.get(code, "block") for code in counted or ["unsafe"]}
    decisive = max(found, key=lambda code: strength(found[code]))
    action = found[decisive]
    if action == "allow":
        return ShieldVerdict()
    names = {code: asked.categories.get(code) or GUARD_CATEGORIES.get(code) or code for code in found}
    about |= {
        "violation_type": decisive,
        "category": names[decisive],
        "categories": names,
        "action": action,
    }
    told = settings.user_message if decisive == "unsafe" else f"{settings.user_message} ({', '.join(names.values())})"
    return ShieldVerdict(violation=Violation(level=LEVELS[action], user_message=told, metadata=about))


@asynccontextmanager
async def open_llama_guard(config: Config, floor: InferenceFloor) -> AsyncIterator[Safety]:
    yield LlamaGuard(config, floor.inference)


provider = SafetyProvider(
    summary="Llama Guard on any model of the stack: hazard categories, with an action for each",
    config=Config,
    open=open_llama_guard,
)
