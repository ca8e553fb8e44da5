"""Rules without a model: keywords, regular expressions, secrets and card numbers.

Two sets of rules are built in, `secrets` and `cards`; others stand in the config. What is searched is the text of the
last message and, decoded, the arguments of its tool calls. Regular expressions run on an automaton of our own in time
linear in the text, so none of them can be made to hang; what an automaton cannot do is refused (`_rules/linear.py`).
"""

import asyncio
import json
import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.messages import AssistantMessage, Message, TextPart, text_of
from llama_stack.api.resources import Shield
from llama_stack.api.safety import Safety, ShieldVerdict, Violation
from llama_stack.errors import InvalidRequest, ProviderTimeout
from llama_stack.provider import InferenceFloor, ProviderConfig, SafetyProvider
from llama_stack_providers.inline._rules.expression import BadPattern
from llama_stack_providers.inline._rules.keywords import find_keyword, keyword_key
from llama_stack_providers.inline._rules.linear import OutOfTime, linear_pattern
from llama_stack_providers.inline._rules.plain import PlainText, folded_text, plain_text
from llama_stack_providers.inline._rules.secrets import CARDS, SECRETS, SecretShape
from llama_stack_providers.inline._shields.actions import LEVELS, Action, strength
from llama_stack_providers.inline._shields.layers import layered

logger = logging.getLogger(__name__)

Span = tuple[int, int]

_PER_CALL = frozenset({"use", "actions"})
_BUILT_IN = {"secrets": SECRETS, "cards": CARDS}
_INLINE_WORK = 20_000
"""Characters times rules that are searched at once; more goes to a thread, so that the event loop does not wait."""
_MAX_MATCHES = 50
_MAX_PREPARED = 100
_JOINED = "content"
"""The place of a message's text as a whole."""
_UNESCAPED = "content, unescaped"
"""The same as a program reads it that takes it for JSON; places in it are its own."""
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")


class Rule(BaseModel):
    """One of `keywords` and `regex`. user_message: what a person is told; default: the provider's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    keywords: list[str] | None = Field(None, min_length=1, max_length=10_000)
    regex: str | None = Field(None, max_length=2000)
    case_sensitive: bool = False
    action: Action = "block"
    user_message: str | None = None

    @model_validator(mode="after")
    def _can_search(self) -> "Rule":
        if (self.keywords is None) == (self.regex is None):
            raise ValueError(f"the rule {self.name!r} needs keywords or regex, and not both")
        if self.regex is not None:
            try:
                linear_pattern(self.regex, ignore_case=not self.case_sensitive)
            except BadPattern as error:
                raise ValueError(f"the regex of the rule {self.name!r} {error}") from None
        elif self.case_sensitive:
            raise ValueError(f"the rule {self.name!r}: keywords ignore case; use regex where it matters")
        elif not all(keyword_key(keyword) for keyword in self.keywords or ()):
            raise ValueError(f"the rule {self.name!r} has an empty keyword")
        return self


class Config(ProviderConfig):
    """Each of these may also stand in a shield's `params`, for that shield alone."""

    rule_sets: dict[str, list[Rule]] = Field({}, description="sets of rules by name, beside `secrets` and `cards`")
    use: list[str] | None = Field(None, description="names of the sets that are looked at; default: all of them")
    rules: list[Rule] = Field([], description="further rules, whatever `use` says")
    actions: dict[str, Action] = Field(
        {}, description="by name of a rule or a set, what it leads to in place of its own action"
    )
    user_message: str = Field(
        "A rule of this service does not allow this.", description="what a person is told; the rule's name is added"
    )
    timeout_s: float = Field(10.0, gt=0, description="longest search; beyond it the message counts as not checked")

    @model_validator(mode="after")
    def _known_names(self) -> "Config":
        if taken := sorted(_BUILT_IN.keys() & self.rule_sets):
            raise ValueError(f"the set {taken[0]!r} is built in; give yours another name")
        known = {*_BUILT_IN, *self.rule_sets}
        for name in self.use or ():
            if name not in known:
                raise ValueError(f"use names the set {name!r}; there are: {', '.join(sorted(known))}")
        return self


@dataclass(frozen=True)
class _Search:
    """A rule as it is run. find: the first match in the original's characters, or None."""

    rule: str
    rule_set: str | None
    action: Action
    user_message: str | None
    find: Callable[["_Written", float], Span | None]


@dataclass(frozen=True)
class _Match:
    search: _Search
    place: str
    span: Span

    def described(self) -> JsonObject:
        """Where, never what: the text that matched may be a secret."""
        start, end = self.span
        return {
            "rule": self.search.rule,
            "rule_set": self.search.rule_set,
            "action": self.search.action,
            "place": self.place,
            "start": start,
            "end": end,
        }


class _Written:
    """One text of a message in the forms that searches want."""

    def __init__(self, place: str, text: str) -> None:
        self.place = place
        self.length = len(text)
        self._text = text
        self._plain: PlainText | None = None
        self._folded: PlainText | None = None

    @property
    def plain(self) -> PlainText:
        self._plain = self._plain or plain_text(self._text)
        return self._plain

    @property
    def folded(self) -> PlainText:
        self._folded = self._folded or folded_text(self._text)
        return self._folded


class Rules:
    """Fulfils the Safety protocol with the rules of its config."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._prepared: dict[str, tuple[Config, list[_Search]]] = {}

    async def run_shield(
        self, shield: Shield, messages: list[Message], caller: Caller, params: JsonObject | None = None
    ) -> ShieldVerdict:
        settings, searches = self._prepare(shield, params)
        if not messages:
            raise InvalidRequest("a shield needs at least one message to judge", param="messages")
        written = [_Written(place, text) for place, text in _texts(messages[-1]) if text]
        deadline = time.monotonic() + settings.timeout_s
        work = sum(text.length for text in written) * len(searches)
        given_up = threading.Event()
        try:
            if work <= _INLINE_WORK:
                matches = _matches(searches, written, deadline, given_up)
            else:
                matches = await asyncio.to_thread(_matches, searches, written, deadline, given_up)
        except OutOfTime as error:
            raise ProviderTimeout(
                f"the rules of the shield {shield.identifier!r} could not be checked within {settings.timeout_s:g} s; "
                "send less text, or raise timeout_s"
            ) from error
        finally:
            given_up.set()
        return _verdict(settings, matches, messages[-1].role)

    async def check_shield(self, shield: Shield, caller: Caller) -> list[str]:
        self._prepare(shield, None)
        return []

    def _prepare(self, shield: Shield, params: JsonObject | None) -> tuple[Config, list[_Search]]:
        """The settings of a run and what they search for; long lists of keywords are made ready once."""
        key = json.dumps([shield.params, {name: (params or {}).get(name) for name in sorted(_PER_CALL)}], default=str)
        prepared = self._prepared.get(key)
        if prepared is None:
            settings = layered(self._config, shield, params, per_call=_PER_CALL)
            prepared = settings, list(_searches(settings))
            if len(self._prepared) >= _MAX_PREPARED:
                self._prepared.clear()
            self._prepared[key] = prepared
        return prepared


def _texts(message: Message) -> Iterator[tuple[str, str]]:
    """Each text of the message with its place in it."""
    if isinstance(message.content, str):
        yield _JOINED, message.content
    for number, part in enumerate(message.content if isinstance(message.content, list) else ()):
        if isinstance(part, TextPart):
            yield f"content[{number}]", part.text
    if isinstance(message.content, list) and len(message.content) > 1:
        yield _JOINED, text_of(message.content)  # as a model reads it: what no part holds may stand across them
    if "\\u" in (whole := text_of(message.content)):
        yield _UNESCAPED, _ESCAPES.sub(lambda escapes: str(json.loads(f'"{escapes[0]}"')), whole)
    if isinstance(message, AssistantMessage):
        yield "refusal", message.refusal or ""
        yield "reasoning", message.reasoning or ""
        for number, call in enumerate(message.tool_calls):
            yield from _texts_of_arguments(call.arguments, f"tool_calls[{number}].arguments")


def _texts_of_arguments(arguments: str, place: str) -> Iterator[tuple[str, str]]:
    """Each text inside the JSON, whose escapes would hide a word, then the whole, which shows names beside values."""
    try:
        waiting: list[tuple[str, Any]] = [(place, json.loads(arguments))]
    except (ValueError, RecursionError):
        waiting = []
    while waiting:
        here, value = waiting.pop()
        if isinstance(value, dict):
            yield from ((here, name) for name in value)
            waiting.extend((f"{here}.{name}", inner) for name, inner in value.items())
        elif isinstance(value, list):
            waiting.extend((f"{here}[{number}]", inner) for number, inner in enumerate(value))
        elif isinstance(value, str):
            yield here, value
    yield place, arguments


def _searches(settings: Config) -> Iterator[_Search]:
    """Every rule that is to be run, with the action it has here; those that are allowed are not run."""
    names = settings.use if settings.use is not None else [*_BUILT_IN, *settings.rule_sets]
    for name in dict.fromkeys(names):
        for kind, shape in _BUILT_IN.get(name, {}).items():
            action = settings.actions.get(kind) or settings.actions.get(name) or "block"
            if action != "allow":
                yield _Search(kind, name, action, None, _finds_shape(shape))
        yield from _own_searches(settings.rule_sets.get(name, []), name, settings)
    yield from _own_searches(settings.rules, None, settings)


def _own_searches(rules: Iterable[Rule], rule_set: str | None, settings: Config) -> Iterator[_Search]:
    for rule in rules:
        action = settings.actions.get(rule.name) or settings.actions.get(rule_set or "") or rule.action
        if action != "allow":
            yield _Search(rule.name, rule_set, action, rule.user_message, _finds(rule))


def _finds_shape(shape: SecretShape) -> Callable[[_Written, float], Span | None]:
    def find(written: _Written, deadline: float) -> Span | None:
        span = shape.find(written.plain.text, deadline)
        return None if span is None else written.plain.span(*span)

    return find


def _finds(rule: Rule) -> Callable[[_Written, float], Span | None]:
    if rule.regex is not None:
        pattern = linear_pattern(rule.regex, ignore_case=not rule.case_sensitive)

        def find_pattern(written: _Written, deadline: float) -> Span | None:
            span = pattern.search(written.plain.text, deadline)
            return None if span is None else written.plain.span(*span)

        return find_pattern
    keys = [keyword_key(keyword) for keyword in rule.keywords or ()]

    def find_keywords(written: _Written, deadline: float) -> Span | None:
        return next((span for key in keys if (span := find_keyword(key, written.folded)) is not None), None)

    return find_keywords


def _matches(
    searches: list[_Search], written: list[_Written], deadline: float, given_up: threading.Event
) -> list[_Match]:
    """The first match of every rule in every text. Raises OutOfTime at the deadline, or once nobody waits any more."""
    found: list[_Match] = []
    for text in written:
        for search in searches:
            if given_up.is_set() or time.monotonic() > deadline:
                raise OutOfTime
            if text.place in (_JOINED, _UNESCAPED) and any(match.search is search for match in found):
                continue
            span = search.find(text, deadline)
            if span is not None:
                found.append(_Match(search, text.place, span))
    return found


def _verdict(
    settings: Config, matches: list[_Match], role: Literal["system", "user", "assistant", "tool"]
) -> ShieldVerdict:
    if not matches:
        return ShieldVerdict()
    decisive = max(matches, key=lambda match: strength(match.search.action)).search
    logger.info("rules matched: %s", ", ".join(sorted({match.search.rule for match in matches})))
    first = next(match for match in matches if match.search is decisive)
    metadata: JsonObject = {
        "violation_type": decisive.rule,
        **first.described(),
        "role": role,
        "matches": [match.described() for match in matches[:_MAX_MATCHES]],
    }
    told = decisive.user_message or f"{settings.user_message} ({decisive.rule})"
    return ShieldVerdict(violation=Violation(level=LEVELS[decisive.action], user_message=told, metadata=metadata))


@asynccontextmanager
async def open_rules(config: Config, floor: InferenceFloor) -> AsyncIterator[Safety]:
    yield Rules(config)


provider = SafetyProvider(
    summary="Keywords, regular expressions, secrets and card numbers, without a model",
    config=Config,
    open=open_rules,
)
